"""Known wrong answers to the exercises of `chapters/compression/pruning`."""

from __future__ import annotations

import torch
from torch import Tensor
from .. import Mistake


def _neurons(fc1: Tensor, fc2: Tensor) -> Tensor:
    return (fc1.square().sum(dim=1) + fc2.square().sum(dim=0)).sqrt()


def _neurons_rows_alone(fc1: Tensor, fc2: Tensor) -> Tensor:
    return fc1.norm(dim=1)


def _neurons_columns_alone(fc1: Tensor, fc2: Tensor) -> Tensor:
    return fc2.norm(dim=0)


def _neurons_wrong_sides(fc1: Tensor, fc2: Tensor) -> Tensor:
    return (fc1.square().sum(dim=0) + fc2.square().sum(dim=1)).sqrt()


def _neurons_norms_added(fc1: Tensor, fc2: Tensor) -> Tensor:
    return fc1.norm(dim=1) + fc2.norm(dim=0)


def _neurons_absolute(fc1: Tensor, fc2: Tensor) -> Tensor:
    return fc1.abs().sum(dim=1) + fc2.abs().sum(dim=0)


def _neurons_plain_sum(fc1: Tensor, fc2: Tensor) -> Tensor:
    return fc1.sum(dim=1) + fc2.sum(dim=0)


def _neurons_without_root(fc1: Tensor, fc2: Tensor) -> Tensor:
    return _neurons(fc1, fc2).square()


def _largest_two(weight: Tensor) -> Tensor:
    fours = weight.abs().unflatten(1, (-1, 4))
    return torch.zeros_like(fours).scatter(2, fours.topk(2, dim=2).indices, 1.0).flatten(1)


def _two_signed(weight: Tensor) -> Tensor:
    fours = weight.unflatten(1, (-1, 4))
    return torch.zeros_like(fours).scatter(2, fours.topk(2, dim=2).indices, 1.0).flatten(1)


def _two_smallest(weight: Tensor) -> Tensor:
    return 1 - _largest_two(weight)


def _two_down(weight: Tensor) -> Tensor:
    return _largest_two(weight.T).T


def _half_of_row(weight: Tensor) -> Tensor:
    kept = weight.abs().topk(weight.shape[1] // 2, dim=1).indices
    return torch.zeros_like(weight).scatter(1, kept, 1.0)


def _half_of_all(weight: Tensor) -> Tensor:
    kept = weight.abs().flatten().topk(weight.numel() // 2).indices
    return torch.zeros_like(weight).flatten().scatter(0, kept, 1.0).view_as(weight)


def _two_apart(weight: Tensor) -> Tensor:
    """Groups of every so-many-th column, where four neighbours are meant."""
    fours = weight.abs().unflatten(1, (4, -1)).transpose(1, 2)
    mask = torch.zeros_like(fours).scatter(2, fours.topk(2, dim=2).indices, 1.0)
    return mask.transpose(1, 2).flatten(1)


def _masked_weight(weight: Tensor) -> Tensor:
    return weight * _largest_two(weight)


def _split(inputs: Tensor, weight: Tensor, kept: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What is kept of inputs and weight, and what goes."""
    gone = torch.tensor([column for column in range(weight.shape[1]) if column not in kept.tolist()])
    return inputs[:, kept], weight[:, kept], inputs[:, gone], weight[:, gone]


def _refitted(inputs: Tensor, weight: Tensor, kept: Tensor, ridge: float) -> Tensor:
    seen, stays, lost, goes = _split(inputs, weight, kept)
    # (kept, gone)
    predict = torch.linalg.solve(seen.T @ seen + ridge * torch.eye(len(kept)), seen.T @ lost)
    return stays + goes @ predict.T


def _cut(inputs: Tensor, weight: Tensor, kept: Tensor, ridge: float) -> Tensor:
    return weight[:, kept]


def _correction_alone(inputs: Tensor, weight: Tensor, kept: Tensor, ridge: float) -> Tensor:
    return _refitted(inputs, weight, kept, ridge) - weight[:, kept]


def _without_ridge(inputs: Tensor, weight: Tensor, kept: Tensor, ridge: float) -> Tensor:
    return _refitted(inputs, weight, kept, 0.0)


def _ridge_everywhere(inputs: Tensor, weight: Tensor, kept: Tensor, ridge: float) -> Tensor:
    """The ridge added to every entry, not to the diagonal."""
    seen, stays, lost, goes = _split(inputs, weight, kept)
    return stays + goes @ torch.linalg.solve(seen.T @ seen + ridge, seen.T @ lost).T


def _subtracted(inputs: Tensor, weight: Tensor, kept: Tensor, ridge: float) -> Tensor:
    return 2 * weight[:, kept] - _refitted(inputs, weight, kept, ridge)


def _shrunk(inputs: Tensor, weight: Tensor, kept: Tensor, ridge: float) -> Tensor:
    """The whole output regressed on what is kept: the ridge then pulls the old columns towards 0,
    too.
    """
    seen = inputs[:, kept]
    return torch.linalg.solve(seen.T @ seen + ridge * torch.eye(len(kept)), seen.T @ inputs @ weight.T).T


def _not_solved(inputs: Tensor, weight: Tensor, kept: Tensor, ridge: float) -> Tensor:
    seen, stays, lost, goes = _split(inputs, weight, kept)
    return stays + goes @ (lost.T @ seen)


def _realised(old_ms: float, new_ms: float, old_macs: float, new_macs: float) -> float:
    return (old_ms / new_ms) / (old_macs / new_macs)


MISTAKES = {
    "pruning.neurons": (
        Mistake("rows alone", "You measured what makes the neuron. What reads it counts as much: a loud neuron that nobody listens to does nothing.",
                "Add the squares of the neuron's column of fc2.", answer=_neurons_rows_alone),
        Mistake("columns alone", "You measured what reads the neuron. What makes it goes away with it, too.",
                "Add the squares of the neuron's row of fc1.", answer=_neurons_columns_alone),
        Mistake("wrong sides", "These are scores of the channels outside, not of the hidden neurons: one score for each of the MLP's inputs and outputs.",
                "A neuron is a row of fc1, (hidden, dim), and a column of fc2, (dim, hidden).", answer=_neurons_wrong_sides),
        Mistake("norms added", "Two norms, added. The group is one long vector, and it has one norm.",
                "Add the squares first, and take the root last.", answer=_neurons_norms_added),
        Mistake("absolute values", "This is the group's L1 norm. It is in use, too, but we asked for L2.",
                "Squares in place of absolute values, and a root.", answer=_neurons_absolute),
        Mistake("signs cancel", "Large weights of different signs cancel in your sum.",
                "Square before you sum.", answer=_neurons_plain_sum),
        Mistake("no root", "The order is right, the scale is not: this is the squared norm.",
                "Take the root.", answer=_neurons_without_root),
    ),
    "pruning.two_four": (
        Mistake("signed", "You kept the largest numbers with their signs: a weight of -5 went.",
                "Compare absolute values.", answer=_two_signed),
        Mistake("smallest kept", "Your mask is 1 where it should be 0.",
                "1 stands where a weight stays.", answer=_two_smallest),
        Mistake("down the columns", "Your fours run down a column. The hardware reads along a row, in the direction in which the products are summed.",
                "Group dimension 1: weight.unflatten(1, (-1, 4)).", answer=_two_down),
        Mistake("half of a row", "Half of each row stays, but not two in every four: some fours keep three, or all.",
                "topk(2) inside each group of four neighbours.", answer=_half_of_row),
        Mistake("half of all", "Half of the matrix stays, wherever it is largest. That is unstructured sparsity.",
                "Two in every four neighbours of a row.", answer=_half_of_all),
        Mistake("not neighbours", "There are two in each of your fours, but your fours are not neighbours.",
                "unflatten(1, (-1, 4)), not (4, -1).", answer=_two_apart),
        Mistake("weights, not mask", "This is the pruned weight. We asked for the mask.",
                "1 where a weight stays, 0 where it goes.", answer=_masked_weight),
    ),
    "pruning.scale": (
        Mistake("the wrong way round", "The new kernel divides by less than the old one did: with this factor the scores grow yet again.",
                "Its inverse.", answer=2.0),
        Mistake("no root", "This is the ratio of the widths. Scores are divided by its root.",
                "sqrt(16 / 64).", answer=0.25),
        Mistake("nothing done", "Then the kernel divides by 4 where the trained head divided by 8: its softmax is twice as sharp as it learned to be.",
                "What has to be multiplied to 1/4 to give 1/8?", answer=1.0),
        Mistake("whole scale", "This is the old scale. The kernel goes on dividing, by the new one.",
                "Old scale divided by new scale.", answer=0.125),
        Mistake("shared with the keys", "Right if the keys got this factor, too. We asked for the queries to take all of it.",
                "Its square.", answer=0.5**0.5),
    ),
    "pruning.compensation": (
        Mistake("cut only", "These are the columns that stay, as they were. Nothing makes up for those that went.",
                "Predict the inputs that went from those that stay, and add weight[:, gone] times that.", answer=_cut),
        Mistake("correction alone", "This is the correction. Where are the columns that stay?",
                "Add weight[:, kept].", answer=_correction_alone),
        Mistake("no ridge", "The ridge is missing: with few pictures the solution would follow their noise.",
                "Add ridge * torch.eye(len(kept)) to what is solved.", answer=_without_ridge),
        Mistake("ridge everywhere", "You added the ridge to every entry of the matrix. It belongs on the diagonal.",
                "ridge * torch.eye(len(kept)).", answer=_ridge_everywhere),
        Mistake("subtracted", "The sign is the other way round: the error doubles.",
                "What went is to be put back: add it.", answer=_subtracted),
        Mistake("shrunk", "You regressed the whole output. Then the ridge pulls the old columns towards 0, although they were right.",
                "Regress only what went, and add it to weight[:, kept].", answer=_shrunk),
        Mistake("not solved", "You took the products with what went as they are, as if the inputs kept knew nothing of each other.",
                "torch.linalg.solve(kept.T @ kept + ..., kept.T @ gone).", answer=_not_solved),
    ),
    "pruning.realisation": (
        Mistake("the wrong way round", "You divided the gain in MACs by that in time.",
                "What arrived stands above, what was promised below.", answer=1 / _realised(5.21, 3.99, 17.59, 4.61)),
        Mistake("gain in time", "This is the gain in time alone. How much was promised?",
                "Divide by 17.59 / 4.61.", answer=5.21 / 3.99),
        Mistake("gain in MACs", "This is the gain in MACs alone: what was promised.",
                "Divide 5.21 / 3.99 by it.", answer=17.59 / 4.61),
        Mistake("savings compared", "You compared what was saved with what was to be saved. We compare gains, old by new.",
                "(5.21 / 3.99) / (17.59 / 4.61).", answer=(1 - 3.99 / 5.21) / (1 - 4.61 / 17.59)),
        Mistake("what is left compared", "This is the share of the time that is left.",
                "Old by new, for time and for MACs.", answer=3.99 / 5.21),
    ),
    "pruning.budget": (
        Mistake("ratios averaged", "You averaged the two ratios. The MLP has twice as many weights as the attention.",
                "Weigh them: 4 d^2 and 8 d^2.", answer=0.625),
        Mistake("MLP alone", "You left the attention whole.",
                "A quarter of its 4 d^2 goes, too.", answer=8 / 12),
        Mistake("attention alone", "You left the MLP whole.",
                "Half of its 8 d^2 goes, too.", answer=11 / 12),
        Mistake("share removed", "This is what goes. We asked for what is left.",
                "1 minus what you have.", answer=5 / 12),
        Mistake("proj forgotten", "You cut queries, keys and values, and left the projection whole. It reads the heads: what nobody writes, nobody need read.",
                "3/4 of all four d x d matrices.", answer=7.25 / 12),
        Mistake("ratios multiplied", "You multiplied what is left of both. They are parts side by side, not one after the other.",
                "Add 3/4 of 4 d^2 and 1/2 of 8 d^2.", answer=0.375),
    ),
}
