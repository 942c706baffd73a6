"""Known wrong answers to the exercises of `chapters/compression/low_rank`."""

from .. import Mistake

MISTAKES = {
    "low_rank.break_even": (
        Mistake("full rank", "At this rank one of the two thin layers is as large as the whole "
                "layer was, and the other comes on top.",
                "Both count: rank * (192 + 768) against 192 * 768.", answer=192),
        Mistake("rounded up", "Just beyond: 154 * 960 is more than 192 * 768.", "Round down.",
                swap={"int(": "math.ceil("}),
        Mistake("not rounded", "There the two break even. A rank is a whole number.",
                "The largest whole number below it.", swap={"int(": "("}),
        Mistake("square", "Half of the full rank is the break-even of a square matrix. This one is "
                "four times as wide as high.", "192 * 768 / (192 + 768).", answer=192 // 2),
        Mistake("harmonic mean", "This is the harmonic mean of the two widths, twice what we look "
                "for, and more than the matrix has.", "m n / (m + n), without the factor 2.",
                swap={"192 * 768": "2 * 192 * 768"})),
    "low_rank.factors": (
        Mistake("singular values forgotten", "Your layers turn and turn back, but nothing "
                "stretches: the singular values are missing.", "Multiply the rows of one factor by "
                "values[:rank].", swap={"values[:rank, None] * ": ""}),
        Mistake("singular values twice", "The singular values count twice, in both of your layers "
                "or squared in one: large directions come out far too large.", "Give them to one "
                "layer, as they are, or their roots to both.",
                swap={"left[:, :rank]": "left[:, :rank] * values[:rank]"}),
        Mistake("the smallest", "You kept the smallest singular values: the worst layer of this "
                "rank, not the best.", "torch sorts them with the largest first: [:rank].",
                swap={":rank": "-rank:"}),
        Mistake("not transposed", "You took columns of Vh. torch.linalg.svd gives the transposed "
                "matrix, whose rows are the directions in the input.", "The first layer is made of "
                "Vh[:rank].", swap={"right[:rank]": "right[:, :rank].T"}),
        Mistake("bias dropped", "The weights are right. Where is the bias?",
                "The second layer has it, as it was.", swap={"second, bias": "second, 0 * bias"}),
        Mistake("bias in the middle", "Your bias went through the second layer, which has only "
                "`rank` directions left for it.", "Leave it out of the first layer; the second one "
                "adds it, whole.", swap={"second, bias": "second, second @ second.T @ bias"}),
        Mistake("nothing left out", "The layer is the same as before, at the full rank.",
                "Keep `rank` rows of one factor and as many columns of the other.",
                swap={":rank": ":"}),
        Mistake("swapped", "The layers have changed places.", "The first has shape (rank, in), the "
                "second (out, rank).", swap={"return first, second": "return second, first"}),
        Mistake("both transposed", "Both of your layers are transposed. A weight of PyTorch is "
                "(out, in).", "first.T and second.T, as you have them now: (rank, in) and (out, "
                "rank).", swap={"first, second,": "first.T, second.T,"}),
        Mistake("two results", "Three things are asked for: two weights, and the bias of the "
                "second.", "return first, second, bias", swap={"second, bias": "second"})),
    "low_rank.energy": (
        Mistake("not squared", "You summed the singular values. Energy is the sum of their "
                "squares, since the error is one, too.", "values.square() first.",
                swap={".square()": ""}),
        Mistake("one short", "One too few: what you keep stays below the share.",
                "Count the ranks that are not yet enough, and take one more.", swap={" + 1": ""}),
        Mistake("share of the count", "This is a share of the number of singular values. The first "
                "ones hold far more than their share.", "Compare the running sum of squares with "
                "its total.", body="return math.ceil(energy * len(singular_values))"),
        Mistake("share of the length", "You compared the root of the energy. That is the share of "
                "the norm.", "No root: sum of squares over sum of squares.",
                swap={"kept <": "kept.sqrt() <"}),
        Mistake("from below", "You began with the smallest.", "They come with the largest first; "
                "leave the order.", swap={".square()": ".flip(0).square()"}),
        Mistake("by size", "You kept what is not much smaller than the largest one. Many small "
                "ones may hold much together.", "Sum up.",
                swap={"kept < energy": "singular_values >= (1 - energy) * singular_values[0]",
                      " + 1": ""}),
        Mistake("what goes", "This is how many are left out.", "How many stay?",
                swap={"kept <": "kept >=", "+ 1": "- 1"})),
    "low_rank.whitened": (
        Mistake("plain", "This is the best approximation of the weight. For inputs that favour "
                "some directions it is not the best for the output.",
                "Decompose weight @ root in place of weight.",
                swap={"weight @ root": "weight", " @ torch.linalg.inv(root)": ""}),
        Mistake("not undone", "This expects inputs that were whitened before. Ours come as they "
                "are.", "Multiply by the inverse of the root on the same side.",
                swap={" @ torch.linalg.inv(root)": ""}),
        Mistake("moment for its root", "You weighed the directions by the second moment itself. "
                "The error is a square, and the moment is one, too.", "Take a root of it: root @ "
                "root.T = moment.", swap={"torch.linalg.cholesky(moment)": "moment"}),
        Mistake("the wrong way round", "You divided by the root first and multiplied afterwards: "
                "directions that never occur count most.",
                "weight @ root, and the inverse afterwards.",
                swap={"(moment)": "(moment).inverse()"}),
        Mistake("root transposed", "Your root is transposed: root @ root.T is not the moment "
                "then.", "torch.linalg.cholesky gives the lower root, with root @ root.T = moment: "
                "take it as it is.", swap={"(moment)": "(moment).T"}),
        Mistake("diagonal", "You weighed each input by its size. Inputs move together, and that "
                "stands beside the diagonal.", "The whole root, torch.linalg.cholesky(moment).",
                swap={"torch.linalg.cholesky(moment)": "moment.diagonal().sqrt().diag()"}),
        Mistake("wrong side", "The root meets the outputs' side of the weight. It belongs to the "
                "inputs.", "A weight is (out, in): weight @ root.",
                swap={"weight @ root": "root @ weight"})),
    "low_rank.segments": (
        Mistake("class token averaged in", "The class token disappears in the first segment. It "
                "holds what the head will read.", "Leave keys[:, :, :1] as it is; average the "
                "others.", body="return keys.unflatten(2, (rank, -1)).mean(dim=3)"),
        Mistake("strided", "Your segments take every so many tokens from all over the picture. "
                "Neighbours are alike.", "unflatten(2, (rank - 1, -1)), then the mean over "
                "dimension 3.", swap={"(rank - 1, -1)": "(-1, rank - 1)", "dim=3": "dim=2"}),
        Mistake("summed", "Sums grow with the segments, and so would the logits.", "mean, not sum.",
                swap={".mean(": ".sum("}),
        Mistake("picked", "You took one token of each segment. The others are to be heard, too.",
                "The mean over the segment.", swap={"image.mean(dim=3)": "image[:, :, :, 0]"}),
        Mistake("class token dropped", "The class token is missing: one segment too few.",
                "torch.cat it in front of the means.", swap={"keys[:, :, :1], ": ""}),
        Mistake("class token last", "The class token came out last.", "In front, as it came in.",
                swap={"keys[:, :, :1], image.mean(dim=3)": "image.mean(dim=3), keys[:, :, :1]"})),
    "low_rank.budget": (
        Mistake("as a share", "This is the share that goes. By what factor is the whole then "
                "smaller?", "The whole, divided by what is left.",
                swap={"(linear + products) / linear": "products / (linear + products)"}),
        Mistake("upside down", "This is what is left, as a share.", "Its inverse.",
                swap={"(linear + products) / linear": "linear / (linear + products)"}),
        Mistake("maps to queries, keys and values, too", "You let the four linear maps of "
                "attention go, too. Linear attention keeps them.", "Only 2 N^2 d goes.",
                swap={"/ linear": "/ (8 * tokens * dim**2)"}),
        Mistake("one product", "There are two products: queries with keys, weights with values.",
                "2 N^2 d.", swap={"/ linear": "/ (linear + products / 2)"}),
        Mistake("MLP forgotten", "Your block has no MLP, which is most of it.",
                "4 N d^2 + 8 N d^2 stay.", swap={"12 *": "4 *"}),
        Mistake("class token forgotten", "This is the gain with 64 tokens. The class token is one "
                "of the N = 65.", "1 + N / (6 d), with N = 65.", swap={"65": "64"})),
    "low_rank.allocate": (
        Mistake("equal ranks", "You gave all layers the same rank. Layers with a steep spectrum do "
                "not need it, those with a flat one would be glad of it.", "Give units of rank one "
                "by one, each to the layer where it keeps most energy for a parameter.",
                body="return [int(budget // sum(costs))] * len(spectra)"),
        Mistake("price forgotten", "Within the budget, and more energy can be kept for it: a unit "
                "of rank costs ten times as much in one layer as in another.", "Divide the share "
                "of the energy by what the unit costs before you sort.",
                swap={"share / cost": "share"}),
        Mistake("over budget", "Your ranks cost more parameters than there are.", "A unit of rank "
                "in layer i costs costs[i]; take it only if so much is left.",
                swap={"costs[layer] <= budget and ": "budget > 0 and ",
                      "budget - costs[layer]": "budget - 1"}),
        Mistake("budget left over", "A good part of the budget is not spent.", "Go on to the next "
                "offer where one does not fit, until none fits.",
                swap={"ranks = [0]": "budget, ranks = budget // 2, [0]"})),
}

RUBRICS = {
    "low_rank.linear": (
        (1, "works out that at 197 tokens and width 384 the products of tokens are a small part of "
            "the MACs (N / (6 d + N), about 8 %), so little can be saved"),
        (1, "says that 'linear' is a slope: with its own projections and small products it may be "
            "slower at 197 tokens, and the crossing has to be measured on the telephone"),
        (1, "says that the model must be trained anew or on, which costs time, and that accuracy "
            "needs a control trained as long with ordinary attention"),
        (1, "names two others that touch the linear layers or the number of tokens: pruning, "
            "factorized layers, quantization, merging or dropping tokens, a smaller student")),
}
