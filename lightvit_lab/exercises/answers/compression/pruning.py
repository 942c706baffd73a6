"""Known wrong answers to the exercises of `chapters/compression/pruning`."""

from .. import Mistake

MISTAKES = {
    "pruning.neurons": (
        Mistake("rows alone", "You measured what makes the neuron. What reads it counts as much: a "
                "loud neuron that nobody listens to does nothing.",
                "Add the squares of the neuron's column of fc2.", swap={"made + read": "made"}),
        Mistake("columns alone", "You measured what reads the neuron. What makes it goes away with "
                "it, too.", "Add the squares of the neuron's row of fc1.",
                swap={"made + read": "read"}),
        Mistake("wrong sides", "These are scores of the channels outside, not of the hidden "
                "neurons: one score for each of the MLP's inputs and outputs.",
                "A neuron is a row of fc1, (hidden, dim), and a column of fc2, (dim, hidden).",
                swap={".square()": ".T.square()"}),
        Mistake("norms added", "Two norms, added. The group is one long vector, and it has one "
                "norm.", "Add the squares first, and take the root last.",
                swap={"(made + read).sqrt()": "made.sqrt() + read.sqrt()"}),
        Mistake("absolute values", "This is the group's L1 norm. It is in use, too, but we asked "
                "for L2.", "Squares in place of absolute values, and a root.",
                swap={".square()": ".abs()", ".sqrt()": ""}),
        Mistake("signs cancel", "Large weights of different signs cancel in your sum.",
                "Square before you sum.", swap={".square()": "", ".sqrt()": ""}),
        Mistake("no root", "The order is right, the scale is not: this is the squared norm.",
                "Take the root.", swap={".sqrt()": ""})),
    "pruning.two_four": (
        Mistake("signed", "You kept the largest numbers with their signs: a weight of -5 went.",
                "Compare absolute values.", swap={".abs()": ""}),
        Mistake("smallest kept", "Your mask is 1 where it should be 0.",
                "1 stands where a weight stays.", swap={"dim=2": "dim=2, largest=False"}),
        Mistake("down the columns", "Your fours run down a column. The hardware reads along a row, "
                "in the direction in which the products are summed.",
                "Group dimension 1: weight.unflatten(1, (-1, 4)).",
                swap={".abs()": ".T.abs()", ".flatten(1)": ".flatten(1).T"}),
        Mistake("half of a row", "Half of each row stays, but not two in every four: some fours "
                "keep three, or all.", "topk(2) inside each group of four neighbours.",
                swap={"(-1, 4)": "(1, -1)", "topk(2,": "topk(weight.shape[1] // 2,"}),
        Mistake("half of all", "Half of the matrix stays, wherever it is largest. That is "
                "unstructured sparsity.", "Two in every four neighbours of a row.",
                body="return (weight.abs() > weight.abs().median()).to(weight)"),
        Mistake("not neighbours", "There are two in each of your fours, but your fours are not "
                "neighbours.", "unflatten(1, (-1, 4)), not (4, -1).",
                swap={"(-1, 4)": "(4, -1)", "dim=2": "dim=1", "scatter(2,": "scatter(1,"}),
        Mistake("weights, not mask", "This is the pruned weight. We asked for the mask.",
                "1 where a weight stays, 0 where it goes.", swap={"return ": "return weight * "})),
    "pruning.scale": (
        Mistake("the wrong way round", "The new kernel divides by less than the old one did: with "
                "this factor the scores grow yet again.", "Its inverse.",
                swap={"16 / 64": "64 / 16"}),
        Mistake("no root", "This is the ratio of the widths. Scores are divided by its root.",
                "sqrt(16 / 64).", swap={" ** 0.5": ""}),
        Mistake("nothing done", "Then the kernel divides by 4 where the trained head divided by 8: "
                "its softmax is twice as sharp as it learned to be.",
                "What has to be multiplied to 1/4 to give 1/8?", answer=1.0),
        Mistake("whole scale", "This is the old scale. The kernel goes on dividing, by the new "
                "one.", "Old scale divided by new scale.", swap={"16 / 64": "1 / 64"}),
        Mistake("shared with the keys", "Right if the keys got this factor, too. We asked for the "
                "queries to take all of it.", "Its square.", swap={"0.5": "0.25"})),
    "pruning.compensation": (
        Mistake("cut only", "These are the columns that stay, as they were. Nothing makes up for "
                "those that went.", "Predict the inputs that went from those that stay, and add "
                "weight[:, gone] times that.", swap={" + weight[:, gone] @ predicted.T": ""}),
        Mistake("correction alone", "This is the correction. Where are the columns that stay?",
                "Add weight[:, kept].", swap={"weight[:, kept] + ": ""}),
        Mistake("no ridge", "The ridge is missing: with few pictures the solution would follow "
                "their noise.", "Add ridge * torch.eye(len(kept)) to what is solved.",
                swap={" + ridge * torch.eye(len(kept))": ""}),
        Mistake("ridge everywhere", "You added the ridge to every entry of the matrix. It belongs "
                "on the diagonal.", "ridge * torch.eye(len(kept)).",
                swap={" * torch.eye(len(kept))": ""}),
        Mistake("subtracted", "The sign is the other way round: the error doubles.",
                "What went is to be put back: add it.", swap={"kept] + ": "kept] - "}),
        Mistake("shrunk", "You regressed the whole output. Then the ridge pulls the old columns "
                "towards 0, although they were right.",
                "Regress only what went, and add it to weight[:, kept].",
                swap={"went)": "inputs)", "weight[:, kept] + weight[:, gone]": "weight"}),
        Mistake("not solved", "You took the products with what went as they are, as if the inputs "
                "kept knew nothing of each other.",
                "torch.linalg.solve(kept.T @ kept + ..., kept.T @ gone).",
                swap={"torch.linalg.solve(among, stays.T @ went)": "stays.T @ went"})),
    "pruning.realisation": (
        Mistake("the wrong way round", "You divided the gain in MACs by that in time.",
                "What arrived stands above, what was promised below.",
                swap={"(5.21 / 3.99) / (17.59 / 4.61)": "(17.59 / 4.61) / (5.21 / 3.99)"}),
        Mistake("gain in time", "This is the gain in time alone. How much was promised?",
                "Divide by 17.59 / 4.61.", swap={" / (17.59 / 4.61)": ""}),
        Mistake("gain in MACs", "This is the gain in MACs alone: what was promised.",
                "Divide 5.21 / 3.99 by it.", swap={"(5.21 / 3.99) / ": ""}),
        Mistake("savings compared", "You compared what was saved with what was to be saved. We "
                "compare gains, old by new.", "(5.21 / 3.99) / (17.59 / 4.61).",
                swap={"5.21 / 3.99": "1 - 3.99 / 5.21", "17.59 / 4.61": "1 - 4.61 / 17.59"}),
        Mistake("what is left compared", "This is the share of the time that is left.",
                "Old by new, for time and for MACs.", answer=3.99 / 5.21)),
    "pruning.budget": (
        Mistake("ratios averaged", "You averaged the two ratios. The MLP has twice as many weights "
                "as the attention.", "Weigh them: 4 d^2 and 8 d^2.", answer=(0.75 + 0.5) / 2),
        Mistake("MLP alone", "You left the attention whole.", "A quarter of its 4 d^2 goes, too.",
                swap={"0.75 * ": ""}),
        Mistake("attention alone", "You left the MLP whole.", "Half of its 8 d^2 goes, too.",
                swap={"0.5 * ": ""}),
        Mistake("share removed", "5/12 is the share that goes; or you took half of the MLP twice. "
                "fc1 loses half of its rows and fc2 half of its columns, so of each one half is "
                "left.", "7/12 is left: 3 d^2 and 4 d^2.", swap={"0.75": "0.25"}),
        Mistake("proj forgotten", "You cut queries, keys and values, and left the projection "
                "whole. It reads the heads: what nobody writes, nobody need read.",
                "3/4 of all four d x d matrices.", swap={"0.75 * 4": "0.75 * 3 + 1"}),
        Mistake("ratios multiplied", "You multiplied what is left of both. They are parts side by "
                "side, not one after the other.", "Add 3/4 of 4 d^2 and 1/2 of 8 d^2.",
                answer=0.75 * 0.5)),
    "pruning.ratios": (
        Mistake("too many stay", "More neurons stay than may.", "The mean of your six ratios has "
                "to be 0.9 or more: all blocks have as many neurons.",
                answer=[0.5, 0.9, 0.9, 0.9, 0.9, 0.9]),
        Mistake("shares kept", "More neurons stay than may: are these the shares that stay? A "
                "ratio is the share removed.", "1 minus each of your numbers.",
                answer=[0.35, 0.05, 0.05, 0.05, 0.05, 0.05]),
        Mistake("alike", "Within the limit, and no better than one ratio for all. The scan says "
                "which block cannot do without its neurons.", "Take from the blocks whose curve is "
                "flat, and give it to the one whose curve falls.", answer=[0.9] * 6),
        Mistake("the wrong block", "Within the limit, and you cut the block deepest that bears it "
                "least. Look at the scan once more: which curve falls?", "Keep most neurons in "
                "block 0.", answer=[0.95, 0.95, 0.95, 0.95, 0.95, 0.65])),
}

RUBRICS = {
    "pruning.why_not_faster": (
        (1, "says that most matrices become smaller on both sides, so that their products fall "
            "with the square: 0.7 times 0.7 is about half"),
        (1, "says that heads touch attention alone, a third of a block's weights or less, so that "
            "there are few MACs to save"),
        (1, "says that one small picture is bound by the start of operations and by memory, which "
            "pruning leaves alone, or that odd widths miss the tiles of the kernels"),
        (1, "proposes something that follows: whole blocks, widths in multiples of 8, larger "
            "batches, or a profile of the time by operation before the next cut")),
}
