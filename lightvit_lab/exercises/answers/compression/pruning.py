"""Known wrong answers to the exercises of `chapters/compression/pruning`."""

from .. import Mistake

MISTAKES = {
    "pruning.neurons": (
        Mistake("rows alone", "You measured only the weights that compute the neuron. The weights "
                "that read it count as much: a strong neuron that nothing reads does nothing.",
                "Add the squares of the neuron's column of fc2.", swap={"made + read": "made"}),
        Mistake("columns alone", "You measured only the weights that read the neuron. The weights "
                "that compute it are removed, too.", "Add the squares of the neuron's row of fc1.",
                swap={"made + read": "read"}),
        Mistake("wrong sides", "These are scores of the inputs and outputs of the MLP, not of its "
                "hidden neurons.", "A neuron is a row of fc1, (hidden, dim), and a column of fc2, "
                "(dim, hidden).",
                swap={".square()": ".T.square()"}),
        Mistake("norms added", "You added two norms. The group is one long vector, and it has one "
                "norm.", "Add the squares first, and take the root last.",
                swap={"(made + read).sqrt()": "made.sqrt() + read.sqrt()"}),
        Mistake("absolute values", "This is the L1 norm of the group. It is in use, too, but we "
                "asked for the L2 norm.", "Use squares instead of absolute values, and a root.",
                swap={".square()": ".abs()", ".sqrt()": ""}),
        Mistake("signs cancel", "Large weights with different signs cancel in your sum.", "Square "
                "before you sum.", swap={".square()": "", ".sqrt()": ""}),
        Mistake("no root", "The order is right, but not the scale: this is the squared norm.",
                "Take the root.", swap={".sqrt()": ""})),
    "pruning.two_four": (
        Mistake("signed", "You kept the largest numbers with their signs: a weight of -5 was "
                "removed.", "Compare absolute values.", swap={".abs()": ""}),
        Mistake("smallest kept", "Your mask is 1 where it should be 0.", "1 is for a weight that "
                "stays.", swap={"dim=2": "dim=2, largest=False"}),
        Mistake("down the columns", "Your groups of four go down a column. The hardware reads "
                "along a row, in the direction in which the products are summed.",
                "Group dimension 1: weight.unflatten(1, (-1, 4)).",
                swap={".abs()": ".T.abs()", ".flatten(1)": ".flatten(1).T"}),
        Mistake("half of a row", "Half of each row stays, but not two in every four: some groups "
                "keep three, or all four.", "Use topk(2) inside each group of four neighbours.",
                swap={"(-1, 4)": "(1, -1)", "topk(2,": "topk(weight.shape[1] // 2,"}),
        Mistake("half of all", "Half of the matrix stays, wherever it is largest. That is "
                "unstructured sparsity.", "Two in every four neighbours of a row.",
                body="return (weight.abs() > weight.abs().median()).to(weight)"),
        Mistake("not neighbours", "Each of your groups of four keeps two, but the four are not "
                "neighbours.", "Use unflatten(1, (-1, 4)), not (4, -1).",
                swap={"(-1, 4)": "(4, -1)", "dim=2": "dim=1", "scatter(2,": "scatter(1,"}),
        Mistake("weights, not mask", "This is the pruned weight. We asked for the mask.",
                "1 where a weight stays, 0 where it is removed.",
                swap={"return ": "return weight * "})),
    "pruning.scale": (
        Mistake("the wrong way round", "The new kernel divides by less than the old one did: with "
                "this factor the scores grow even more.", "Use its inverse.",
                swap={"16 / 64": "64 / 16"}),
        Mistake("no root", "This is the ratio of the widths. Scores are divided by its root.",
                "sqrt(16 / 64).", swap={" ** 0.5": ""}),
        Mistake("nothing done", "Then the kernel divides by 4, but the trained head divided by 8: "
                "the scores are twice as large as in training.", "Which factor turns 1/4 into "
                "1/8?", answer=1.0),
        Mistake("whole scale", "This is the old scale. But the kernel still divides, by the new "
                "one.", "Old scale divided by new scale.", swap={"16 / 64": "1 / 64"}),
        Mistake("shared with the keys", "This is right if the keys got the same factor, too. We "
                "asked for a factor of the queries alone.", "Its square.", swap={"0.5": "0.25"})),
    "pruning.compensation": (
        Mistake("cut only", "These are the kept columns, unchanged. Nothing makes up for the "
                "removed ones.",
                "Predict the removed inputs from the kept ones, and add weight[:, gone] times "
                "that.", swap={" + weight[:, gone] @ predicted.T": ""}),
        Mistake("correction alone", "This is only the correction. The kept columns are missing.",
                "Add weight[:, kept].", swap={"weight[:, kept] + ": ""}),
        Mistake("no ridge", "The ridge is missing: with few pictures the solution would fit their "
                "noise.", "Add ridge * torch.eye(len(kept)) to the matrix of the system.",
                swap={" + ridge * torch.eye(len(kept))": ""}),
        Mistake("ridge everywhere", "You added the ridge to every entry of the matrix. Add it to "
                "the diagonal only.", "ridge * torch.eye(len(kept)).",
                swap={" * torch.eye(len(kept))": ""}),
        Mistake("subtracted", "The sign is wrong: the error doubles.", "The removed part must be "
                "put back: add it.", swap={"kept] + ": "kept] - "}),
        Mistake("shrunk", "You regressed the complete output. Then the ridge pulls the kept "
                "columns towards 0, although they were right.", "Regress only the removed inputs, "
                "and add the result to weight[:, kept].",
                swap={"went)": "inputs)", "weight[:, kept] + weight[:, gone]": "weight"}),
        Mistake("not solved", "You used the products with the removed inputs directly, as if the "
                "kept inputs were not correlated.", "torch.linalg.solve(kept.T @ kept + ..., "
                "kept.T @ gone).",
                swap={"torch.linalg.solve(among, stays.T @ went)": "stays.T @ went"})),
    "pruning.realisation": (
        Mistake("the wrong way round", "You divided the gain in MACs by the gain in time.",
                "Divide what arrived by what was promised.",
                swap={"(5.21 / 3.99) / (17.59 / 4.61)": "(17.59 / 4.61) / (5.21 / 3.99)"}),
        Mistake("gain in time", "This is the gain in time alone. How much was promised?",
                "Divide by 17.59 / 4.61.", swap={" / (17.59 / 4.61)": ""}),
        Mistake("gain in MACs", "This is the gain in MACs alone: what was promised.",
                "Divide 5.21 / 3.99 by it.", swap={"(5.21 / 3.99) / ": ""}),
        Mistake("savings compared", "You compared what was saved in time with what was saved in "
                "MACs. Compare gains, old by new.", "(5.21 / 3.99) / (17.59 / 4.61).",
                swap={"5.21 / 3.99": "1 - 3.99 / 5.21", "17.59 / 4.61": "1 - 4.61 / 17.59"}),
        Mistake("what is left compared", "This is the share of the time that is left.",
                "Old by new, for time and for MACs.", answer=3.99 / 5.21)),
    "pruning.budget": (
        Mistake("ratios averaged",
                "You averaged the two ratios. The MLP has twice as many weights as the attention.",
                "Weight them with 4 d^2 and 8 d^2.", answer=(0.75 + 0.5) / 2),
        Mistake("MLP alone", "You did not prune the attention.", "A quarter of its 4 d^2 is "
                "removed, too.",
                swap={"0.75 * ": ""}),
        Mistake("attention alone", "You did not prune the MLP.", "Half of its 8 d^2 is removed, "
                "too.",
                swap={"0.5 * ": ""}),
        Mistake("share removed", "5/12 is the share that is removed; or you took half of the MLP "
                "twice. fc1 loses half of its rows and fc2 half of its columns, so half of each is "
                "left.", "7/12 is left: 3 d^2 and 4 d^2.", swap={"0.75": "0.25"}),
        Mistake("proj forgotten", "You cut queries, keys and values, but not the projection. It "
                "reads the heads: columns that read a removed head are removed, too.",
                "3/4 of all four d x d matrices.", swap={"0.75 * 4": "0.75 * 3 + 1"}),
        Mistake("ratios multiplied", "You multiplied what is left of both. Attention and MLP are "
                "parts of a sum, not factors.", "Add 3/4 of 4 d^2 and 1/2 of 8 d^2.",
                answer=0.75 * 0.5)),
    "pruning.ratios": (
        Mistake("too many stay", "More neurons stay than allowed.", "The mean of your six ratios "
                "must be 0.9 or more: all blocks have the same number of neurons.",
                answer=[0.5, 0.9, 0.9, 0.9, 0.9, 0.9]),
        Mistake("shares kept", "More neurons stay than allowed: are these the shares that stay? A "
                "ratio is the share removed.", "Use 1 minus each of your numbers.",
                answer=[0.35, 0.05, 0.05, 0.05, 0.05, 0.05]),
        Mistake("alike", "Within the limit, but no better than one ratio for all. The scan shows "
                "which block needs its neurons most.", "Remove more in the blocks with a flat "
                "curve, and keep more in the block whose curve falls.", answer=[0.9] * 6),
        Mistake("the wrong block", "Within the limit, but you removed most in the block that "
                "tolerates it least. Look at the scan again: which curve falls?", "Keep most "
                "neurons in block 0.", answer=[0.95, 0.95, 0.95, 0.95, 0.95, 0.65])),
}

RUBRICS = {
    "pruning.why_not_faster": (
        (1, "says that most matrices become smaller on both sides, so that their MACs fall with "
            "the square: 0.7 times 0.7 is about half"),
        (1, "says that heads belong to attention alone, a third of a block's weights or less, so "
            "that there are few MACs to save"),
        (1, "says that the time of one small picture is limited by the start of operations and by "
            "memory, which pruning does not change, or that odd widths do not fit the tiles of the "
            "kernels"),
        (1, "proposes something that follows from this: whole blocks, widths in multiples of 8, "
            "larger batches, or a profile of the time by operation before the next step")),
}
