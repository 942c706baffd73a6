"""Known wrong answers to the exercises of `chapters/practice/reading_attention`."""

from .. import Mistake

MISTAKES = {
    "reading_attention.residual": (
        Mistake("residual path alone", "This is what comes down the residual path alone. Uniform "
                "attention hands the class token something of itself, too.",
                "Add the attended part: (1 - 1/64) / 65.", swap={" + (1 - 1 / 64) / 65": ""}),
        Mistake("attention alone", "This is uniform attention without the residual path. Half of "
                "each token passes every block untouched.",
                "Add 1/64 of the token, that never left it, to (1 - 1/64) / 65.", answer=100 / 65),
        Mistake("path by path", "You followed the token that stays itself in each block. It can "
                "also leave and come back.", "What has once been mixed uniformly stays uniform: "
                "1/64 + (1 - 1/64) / 65.", answer=100 * (0.5 + 0.5 / 65) ** 6),
        Mistake("as a share", "Right, as a share between 0 and 1. We asked for percent.",
                "Multiply by 100.", swap={"100 * ": ""}),
        Mistake("both in full", "The two paths share one token: 1/64 of it went down the one, so "
                "the rest went down the other.", "Weigh the second by 1 - 1/64.",
                swap={"(1 - 1 / 64)": "1"}),
        Mistake("64 tokens", "How many tokens share what is mixed? The class token is one of them.",
                "Divide by 65: 64 patches and the class token.", swap={"/ 65": "/ 64"})),
    "reading_attention.rollout": (
        Mistake("rows not normalised", "Rows of your steps do not sum to 1, so the product grows "
                "with each block.", "After adding the identity, divide each row by its own sum.",
                swap={" / mixed.sum(dim=-1, keepdim=True)": ""}),
        Mistake("halved", "Dividing by 2 is right where each row of attention sums to 1. These "
                "have lost entries.", "Divide each row by its own sum, mixed.sum(dim=-1, "
                "keepdim=True), whatever that is.", swap={"mixed.sum(dim=-1, keepdim=True)": "2"}),
        Mistake("keepdim forgotten", "You divide entry (i, j) by the sum of row j: a vector is "
                "laid along the last dimension. A well-known script does just that.",
                "Keep the summed dimension: keepdim=True.", swap={", keepdim=True": ""}),
        Mistake("identity left out", "Each block adds to what came in. Where is what came in?",
                "Add torch.eye(N) to the fused attention before you normalise.",
                swap={" + identity": ""}),
        Mistake("backwards", "Your product starts at the last block. Rows of the result should "
                "belong to the last tokens, columns to the first.", "Multiply from the left as you "
                "go up: flow = step @ flow.", swap={"in maps": "in reversed(maps)"}),
        Mistake("columns", "You made the columns sum to 1. Row i says of what token i is made.",
                "Sum over the last dimension, not the first.", swap={"dim=-1": "dim=0"}),
        Mistake("normalised too early", "You normalised the attention, then added the identity. "
                "What entries a row has lost then no longer counts against it.",
                "Add the identity first, then divide each row by its own sum.",
                swap={"block.mean(dim=0) + identity":
                      "block.mean(dim=0) / block.mean(dim=0).sum(-1, True) + identity"})),
    "reading_attention.patches": (
        Mistake("class token kept", "Your map is shifted by one patch: its first cell is the class "
                "token.", "Leave out entry 0 before you cut the row into lines: flow[0, 1:].",
                swap={"1:]": ":-1]"}),
        Mistake("divided before", "The right cells, but they do not sum to 1: the class token's "
                "own entry still has its share.", "Drop it first, then divide by the sum of what "
                "is left.", swap={"(row / row.sum())": "row"}),
        Mistake("column for row", "This is how much of the class token every patch got. We asked "
                "the other way round: what is in the class token?", "Take row 0, not column 0.",
                swap={"[0, 1:]": "[1:, 0]"}),
        Mistake("all rows", "You averaged over all tokens. The classifier reads only one.",
                "Take row 0 alone.", swap={"[0, 1:]": ".mean(dim=0)[1:]"}),
        Mistake("transposed", "Rows and columns are swapped: patches are counted line by line.",
                "view(side, side) without a transpose.",
                swap={"view(side, side)": "view(side, side).T"}),
        Mistake("by the maximum", "This is a map with maximum 1. Shares sum to 1.",
                "Divide by row.sum(), not row.max().", swap={"row.sum()": "row.max()"})),
    "reading_attention.relevance": (
        Mistake("mean before clamp", "You averaged the heads first, so one head's evidence against "
                "the class cancels another's for it.", "Clamp each head at 0, then take the mean.",
                swap={".clamp(min=0).mean(dim=0)": ".mean(dim=0).clamp(min=0)"}),
        Mistake("not clamped", "What speaks against the class is still in it.",
                "Keep positive entries only: clamp(min=0).", swap={".clamp(min=0)": ""}),
        Mistake("absolute values", "You count evidence against the class as evidence for it.",
                "clamp(min=0) instead of abs().", swap={"clamp(min=0)": "abs()"}),
        Mistake("identity left out", "A block adds to what came in, and so does its relevance.",
                "flow + ... @ flow.", swap={"flow + ": ""}),
        Mistake("from the other side", "The product is the wrong way round: the block's rows are "
                "later tokens, its columns meet the rows of what was found so far.",
                "(...) @ flow.", swap={" @ flow": "", "+ ": "+ flow @ "}),
        Mistake("heads added", "The heads are added. The rule takes their mean.", "mean(dim=0).",
                swap={"mean": "sum"}),
        Mistake("gradient alone", "This is the gradient alone: what would happen if a token looked "
                "there. Did it look?", "Multiply the gradient by the attention, entry by entry.",
                swap={"weights * ": ""})),
    "reading_attention.energy": (
        Mistake("map upsampled before masking", "You blew the map up smoothly, and that smears "
                "weight over the object's border: resolution that the map never had.",
                "Bring the mask down to the patches instead: what share of each patch it covers "
                "(adaptive_avg_pool2d).",
                swap={"mass * covered": "mass * mask",
                      "patch_map.clamp(min=0)":
                      "F.interpolate(patch_map.relu()[None, None], mask.shape, mode='bilinear')"}),
        Mistake("any pixel", "You count a patch in full when a single pixel of the object lies in "
                "it.", "Weigh each patch by the share that the object covers: the mean of the "
                "mask, not its maximum.", swap={"avg_pool": "max_pool"}),
        Mistake("most pixels", "You count a patch in full or not at all. The border cuts through "
                "patches.", "Weigh each patch by the share that the object covers.",
                swap={"shape)[0]": "shape)[0] > 0.5"}),
        Mistake("negative too", "Negative entries are in your sums. The positive mass was asked "
                "for.", "clamp(min=0) first, above and below the line.",
                swap={".clamp(min=0)": ""}),
        Mistake("of the mask", "You divided by the object's area: that is the mean of the map on "
                "the object.", "Divide by the whole positive mass of the map.",
                swap={"/ mass.sum()": "/ covered.sum()"}),
        Mistake("not divided", "This is the mass on the object. Which share of all is it?",
                "Divide by the sum of the map's positive part.", swap={" / mass.sum()": ""}),
        Mistake("absolute values", "You count what is negative as if it were positive.",
                "clamp(min=0) instead of abs().", swap={"clamp(min=0)": "abs()"}),
        Mistake("first pixel", "You asked one pixel of each patch. The border cuts through "
                "patches.", "Weigh each patch by the share that the object covers: the mean over "
                "its pixels.", swap={"pool(mask[None].float(), patch_map.shape)[0]":
                "F.interpolate(mask[None, None].float(), patch_map.shape)[0, 0]"}),
        Mistake("middle pixel", "You asked the pixel in the middle of each patch. The border cuts "
                "through patches.", "Weigh each patch by the share that the object covers: the "
                "mean over its pixels.", swap={"pool(mask[None].float(), patch_map.shape)[0]":
                "F.interpolate(mask[None, None].float(), patch_map.shape, "
                "mode='nearest-exact')[0, 0]"})),
    "reading_attention.report": (
        Mistake("no better than the centre", "A hill in the centre of the picture, which has seen "
                "neither model nor picture, does as well by this measure.", "Compare with the "
                "upper end of the best of edges, centre and random.",
                answer=("rollout", "pointing")),
        Mistake("no better than edges", "The edges of the picture, which have never seen the "
                "model, do as well by this measure.", "Compare with the upper end of the edges' "
                "interval, too; by IoU no map lies beyond it.", answer=("rollout", "iou")),
        Mistake("not about the class", "It lies beyond all that knows nothing, and it is the same "
                "map whatever the classifier says: it cannot show why this class was chosen.",
                "Look at the column head: attention and rollout stand at 1.00.",
                answer=("attention, block 1", "energy"))),
}

RUBRICS = {
    "reading_attention.tumour": (
        (1, "says that the maps show where the answer is sensitive or what is attended to, not "
            "that the answer is right: accuracy needs test pictures of its own"),
        (1, "asks for maps that know nothing (centre, edges, chance): tumours may stand in the "
            "middle or be the busiest spot"),
        (1, "asks for a model with fresh weights, or weights drawn anew: a map that stays shows "
            "the picture and not what was learned"),
        (1, "asks for pictures without a tumour, or of another class, or with the tumour covered: "
            "does the map, and the answer, change?")),
}
