"""Known wrong answers to the exercises of `chapters/compression/low_rank`."""

from .. import Mistake

MISTAKES = {
    "low_rank.break_even": (
        Mistake("full rank", "At this rank one of the two thin layers is as large as the original "
                "layer, and the other one comes in addition.", "Both count: rank * (192 + 768) "
                "against 192 * 768.", answer=192),
        Mistake("rounded up", "This is just above the limit: 154 * 960 is more than 192 * 768.",
                "Round down.",
                swap={"int(": "math.ceil("}),
        Mistake("not rounded", "This is the point where both have the same number of weights. A "
                "rank is an integer.", "The largest integer below it.", swap={"int(": "("}),
        Mistake("square",
                "Half of the full rank is the break-even of a square matrix. This one is four "
                "times as wide as it is high.", "192 * 768 / (192 + 768).", answer=192 // 2),
        Mistake("harmonic mean", "This is the harmonic mean of the two widths: twice the right "
                "number, and more than the matrix has.", "m n / (m + n), without the factor 2.",
                swap={"192 * 768": "2 * 192 * 768"})),
    "low_rank.factors": (
        Mistake("singular values forgotten", "The singular values are missing: your layers only "
                "rotate and do not scale.", "Multiply the rows of one factor by values[:rank].",
                swap={"values[:rank, None] * ": ""}),
        Mistake("singular values twice", "The singular values count twice, in both of your layers "
                "or squared in one: large directions become far too large.", "Give them to one "
                "layer, unchanged, or their square roots to both.",
                swap={"left[:, :rank]": "left[:, :rank] * values[:rank]"}),
        Mistake("the smallest",
                "You kept the smallest singular values: this is the worst layer of this rank, not "
                "the best.", "torch sorts them with the largest first: [:rank].",
                swap={":rank": "-rank:"}),
        Mistake("not transposed",
                "You took columns of Vh. torch.linalg.svd returns the transposed matrix: its rows "
                "are the directions in the input.", "The first layer is made of Vh[:rank].",
                swap={"right[:rank]": "right[:, :rank].T"}),
        Mistake("bias dropped", "The weights are right, but the bias is missing.",
                "The second layer gets it, unchanged.", swap={"second, bias": "second, 0 * bias"}),
        Mistake("bias in the middle", "Your bias went through the second layer, which has only "
                "`rank` directions for it.",
                "The first layer has no bias; the second one adds the original bias.",
                swap={"second, bias": "second, second @ second.T @ bias"}),
        Mistake("nothing left out", "The layer is the same as before, with the full rank.",
                "Keep `rank` rows of one factor and as many columns of the other.",
                swap={":rank": ":"}),
        Mistake("swapped", "The two layers are in the wrong order.", "The first has shape (rank, "
                "in), the second (out, rank).",
                swap={"return first, second": "return second, first"}),
        Mistake("both transposed", "Both of your layers are transposed. A weight of PyTorch is "
                "(out, in).", "Return first.T and second.T of what you have now: (rank, in) and "
                "(out, rank).", swap={"first, second,": "first.T, second.T,"}),
        Mistake("two results", "Three results are needed: two weights, and the bias of the second "
                "layer.", "return first, second, bias", swap={"second, bias": "second"})),
    "low_rank.energy": (
        Mistake("not squared", "You summed the singular values. The energy is the sum of their "
                "squares, because the error is a sum of squares, too.", "values.square() first.",
                swap={".square()": ""}),
        Mistake("one short", "One too few: with this rank the energy stays below the share.",
                "Count the ranks that are not yet enough, and add one.", swap={" + 1": ""}),
        Mistake("share of the count",
                "This is a share of the number of singular values. The first ones hold far more "
                "energy than the others.", "Compare the running sum of squares with its total.",
                body="return math.ceil(energy * len(singular_values))"),
        Mistake("share of the length", "You compared the root of the energy. That is a share of "
                "the norm.", "No root: sum of squares over sum of squares.",
                swap={"kept <": "kept.sqrt() <"}),
        Mistake("from below", "You began with the smallest.",
                "The largest comes first already; do not change the order.",
                swap={".square()": ".flip(0).square()"}),
        Mistake("by size", "You kept the values that are not much smaller than the largest one. "
                "Many small values together may hold much energy.", "Use the running sum.",
                swap={"kept < energy": "singular_values >= (1 - energy) * singular_values[0]",
                      " + 1": ""}),
        Mistake("what goes", "This is how many values are left out.", "How many are kept?",
                swap={"kept <": "kept >=", "+ 1": "- 1"})),
    "low_rank.whitened": (
        Mistake("plain", "This is the best approximation of the weight. If some directions of the "
                "input are more frequent than others, it is not the best for the output.",
                "Decompose weight @ root instead of weight.",
                swap={"weight @ root": "weight", " @ torch.linalg.inv(root)": ""}),
        Mistake("not undone", "This weight expects inputs that were whitened before. Our inputs "
                "are not.", "Multiply by the inverse of the root on the same side.",
                swap={" @ torch.linalg.inv(root)": ""}),
        Mistake("moment for its root", "You weighted the directions by the second moment itself. "
                "The error is a square, and the moment is a square, too.", "Take a root of it: "
                "root @ root.T = moment.", swap={"torch.linalg.cholesky(moment)": "moment"}),
        Mistake("the wrong way round", "You divided by the root first and multiplied afterwards: "
                "directions that never occur count most.", "First weight @ root, and afterwards "
                "its inverse.",
                swap={"(moment)": "(moment).inverse()"}),
        Mistake("root transposed", "Your root is transposed: root @ root.T is not the moment then.",
                "torch.linalg.cholesky gives the lower root, with root @ root.T = moment: use it "
                "as it is.", swap={"(moment)": "(moment).T"}),
        Mistake("diagonal", "You weighted each input only by its size. Inputs are correlated, and "
                "the correlations are outside the diagonal.", "Use the full root, "
                "torch.linalg.cholesky(moment).",
                swap={"torch.linalg.cholesky(moment)": "moment.diagonal().sqrt().diag()"}),
        Mistake("wrong side", "You multiplied the root on the side of the outputs. It belongs to "
                "the inputs.", "A weight is (out, in): weight @ root.",
                swap={"weight @ root": "root @ weight"})),
    "low_rank.segments": (
        Mistake("class token averaged in",
                "In your answer the class token disappears in the first segment. The classifier "
                "needs it.", "Leave keys[:, :, :1] unchanged; average the others.",
                body="return keys.unflatten(2, (rank, -1)).mean(dim=3)"),
        Mistake("strided", "Your segments take tokens from all over the picture, at equal "
                "distances. Neighbours are more similar.",
                "unflatten(2, (rank - 1, -1)), then the mean over dimension 3.",
                swap={"(rank - 1, -1)": "(-1, rank - 1)", "dim=3": "dim=2"}),
        Mistake("summed", "Sums grow with the length of the segments, and the logits would grow, "
                "too.", "mean, not sum.",
                swap={".mean(": ".sum("}),
        Mistake("picked", "You took one token of each segment. The others count, too.", "The mean "
                "over the segment.", swap={"image.mean(dim=3)": "image[:, :, :, 0]"}),
        Mistake("class token dropped", "The class token is missing: one segment too few.",
                "torch.cat it in front of the means.", swap={"keys[:, :, :1], ": ""}),
        Mistake("class token last", "The class token is last in your answer.", "It must be first, "
                "as in the input.",
                swap={"keys[:, :, :1], image.mean(dim=3)": "image.mean(dim=3), keys[:, :, :1]"})),
    "low_rank.budget": (
        Mistake("as a share", "This is the share that would be saved. We asked by what factor the "
                "MACs become fewer.", "Divide the MACs of the block by what is left.",
                swap={"(linear + products) / linear": "products / (linear + products)"}),
        Mistake("upside down", "This is the share that is left.", "Its inverse.",
                swap={"(linear + products) / linear": "linear / (linear + products)"}),
        Mistake("maps to queries, keys and values, too", "You removed the four linear maps of "
                "attention, too. Low-rank attention keeps them.", "Only 2 N^2 d is removed.",
                swap={"/ linear": "/ (8 * tokens * dim**2)"}),
        Mistake("one product", "There are two products: queries times keys, and weights times "
                "values.", "2 N^2 d.", swap={"/ linear": "/ (linear + products / 2)"}),
        Mistake("MLP forgotten", "Your block has no MLP, which is the largest part.",
                "4 N d^2 + 8 N d^2 stay.", swap={"12 *": "4 *"}),
        Mistake("class token forgotten", "This is the gain with 64 tokens. The class token is one "
                "of the N = 65.", "1 + N / (6 d), with N = 65.", swap={"65": "64"})),
    "low_rank.allocate": (
        Mistake("equal ranks",
                "You gave all layers the same rank. Layers with a steep spectrum do not need it; "
                "layers with a flat one need more.", "Give units of rank one by one, each to the "
                "layer where it keeps most energy for a parameter.",
                body="return [int(budget // sum(costs))] * len(spectra)"),
        Mistake("price forgotten",
                "Within the budget, but more energy can be kept: a unit of rank costs ten times as "
                "much in one layer as in another.",
                "Divide the share of the energy by the cost of the unit before you sort.",
                swap={"share / cost": "share"}),
        Mistake("over budget", "Your ranks cost more parameters than the budget.",
                "A unit of rank in layer i costs costs[i]; take it only if enough of the budget is "
                "left.",
                swap={"costs[layer] <= budget and ": "budget > 0 and ",
                      "budget - costs[layer]": "budget - 1"}),
        Mistake("budget left over", "A large part of the budget is not spent.", "If a unit does "
                "not fit, try the next one, until none fits.",
                swap={"ranks = [0]": "budget, ranks = budget // 2, [0]"})),
}

RUBRICS = {
    "low_rank.linear": (
        (1, "works out that at 197 tokens and width 384 the products of tokens are a small part of "
            "the MACs (N / (6 d + N), about 8 %), so little can be saved"),
        (1, "says that 'linear' is a slope: with its own projections and small products it may be "
            "slower with 197 tokens, and the crossing has to be measured on the phone"),
        (1, "says that the model must be trained again or further, which costs time, and that the "
            "accuracy needs a control trained for as long with ordinary attention"),
        (1, "names two other ways that reduce the linear layers or the number of tokens: pruning, "
            "factorized layers, quantization, merging or dropping tokens, a smaller student")),
}
