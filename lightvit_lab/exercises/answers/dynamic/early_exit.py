"""Known wrong answers to the exercises of `chapters/dynamic/early_exit`."""

from __future__ import annotations

import torch
from torch import Tensor
from .. import Mistake


_BLOCK = 12 * 197 * 384**2 + 2 * 197**2 * 384            # MACs of a block of DeiT-S


_HEAD = 384 * 1000                                       # and of a linear layer on its class token


_PAYS = 100 * 11 * _HEAD / _BLOCK                       # percent


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


def _binned(sure: Tensor, right: Tensor, bins: int) -> tuple[Tensor, Tensor]:
    """Pictures of each bin, and how far what they said is from what they were; empty bins are left
    out.
    """
    place = (sure * bins).long().clamp(max=bins - 1)
    counts = torch.stack([(place == one).sum() for one in place.unique()])
    gaps = torch.stack([sure[place == one].mean() - right[place == one].double().mean() for one in place.unique()])
    return counts, gaps


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


MISTAKES = {
    "early_exit.mean_cost": (
        Mistake("mean of exits", "This is the mean over exits, as if each were taken equally often.",
                "One cost for each picture, macs[exits], then the mean over pictures.", answer=_cost_plain),
        Mistake("cost of the mean exit", "You averaged the numbers of the exits first. Costs do not rise evenly.",
                "First macs[exits], then the mean.", answer=_cost_of_mean_exit),
        Mistake("sum", "This is what all pictures cost together.",
                "Divide by their number.", answer=_cost_summed),
        Mistake("added up twice", "You added up costs that are added up already: macs[i] is all that a picture costs that leaves at i.",
                "No cumsum.", answer=_cost_added_up),
        Mistake("the slowest", "This is what each picture would cost if all waited for the last one. They leave the batch.",
                "macs[exits].mean()", answer=_cost_of_slowest),
        Mistake("the end forgotten", "Pictures that go to the end are missing. They cost the most.",
                "The last entry of macs is the end, and exits may name it.", answer=_cost_without_end),
    ),
    "early_exit.patience": (
        Mistake("not in a row", "You count all exits that named this class. They must follow each other: one that disagrees starts the count anew.",
                "Set the run back to 1 where the class changes.", answer=_patience_in_all),
        Mistake("one too many", "You wait for one exit too many: it is `agree` exits that name the same class, not so many repetitions.",
                "A run begins at 1.", answer=_patience_one_more),
        Mistake("one too few", "Your pictures leave one exit too early.",
                "The exit itself counts: with agree=2 it and the one before it.", answer=_patience_one_less),
        Mistake("the last chance", "You found the last place at which so many agree. Whoever may leave does so at once.",
                "Note the first exit only.", answer=_patience_too_late),
        Mistake("counted from one", "Each is one too high: exits are counted from 0.",
                "The first exit is 0, the end is len(named).", answer=_patience_from_one),
        Mistake("no end", "Pictures that never agree leave at the last exit in your answer. They go on to the end.",
                "Start from a tensor full of len(named).", answer=_patience_end_is_last_exit),
        Mistake("where the run began", "You give the exit where the run of equal answers began. There nobody knew that others would agree.",
                "The exit at which the run is long enough.", answer=_patience_start_of_run),
    ),
    "early_exit.threshold": (
        Mistake("those that leave", "You ask for the accuracy of those that leave. The others count as well, with what the end says of them.",
                "torch.where(sure >= threshold, early, end)", answer=_threshold_of_leavers),
        Mistake("the largest", "The largest threshold is as accurate, and lets nobody leave.",
                "The first that reaches it.", answer=_threshold_largest),
        Mistake("the most accurate", "This one is the most accurate. We want the cheapest that is accurate enough.",
                "Stop at the first that reaches `wanted`.", answer=_threshold_most_accurate),
        Mistake("confidence taken for accuracy", "You took the wanted accuracy for the threshold. That would need an exit that keeps its word, and would count those that leave alone.",
                "Try the thresholds one by one.", answer=_threshold_itself),
        Mistake("the end never errs", "Your end is always right. It errs, too.",
                "Use `end`, (N,), for those that stay.", answer=_threshold_end_is_right),
        Mistake("the wrong way round", "In your answer the unsure ones leave.",
                "At sure >= threshold the exit's answer counts, else the end's.", answer=_threshold_wrong_way),
    ),
    "early_exit.ece": (
        Mistake("bins weigh the same", "A bin of two pictures counts as much as one of two hundred.",
                "Weigh each gap by its share of the pictures.", answer=_ece_unweighted),
        Mistake("signed", "Too sure here and too modest there cancel in your sum.",
                "The absolute gap of each bin.", answer=_ece_signed),
        Mistake("one bin", "You compare all pictures at once: mean confidence and accuracy. A model can get that right and be wrong in every bin.",
                "The gap of each bin first.", answer=_ece_of_all),
        Mistake("the largest gap", "This is the maximum calibration error.",
                "The mean over pictures of their bin's gap.", answer=_ece_largest),
        Mistake("no bins", "You compare each picture with itself. A single answer is right or wrong, never 80 %.",
                "Average in bins, then compare.", answer=_ece_of_pictures),
        Mistake("squared", "The gaps are squared.",
                "Absolute values.", answer=_ece_squared),
    ),
    "early_exit.halting": (
        Mistake("no remainder", "Your shares overshoot one where the token halts, or stay under it.",
                "At the last block that runs, the share is what is left to one.", answer=_shares_raw),
        Mistake("normalised", "You divided by the sum of all scores. Then nothing ever halts, and the first block's share hangs on the last block's score.",
                "Add up until one is reached.", answer=_shares_normalised),
        Mistake("cut off", "The block at which the token halts counts nothing in your answer.",
                "It counts by the remainder, 1 minus the sum before it.", answer=_shares_cut_off),
        Mistake("the end gives no remainder", "Where the scores never reach one, your shares sum to less.",
                "The last block takes all that is left.", answer=_shares_without_end),
        Mistake("chances", "You took scores for chances of halting at each block. Here they are added up.",
                "A running sum, not a product.", answer=_shares_of_chances),
        Mistake("one block late", "The remainder comes one block late, and may be below zero.",
                "The block whose score would lead to one or beyond gets it.", answer=_shares_one_late),
    ),
    "early_exit.unused": (
        Mistake("one exit", "This pays for one exit. A picture that leaves at the eleventh has been through all eleven.",
                "All pictures pay for 11 heads.", answer=100 * _HEAD / _BLOCK),
        Mistake("a share", "This is a share between 0 and 1.",
                "In percent: a hundred times as much.", answer=_PAYS / 100),
        Mistake("without attention", "The two products of attention are missing in your block.",
                "12 N d^2 + 2 N^2 d.", answer=1100 * _HEAD / (12 * 197 * 384**2)),
        Mistake("a head for each token", "Your exits read all tokens. They read the class token alone.",
                "d times the classes, once.", answer=1100 * 197 * _HEAD / _BLOCK),
        Mistake("of the whole model", "You compare with the whole model. Who leaves at the last exit is spared one block.",
                "Divide by the MACs of one block.", answer=1100 * _HEAD / (12 * _BLOCK)),
        Mistake("upside down", "Upside down: a block is worth far more than the exits.",
                "Cost of the exits over what one picture is spared.", answer=100 * _BLOCK / (11 * _HEAD)),
    ),
}
