"""Known wrong answers to the exercises of `chapters/practice/reading_attention`."""

from .. import Mistake

MISTAKES = {
    "reading_attention.residual": (
        Mistake("residual path alone", "This is only the part from the residual path. With uniform "
                "attention the class token also gets something from itself.",
                "Add the attended part: (1 - 1/64) / 65.", swap={" + (1 - 1 / 64) / 65": ""}),
        Mistake("attention alone", "This is uniform attention without the residual path. Half of "
                "each token passes every block unchanged.", "1/64 of the token always stayed on "
                "the residual path: add it to (1 - 1/64) / 65.", answer=100 / 65),
        Mistake("path by path", "You counted only what stays in the class token in each block. "
                "Parts of it can also leave and come back.", "What was mixed uniformly once stays "
                "uniform: 1/64 + (1 - 1/64) / 65.", answer=100 * (0.5 + 0.5 / 65) ** 6),
        Mistake("as a share", "Right, as a share between 0 and 1. We asked for percent.",
                "Multiply by 100.", swap={"100 * ": ""}),
        Mistake("both in full", "The two paths share one token: 1/64 of it took the residual path, "
                "so only the rest was mixed.", "Multiply the second part by 1 - 1/64.",
                swap={"(1 - 1 / 64)": "1"}),
        Mistake("64 tokens", "How many tokens are mixed? The class token is one of them.",
                "Divide by 65: 64 patches and the class token.", swap={"/ 65": "/ 64"})),
    "reading_attention.rollout": (
        Mistake("rows not normalised", "The rows of your matrices do not sum to 1, so the product "
                "grows with each block.", "After adding the identity, divide each row by its own "
                "sum.", swap={" / mixed.sum(dim=-1, keepdim=True)": ""}),
        Mistake("halved", "Dividing by 2 is right if each row of attention sums to 1. Here some "
                "entries are missing.", "Divide each row by its own sum, mixed.sum(dim=-1, "
                "keepdim=True).", swap={"mixed.sum(dim=-1, keepdim=True)": "2"}),
        Mistake("keepdim forgotten", "You divide entry (i, j) by the sum of row j, because a "
                "vector is broadcast along the last dimension. A well-known script has this bug.",
                "Keep the summed dimension: keepdim=True.", swap={", keepdim=True": ""}),
        Mistake("identity left out", "Each block adds something to its input. Where is the input?",
                "Add torch.eye(N) to the mean attention before you normalise.",
                swap={" + identity": ""}),
        Mistake("backwards", "Your product starts at the last block. The rows of the result should "
                "belong to the last tokens, the columns to the first.", "Start with the first "
                "block and multiply from the left: flow = step @ flow.",
                swap={"in maps": "in reversed(maps)"}),
        Mistake("columns", "Your columns sum to 1. But row i says from what token i is made.",
                "Sum over the last dimension, not the first.", swap={"dim=-1": "dim=0"}),
        Mistake("normalised too early", "You normalised the attention, then added the identity. "
                "Then the missing entries of a row have no effect.",
                "Add the identity first, then divide each row by its own sum.",
                swap={"block.mean(dim=0) + identity":
                      "block.mean(dim=0) / block.mean(dim=0).sum(-1, True) + identity"})),
    "reading_attention.patches": (
        Mistake("class token kept", "Your map is shifted by one patch: its first cell is the class "
                "token.", "Leave out entry 0 before you make a grid of the row: flow[0, 1:].",
                swap={"1:]": ":-1]"}),
        Mistake("divided before", "These are the right cells, but they do not sum to 1: the class "
                "token's own entry is missing in the sum.", "Drop this entry, then divide by the "
                "sum of the others.", swap={"(row / row.sum())": "row"}),
        Mistake("column for row", "This is how much of the class token went into every patch. We "
                "asked for the opposite: what is in the class token?", "Take row 0, not column 0.",
                swap={"[0, 1:]": "[1:, 0]"}),
        Mistake("all rows", "You averaged over all tokens. The classifier reads only one.",
                "Take only row 0.", swap={"[0, 1:]": ".mean(dim=0)[1:]"}),
        Mistake("transposed", "Rows and columns are swapped: patches are counted row by row.",
                "view(side, side) without a transpose.",
                swap={"view(side, side)": "view(side, side).T"}),
        Mistake("by the maximum", "This map has maximum 1. But shares sum to 1.",
                "Divide by row.sum(), not row.max().", swap={"row.sum()": "row.max()"})),
    "reading_attention.relevance": (
        Mistake("mean before clamp", "You averaged the heads first, so negative values of one head "
                "cancel positive values of another.", "Clamp each head at 0, then take the mean.",
                swap={".clamp(min=0).mean(dim=0)": ".mean(dim=0).clamp(min=0)"}),
        Mistake("not clamped", "There are still negative values, evidence against the class.",
                "Keep only positive entries: clamp(min=0).", swap={".clamp(min=0)": ""}),
        Mistake("absolute values", "You count evidence against the class as evidence for it.",
                "clamp(min=0) instead of abs().", swap={"clamp(min=0)": "abs()"}),
        Mistake("identity left out", "A block adds something to its input, and so does its "
                "relevance.", "Return flow + ... @ flow.", swap={"flow + ": ""}),
        Mistake("from the other side", "The order of the product is wrong: the block's rows are "
                "later tokens, its columns belong to the rows of flow.",
                "The block comes first: (...) @ flow.", swap={" @ flow": "", "+ ": "+ flow @ "}),
        Mistake("heads added", "The heads are added. The rule takes their mean.", "Use "
                "mean(dim=0).", swap={"mean": "sum"}),
        Mistake("gradient alone", "This is only the gradient: what would happen if a token looked "
                "there. But does it look there?", "Multiply the gradient by the attention, entry "
                "by entry.", swap={"weights * ": ""})),
    "reading_attention.energy": (
        Mistake("map upsampled before masking", "You enlarged the map by interpolation, and that "
                "moves weight across the object's border.", "Reduce the mask to patches instead: "
                "what share of each patch does it cover (adaptive_avg_pool2d)?",
                swap={"mass * covered": "mass * mask",
                      "patch_map.clamp(min=0)":
                      "F.interpolate(patch_map.relu()[None, None], mask.shape, mode='bilinear')"}),
        Mistake("any pixel", "You count a patch completely if a single pixel of the object lies in "
                "it.", "Weight each patch by the share that the object covers: the mean of the "
                "mask, not its maximum.", swap={"avg_pool": "max_pool"}),
        Mistake("most pixels", "You count a patch completely or not at all. But the border cuts "
                "through patches.", "Use the share of each patch that the object covers.",
                swap={"shape)[0]": "shape)[0] > 0.5"}),
        Mistake("negative too", "There are negative entries in your sums. We asked for the "
                "positive mass.", "First use clamp(min=0), above and below the line.",
                swap={".clamp(min=0)": ""}),
        Mistake("of the mask", "You divided by the object's area: that is the mean of the map on "
                "the object.", "Divide by the total positive mass of the map.",
                swap={"/ mass.sum()": "/ covered.sum()"}),
        Mistake("not divided", "This is the mass on the object. What share of the total mass is "
                "it?", "Divide by the sum of the map's positive part.", swap={" / mass.sum()": ""}),
        Mistake("absolute values", "You count negative values as if they were positive.",
                "clamp(min=0) instead of abs().", swap={"clamp(min=0)": "abs()"}),
        Mistake("first pixel", "You looked at the first pixel of each patch. But the border cuts "
                "through patches.", "Weight each patch by the share that the object covers: the "
                "mean over its pixels.", swap={"pool(mask[None].float(), patch_map.shape)[0]":
                "F.interpolate(mask[None, None].float(), patch_map.shape)[0, 0]"}),
        Mistake("middle pixel", "You looked at the middle pixel of each patch. But the border cuts "
                "through patches.", "Weight each patch by the share that the object covers: the "
                "mean over its pixels.", swap={"pool(mask[None].float(), patch_map.shape)[0]":
                "F.interpolate(mask[None, None].float(), patch_map.shape, "
                "mode='nearest-exact')[0, 0]"})),
    "reading_attention.report": (
        Mistake("no better than the centre", "A hill in the centre, made without model and "
                "picture, is as good by this measure.", "Compare with the "
                "upper end of the best of edges, centre and random.",
                answer=("rollout", "pointing")),
        Mistake("no better than edges", "The edges of the picture, made without the "
                "model, are as good by this measure.", "Compare with the upper end of the edges' "
                "interval, too; by IoU no map is above it.", answer=("rollout", "iou")),
        Mistake("not about the class", "It is better than all maps without a model, but it does "
                "not depend on the classifier: it cannot show why this class was chosen.", "Look "
                "at the column head: attention and rollout have 1.00.",
                answer=("attention, block 1", "energy"))),
}

RUBRICS = {
    "reading_attention.tumour": (
        (1, "says that the maps show what the answer is sensitive to or where the model looks, not "
            "that the answer is right: accuracy needs its own test pictures"),
        (1, "asks for maps without a model (centre, edges, chance): tumours may often lie in the "
            "middle or have the most detail"),
        (1, "asks for a model with random weights: a map that does not change shows the picture "
            "and not what was learned"),
        (1, "asks for pictures without a tumour, or of another class, or with the tumour covered: "
            "does the map, and the answer, change?")),
}
