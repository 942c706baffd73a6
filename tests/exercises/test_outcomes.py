"""Exercises judged by their outcome: several right decisions pass, and each wrong one hears why."""

import itertools

import pytest
import torch

from lightvit_lab.exercises import all_exercises, examine, find, open_exercises, page_of
from lightvit_lab.exercises.compression import low_rank
from lightvit_lab.exercises.outcome import numbers, pairs


def fared(first, second, sure, right, sort, macs):
    """Worst accuracy of the two sorts of pictures, and the mean cost, exit by exit."""
    out, later = sure[0] >= first, sure[1] >= second
    groups = [(out, 0), (~out & later, 1), (~out & ~later, 2)]
    hits = [sum((right[place] & group & (sort == one)).sum() for group, place in groups) / (sort == one).sum() for one in (0, 1)]
    return min(hits).item(), sum(macs[place] * group.double().mean() for group, place in groups).item()


def searched(seconds):
    """Thresholds of the second exit to try, to a function that chooses the best pair."""
    def choose(sure, right, sort, macs, budget, thresholds):
        found = {}
        for first, second in itertools.product(thresholds.tolist()[6:], seconds(thresholds)):
            worst, cost = fared(first, second, sure, right, sort, macs)
            if cost <= budget:
                found[worst] = [first, second]
        return found[max(found)]
    return choose


finest = searched(lambda thresholds: thresholds.tolist()[:5])
careful = searched(lambda thresholds: [0.43, 0.46, 0.49, 0.52, 0.55])


def in_order(sure, right, sort, macs, budget, thresholds):
    """The library's own order of search, as a tensor."""
    chosen = find("early_exit.fair").solution(sure, right, sort, macs, budget, thresholds)
    return torch.tensor(chosen)


def every(*blocks):
    """All four global tokens of these blocks."""
    return [(block, token) for block in blocks for token in range(4)]


def bisected(spectra, costs, budget):
    """Ranks by one price for all layers, found by halving."""
    return low_rank.best_ranks(spectra, costs, budget)


def improved(spectra, costs, budget):
    """Begins with nothing, and gives one unit of rank after the other to the best offer that fits."""
    ranks = [0] * len(spectra)
    gain = lambda i: (spectra[i][ranks[i]]**2 / spectra[i].square().sum()).item() / costs[i] if ranks[i] < 40 else -1
    while True:
        fits = [i for i in range(len(ranks)) if ranks[i] < 40
                and sum(rank * cost for rank, cost in zip(ranks, costs)) + costs[i] <= budget]
        if not fits:
            return ranks
        ranks[max(fits, key=gain)] += 1


def as_tensor(spectra, costs, budget):
    return torch.tensor(improved(spectra, costs, budget))


HALVES = [(block, "mlp") for block in range(1, 6)]
RIGHT = {
    "token_pruning.schedule": [[0.4] * 6, (0.5, 0.4, 0.4, 1, 1, 1), [0.35, 0.5, 0.6, 0.6, 0.6, 1.0], [0.4, 0.4, 0.4, 1, 1, 1]],
    "pruning.ratios": [[0.65] + [0.95] * 5, [0.7, 0.9, 0.95, 0.95, 0.95, 0.95], (0.8, 0.9, 0.9, 0.9, 0.95, 0.95), [0.5] + [0.98] * 5],
    "early_exit.fair": [finest, careful, in_order, searched(lambda thresholds: thresholds.tolist()[:4] + [0.5])],
    "lightvit.lesion": [every(1, 2, 3) + [(0, 1), (0, 2)], {(0, 1), *every(1, 2, 3)}, torch.tensor(every(3, 1, 2)), [[0, 3], *every(1, 2, 3)]],
    "token_merging.plan": [[12] * 6, (16, 16, 8, 8, 4, 2), torch.tensor([8, 16, 16, 8, 4, 2])],
    "low_rank.allocate": [bisected, improved, as_tensor],
    "vision_transformer.halves": [HALVES + [(1, "attn")], [(block, part) for block in (3, 4, 5) for part in ("attn", "mlp")] + [(2, "mlp")],
                                  {*HALVES, (3, "attn"), (4, "attn")}],
    "measuring_efficiency.choose": ["levit_128s", "shvit_s2", " LeViT_192"],
    "reading_attention.report": [("relevance", "energy"), ["Integrated gradients", "pointing"], ("occlusion", "Energy")],
    "response_distillation.temperature": [5.5, 6, torch.tensor(8.0), 9],
    "feature_distillation.layers": [(1, 1), [2, 1], torch.tensor([1, 2]), (2, 2)],
}
WRONG = {
    "token_pruning.schedule": [([1] * 6, "too late"), ([0.06, 1, 1, 1, 1, 1], "all at once"), ([0.1] * 6, "shares of the whole picture"),
                               ([0.4] * 5, None), ([0.4, 0.4, 0.4, 0.4, 0.4, 1.4], None), (0.4, None), ("half", None)],
    "pruning.ratios": [([0] * 6, "shares kept"), ([0.3] + [0.9] * 5, "too many stay"), ([0.92] * 6, "alike"), ([0.97] * 6, "alike"), ([0.96, 0.85, 0.85, 0.9, 0.9, 0.95], "the wrong block"),
                       ([0.9] * 5, None), ([1.0] * 6, None)],
    "early_exit.fair": [(lambda *case: (2.0, 2.0), "no budget"), (lambda *case: torch.zeros(2), "the cheapest"), (lambda *case: 0.9, None),
                        (lambda *case: (0.7, 0.7), "the mean alone")],
    "lightvit.lesion": [([], "too few"), (every(0, 1, 2, 3), "the first block"), ([(0, 2), (0, 3), *every(1, 2, 3)], "the wrong voices"),
                        ([(4, 0)], None), ([0, 1, 2], None), (3, None), ([(0.5, 1)], None)],
    "token_merging.plan": [([0] * 6, "too late"), ([32, 0, 0, 0, 20, 20], "too early"), ([20, 20, 0, 0, 0, 0], "too early"), ([32, 16, 8, 4, 2, 1], "too much"),
                           ([8] * 5, None), ([8.5] * 6, None), ([-1] * 6, None)],
    "low_rank.allocate": [(lambda spectra, costs, budget: [40] * 5, "over budget"), (lambda spectra, costs, budget: [5] * 5, "equal ranks"),
                          (lambda spectra, costs, budget: [1, 2, 3, 4, 5], "budget left over"), (lambda spectra, costs, budget: [0.5] * 5, None),
                          (lambda spectra, costs, budget: [min(40, int(budget / 5 / cost)) for cost in costs], "price forgotten")],
    "vision_transformer.halves": [([], "too few"), (HALVES, "too few"), (HALVES + [(0, "attn"), (1, "attn")], "the first block"),
                                  ([(block, part) for block in range(1, 6) for part in ("mlp", "attn")], "too much"),
                                  ([(6, "mlp")], None), (["mlp"], None), (7, None)],
    "measuring_efficiency.choose": [("repvit_m0_9", "the most accurate"), ("efficientformerv2_s0", "the most accurate"), ("pit_ti_224", "the fewest MACs"), ("swiftformer_xs", "no batch"),
                                    ("resnet50", None), (3, None)],
    "reading_attention.report": [(("KernelSHAP", "pointing"), "no better than the centre"), (("relevance", "iou"), "no better than edges"),
                                 (("rollout, sparse", "energy"), "not about the class"), (("relevance", "deletion"), None), ("relevance", None)],
    "response_distillation.temperature": [(3, "as it is"), (64, "too high"), (0.9, "upside down"), (0, None), ("warm", None), (-2, None)],
    "feature_distillation.layers": [((3, 0), "the last block"), ((0, 1), "the first block"), ((1, 0), "the teacher's first layer"),
                                    ((4, 0), None), (2, None), ((1, 1.5), None)],
}


def test_every_page_has_a_decision_with_three_right_answers_or_more_and_an_open_question():
    pages = {page_of(exercise) for exercise in all_exercises()}
    assert {page_of(find(name)) for name, answers in RIGHT.items() if len(answers) >= 3} == pages
    assert {page_of(question) for question in open_exercises()} == pages
    assert RIGHT.keys() == WRONG.keys()


@pytest.mark.parametrize("name", RIGHT)
def test_each_fault_that_a_judge_names_has_its_hint(name):
    assert len(find(name).mistakes) >= 3
    assert {mistake for _, mistake in WRONG[name]} == {None, *(mistake.name for mistake in find(name).mistakes)}


@pytest.mark.parametrize("name, answer", [(name, answer) for name, answers in RIGHT.items() for answer in answers])
def test_another_right_decision_passes_and_its_figures_are_said(name, answer):
    result = examine(find(name), answer)
    assert result.status == "passed", result
    assert any(character.isdigit() for character in result.message.partition("). ")[2])


@pytest.mark.parametrize("name, answer, mistake", [(name, *pair) for name, pairs in WRONG.items() for pair in pairs])
def test_a_decision_that_breaks_the_limit_or_misses_the_quality_is_refused_with_its_reason(name, answer, mistake):
    result = examine(find(name), answer)
    assert result.status == "wrong" and result.mistake == mistake, result
    assert len(result.message.split()) > 8


def test_the_hint_is_that_of_the_case_that_is_shown_whatever_is_wrong_with_others():
    def undecided(sure, right, sort, macs, budget, thresholds):
        undecided.calls += 1
        return (0.7, 0.7) if undecided.calls == 1 else (2.0, 2.0)

    undecided.calls = 0
    assert examine(find("early_exit.fair"), undecided, 1).mistake == "the mean alone"

    def tired(sure, right, sort, macs, budget, thresholds):
        tired.calls += 1
        right_one = find("early_exit.fair").solution
        return right_one(sure, right, sort, macs, budget, thresholds) if tired.calls == 1 else (2.0, 2.0)

    tired.calls = 0
    assert examine(find("early_exit.fair"), tired, 1).mistake == "no budget"


def test_numbers_come_from_whatever_holds_them():
    import numpy as np
    for answer in ([1, 0.5], (1, 0.5), torch.tensor([1, 0.5]), np.array([1, 0.5]), {"a": 1, "b": torch.tensor(0.5)}):
        assert numbers(answer, ["a", "b"]) == (1.0, 0.5)
    for answer in ([1], [1, "x"], [1, float("nan")], [1, None], None, 3, {"a": 1}, {"a": 1, "c": 2}):
        assert numbers(answer, ["a", "b"]) is None


def test_pairs_come_from_lists_sets_and_tensors():
    for answer in ([(0, 1), [1, 0]], {(0, 1), (1, 0)}, torch.tensor([[0, 1], [1, 0]])):
        assert pairs(answer, range(2), range(2)) == {(0, 1), (1, 0)}
    for answer in ([(0, 2)], [(0,)], [0, 1], None, [("0", 1)], [(0, 0.5)]):
        assert pairs(answer, range(2), range(2)) is None
