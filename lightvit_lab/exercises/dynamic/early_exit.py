"""Checks of the exercises in `chapters/dynamic/early_exit`."""

from __future__ import annotations

import torch
from torch import Tensor

from ..engine import Exercise, Mistake

_BLOCK = 12 * 197 * 384**2 + 2 * 197**2 * 384            # MACs of a block of DeiT-S
_HEAD = 384 * 1000                                       # and of a linear layer on its class token
_PAYS = 100 * 11 * _HEAD / _BLOCK                       # percent


def _cost(exits: Tensor, macs: Tensor) -> float:
    return macs.double()[exits].mean().item()


def _cost_plain(exits: Tensor, macs: Tensor) -> float:
    return macs.double().mean().item()


def _cost_of_mean_exit(exits: Tensor, macs: Tensor) -> float:
    return macs.double()[exits.double().mean().round().long()].item()


def _cost_summed(exits: Tensor, macs: Tensor) -> float:
    return macs.double()[exits].sum().item()


def _cost_added_up(exits: Tensor, macs: Tensor) -> float:
    return macs.double().cumsum(0)[exits].mean().item()


def _cost_of_slowest(exits: Tensor, macs: Tensor) -> float:
    return macs.double()[exits.max()].item()


def _cost_without_end(exits: Tensor, macs: Tensor) -> float:
    return macs.double()[exits[exits < len(macs) - 1]].mean().item()


def _leavings(generator: torch.Generator) -> list[tuple]:
    """Exits that pictures took, (N,), the end among them, and MACs of leaving at each exit, rising
    unevenly.
    """
    found = []
    for pictures, ends in ((12, 4), (20, 5), (9, 3)):
        macs = (10**6 * (1 + torch.rand(ends, generator=generator))).long().cumsum(0)
        exits = torch.randint(ends, (pictures,), generator=generator)
        exits[0], exits[1] = ends - 1, 0
        found.append((exits, macs))
    return found


def _patience(named: Tensor, agree: int) -> Tensor:
    """(exits, N), a number -> (N,)."""
    exits = len(named)
    taken, run = torch.full(named.shape[1:], exits), torch.ones(named.shape[1:], dtype=torch.long)
    for place in range(exits):
        if place:
            run = torch.where(named[place] == named[place - 1], run + 1, 1)
        taken = torch.where((run >= agree) & (taken == exits), place, taken)
    return taken


def _patience_in_all(named: Tensor, agree: int) -> Tensor:
    """Votes count that are not in a row."""
    exits = len(named)
    taken = torch.full(named.shape[1:], exits)
    for place in reversed(range(exits)):
        votes = (named[:place + 1] == named[place]).sum(0)
        taken = torch.where(votes >= agree, place, taken)
    return taken


def _patience_one_more(named: Tensor, agree: int) -> Tensor:
    return _patience(named, agree + 1)


def _patience_one_less(named: Tensor, agree: int) -> Tensor:
    return _patience(named, agree - 1)


def _patience_too_late(named: Tensor, agree: int) -> Tensor:
    """The last place where so many agree, in place of the first."""
    found = _patience(named.flip(0), agree)
    return torch.where(found < len(named), len(named) - 1 - found, len(named))


def _patience_from_one(named: Tensor, agree: int) -> Tensor:
    return _patience(named, agree) + 1


def _patience_end_is_last_exit(named: Tensor, agree: int) -> Tensor:
    return _patience(named, agree).clamp(max=len(named) - 1)


def _patience_start_of_run(named: Tensor, agree: int) -> Tensor:
    taken = _patience(named, agree)
    return torch.where(taken < len(named), taken - agree + 1, taken)


def _names(generator: torch.Generator) -> list[tuple]:
    """Classes that exits name, (exits, N), few enough that runs occur and break; and how many must
    agree.
    """
    return [(torch.randint(2 + (agree == 2), (exits, 40), generator=generator), agree)
            for exits, agree in ((5, 2), (7, 3), (6, 2))]


def _mixed(sure: Tensor, early: Tensor, end: Tensor, threshold: float) -> Tensor:
    return torch.where(sure >= threshold, early, end).double().mean()


def _threshold(sure: Tensor, early: Tensor, end: Tensor, wanted: float,
               thresholds: Tensor) -> float:
    return next(value for value in thresholds.tolist() if _mixed(sure, early, end, value) >= wanted)


def _threshold_of_leavers(sure: Tensor, early: Tensor, end: Tensor, wanted: float,
                          thresholds: Tensor) -> float:
    return next(value for value in thresholds.tolist()
                if not (sure >= value).any() or early[sure >= value].double().mean() >= wanted)


def _threshold_largest(sure: Tensor, early: Tensor, end: Tensor, wanted: float,
                       thresholds: Tensor) -> float:
    return [value for value in thresholds.tolist() if _mixed(sure, early, end, value) >= wanted][-1]


def _threshold_most_accurate(sure: Tensor, early: Tensor, end: Tensor, wanted: float,
                             thresholds: Tensor) -> float:
    scores = [_mixed(sure, early, end, value).item() for value in thresholds.tolist()]
    return thresholds[scores.index(max(scores))].item()


def _threshold_itself(sure: Tensor, early: Tensor, end: Tensor, wanted: float,
                      thresholds: Tensor) -> float:
    return next(value for value in thresholds.tolist() if value >= wanted)


def _threshold_end_is_right(sure: Tensor, early: Tensor, end: Tensor, wanted: float,
                            thresholds: Tensor) -> float:
    return _threshold(sure, early, torch.ones_like(end), wanted, thresholds)


def _threshold_wrong_way(sure: Tensor, early: Tensor, end: Tensor, wanted: float,
                         thresholds: Tensor) -> float:
    fitting = [value for value in thresholds.tolist() if _mixed(sure, end, early, value) >= wanted]
    return fitting[0] if fitting else -1.0


def _validations(generator: torch.Generator) -> list[tuple]:
    """Confidences at an exit, whether exit and end are right, an accuracy that can be reached,
    thresholds that rise.
    """
    thresholds, found = torch.linspace(0, 1.01, 51, dtype=torch.float64), []
    for _ in range(3):
        sure = 0.2 + 0.8 * torch.rand(400, generator=generator, dtype=torch.float64)
        early = torch.rand(400, generator=generator, dtype=torch.float64) < 0.25 + 0.75 * sure**2
        end = torch.rand(400, generator=generator, dtype=torch.float64) < 0.93
        found.append((sure, early, end, end.double().mean().item() - 0.02, thresholds))
    return found


def _binned(sure: Tensor, right: Tensor, bins: int) -> tuple[Tensor, Tensor]:
    """Pictures of each bin, and how far what they said is from what they were; empty bins are left
    out.
    """
    place = (sure * bins).long().clamp(max=bins - 1)
    counts = torch.stack([(place == one).sum() for one in place.unique()])
    gaps = torch.stack([sure[place == one].mean() - right[place == one].double().mean() for one in place.unique()])
    return counts, gaps


def _ece(sure: Tensor, right: Tensor, bins: int) -> float:
    counts, gaps = _binned(sure, right, bins)
    return ((counts * gaps.abs()).sum() / len(sure)).item()


def _ece_unweighted(sure: Tensor, right: Tensor, bins: int) -> float:
    return _binned(sure, right, bins)[1].abs().mean().item()


def _ece_signed(sure: Tensor, right: Tensor, bins: int) -> float:
    counts, gaps = _binned(sure, right, bins)
    return ((counts * gaps).sum() / len(sure)).item()


def _ece_of_all(sure: Tensor, right: Tensor, bins: int) -> float:
    return (sure.mean() - right.double().mean()).abs().item()


def _ece_largest(sure: Tensor, right: Tensor, bins: int) -> float:
    return _binned(sure, right, bins)[1].abs().max().item()


def _ece_of_pictures(sure: Tensor, right: Tensor, bins: int) -> float:
    return (sure - right.double()).abs().mean().item()


def _ece_squared(sure: Tensor, right: Tensor, bins: int) -> float:
    counts, gaps = _binned(sure, right, bins)
    return ((counts * gaps.square()).sum() / len(sure)).item()


def _confidences(generator: torch.Generator) -> list[tuple]:
    """Confidences (N,) off the edges of bins, and whether they were right: some bins too sure, some
    not enough.
    """
    found = []
    for bins in (5, 10, 4):
        sure = (torch.randint(bins, (300,), generator=generator) + 0.1
                + 0.8 * torch.rand(300, generator=generator, dtype=torch.float64)) / bins
        found.append((sure, torch.rand(300, generator=generator, dtype=torch.float64) < 0.3 + 0.4 * sure, bins))
    return found


def _shares(scores: Tensor) -> Tensor:
    shares, total = torch.zeros_like(scores), 0.0
    for place, score in enumerate(scores.tolist()):
        last = place == len(scores) - 1 or total + score >= 1
        shares[place] = 1 - total if last else score
        if last:
            break
        total += score
    return shares


def _shares_raw(scores: Tensor) -> Tensor:
    return torch.where(scores.cumsum(0) - scores < 1, scores, 0.0)


def _shares_normalised(scores: Tensor) -> Tensor:
    return scores / scores.sum()


def _shares_cut_off(scores: Tensor) -> Tensor:
    return torch.where(scores.cumsum(0) < 1, scores, 0.0)


def _shares_without_end(scores: Tensor) -> Tensor:
    before = scores.cumsum(0) - scores
    return torch.minimum(scores, (1 - before).clamp(min=0))


def _shares_of_chances(scores: Tensor) -> Tensor:
    stays = torch.cat([scores.new_ones(1), (1 - scores).cumprod(0)[:-1]])
    return scores * stays


def _shares_one_late(scores: Tensor) -> Tensor:
    before = scores.cumsum(0) - scores
    shares = torch.where(before < 1, scores, 0.0)
    last = int((before < 1).nonzero()[-1])
    shares[min(last + 1, len(scores) - 1)] += 1 - shares.sum()
    return shares


def _scores(generator: torch.Generator) -> list[tuple]:
    """Halting scores (blocks,): some reach one on the way, some only because the blocks end."""
    def draw(count: int, size: float) -> Tensor:
        return size * (0.5 + torch.rand(count, generator=generator, dtype=torch.float64))

    return [(draw(6, 0.35),), (draw(6, 0.08),), (draw(12, 0.2),), (draw(4, 0.55),)]


EXERCISES = (
    Exercise(
        id="early_exit.mean_cost", points=1, minutes=5, solution=_cost, cases=_leavings, tolerance=1e-6,
        prompt="Mean MACs of a picture, from the exits that pictures took", mistakes=(
            Mistake("mean of exits", _cost_plain, "This is the mean over exits, as if each were taken equally often.",
                    "One cost for each picture, macs[exits], then the mean over pictures."),
            Mistake("cost of the mean exit", _cost_of_mean_exit, "You averaged the numbers of the exits first. Costs "
                    "do "
                    "not rise evenly.", "First macs[exits], then the mean."),
            Mistake("sum", _cost_summed, "This is what all pictures cost together.", "Divide by their number."),
            Mistake("added up twice", _cost_added_up, "You added up costs that are added up already: macs[i] is all "
                    "that "
                    "a picture costs that leaves at i.", "No cumsum."),
            Mistake("the slowest", _cost_of_slowest, "This is what each picture would cost if all waited for the last "
                    "one. They leave the batch.", "macs[exits].mean()"),
            Mistake("the end forgotten", _cost_without_end, "Pictures that go to the end are missing. They cost the "
                    "most.",
                    "The last entry of macs is the end, and exits may name it."),
        )),
    Exercise(
        id="early_exit.patience", points=2, minutes=12, solution=_patience, cases=_names,
        prompt="The exit at which each picture leaves, when so many exits in a row have to agree", mistakes=(
            Mistake("not in a row", _patience_in_all, "You count all exits that named this class. They must follow "
                    "each "
                    "other: one that disagrees starts the count anew.", "Set the run back to 1 where the class "
                    "changes."),
            Mistake("one too many", _patience_one_more, "You wait for one exit too many: it is `agree` exits that name "
                    "the same class, not so many repetitions.", "A run begins at 1."),
            Mistake("one too few", _patience_one_less, "Your pictures leave one exit too early.",
                    "The exit itself counts: with agree=2 it and the one before it."),
            Mistake("the last chance", _patience_too_late, "You found the last place at which so many agree. Whoever "
                    "may leave does so at once.", "Note the first exit only."),
            Mistake("counted from one", _patience_from_one, "Each is one too high: exits are counted from 0.",
                    "The first exit is 0, the end is len(named)."),
            Mistake("no end", _patience_end_is_last_exit, "Pictures that never agree leave at the last exit in your "
                    "answer. They go on to the end.", "Start from a tensor full of len(named)."),
            Mistake("where the run began", _patience_start_of_run, "You give the exit where the run of equal answers "
                    "began. There nobody knew that others would agree.", "The exit at which the run is long enough."),
        )),
    Exercise(
        id="early_exit.threshold", points=2, minutes=12, solution=_threshold, cases=_validations,
        prompt="The smallest threshold that keeps a wanted accuracy of the whole", mistakes=(
            Mistake("those that leave", _threshold_of_leavers, "You ask for the accuracy of those that leave. The "
                    "others "
                    "count as well, with what the end says of them.", "torch.where(sure >= threshold, early, end)"),
            Mistake("the largest", _threshold_largest, "The largest threshold is as accurate, and lets nobody leave.",
                    "The first that reaches it."),
            Mistake("the most accurate", _threshold_most_accurate, "This one is the most accurate. We want the "
                    "cheapest "
                    "that is accurate enough.", "Stop at the first that reaches `wanted`."),
            Mistake("confidence taken for accuracy", _threshold_itself, "You took the wanted accuracy for the "
                    "threshold. "
                    "That would need an exit that keeps its word, and would count those that leave alone.",
                    "Try the thresholds one by one."),
            Mistake("the end never errs", _threshold_end_is_right, "Your end is always right. It errs, too.",
                    "Use `end`, (N,), for those that stay."),
            Mistake("the wrong way round", _threshold_wrong_way, "In your answer the unsure ones leave.",
                    "At sure >= threshold the exit's answer counts, else the end's."),
        )),
    Exercise(
        id="early_exit.ece", points=2, minutes=10, solution=_ece, cases=_confidences,
        prompt="The expected calibration error", mistakes=(
            Mistake("bins weigh the same", _ece_unweighted, "A bin of two pictures counts as much as one of two "
                    "hundred.",
                    "Weigh each gap by its share of the pictures."),
            Mistake("signed", _ece_signed, "Too sure here and too modest there cancel in your sum.",
                    "The absolute gap of each bin."),
            Mistake("one bin", _ece_of_all, "You compare all pictures at once: mean confidence and accuracy. A model "
                    "can "
                    "get that right and be wrong in every bin.", "The gap of each bin first."),
            Mistake("the largest gap", _ece_largest, "This is the maximum calibration error.",
                    "The mean over pictures of their bin's gap."),
            Mistake("no bins", _ece_of_pictures, "You compare each picture with itself. A single answer is right or "
                    "wrong, never 80 %.", "Average in bins, then compare."),
            Mistake("squared", _ece_squared, "The gaps are squared.", "Absolute values."),
        )),
    Exercise(
        id="early_exit.halting", points=2, minutes=12, solution=_shares, cases=_scores,
        prompt="What each block counts in a token's mean: scores, and the remainder", mistakes=(
            Mistake("no remainder", _shares_raw, "Your shares overshoot one where the token halts, or stay under it.",
                    "At the last block that runs, the share is what is left to one."),
            Mistake("normalised", _shares_normalised, "You divided by the sum of all scores. Then nothing ever halts, "
                    "and "
                    "the first block's share hangs on the last block's score.", "Add up until one is reached."),
            Mistake("cut off", _shares_cut_off, "The block at which the token halts counts nothing in your answer.",
                    "It counts by the remainder, 1 minus the sum before it."),
            Mistake("the end gives no remainder", _shares_without_end, "Where the scores never reach one, your shares "
                    "sum "
                    "to less.", "The last block takes all that is left."),
            Mistake("chances", _shares_of_chances, "You took scores for chances of halting at each block. Here they "
                    "are "
                    "added up.", "A running sum, not a product."),
            Mistake("one block late", _shares_one_late, "The remainder comes one block late, and may be below zero.",
                    "The block whose score would lead to one or beyond gets it."),
        )),
    Exercise(
        id="early_exit.unused", points=1, minutes=8, solution=_PAYS, cases=None, tolerance=2e-3,
        prompt="The percentage of pictures that must leave at the last of eleven exits for all exits to pay", mistakes=(
            Mistake("one exit", 100 * _HEAD / _BLOCK, "This pays for one exit. A picture that leaves at the eleventh has "
                    "been "
                    "through all eleven.", "All pictures pay for 11 heads."),
            Mistake("a share", _PAYS / 100, "This is a share between 0 and 1.", "In percent: a hundred times as much."),
            Mistake("without attention", 1100 * _HEAD / (12 * 197 * 384**2), "The two products of attention are missing "
                    "in "
                    "your block.", "12 N d^2 + 2 N^2 d."),
            Mistake("a head for each token", 1100 * 197 * _HEAD / _BLOCK, "Your exits read all tokens. They read the "
                    "class "
                    "token alone.", "d times the classes, once."),
            Mistake("of the whole model", 1100 * _HEAD / (12 * _BLOCK), "You compare with the whole model. Who leaves "
                    "at the "
                    "last exit is spared one block.", "Divide by the MACs of one block."),
            Mistake("upside down", 100 * _BLOCK / (11 * _HEAD), "Upside down: a block is worth far more than the exits.",
                    "Cost of the exits over what one picture is spared."),
        )),
)
