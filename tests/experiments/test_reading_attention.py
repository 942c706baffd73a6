import pytest
import torch

from lightvit_lab import data, explain, training
from lightvit_lab.experiments import reading_attention, results


@pytest.fixture(scope="module")
def stored() -> dict:
    return results.load("reading_attention").data


def test_the_stored_weights_score_what_their_run_did(stored):
    score = training.evaluate(reading_attention.trained_model(), data.load("shapes", "test"))
    assert score.accuracy == pytest.approx(stored["runs"][0]["test"], abs=0.002)     # they are kept in float16


def test_every_explainer_of_the_page_is_in_the_stored_run_of_every_seed(stored):
    for part in [*(run["trained"] for run in stored["runs"]), stored["fresh"]]:
        assert list(part["scores"]) == list(reading_attention.EXPLAINERS) and part["count"] == stored["pictures"]
    assert all(list(run["sanity"]) == list(reading_attention.EXPLAINERS) for run in stored["runs"])


@pytest.mark.parametrize("name", ["attention, block 1", "rollout", "relevance", "edges", "random"])
def test_stored_scores_come_out_again(stored, name):
    pictures = data.load("shapes", "test", count=stored["pictures"])
    model, explainer = reading_attention.trained_model(), reading_attention.EXPLAINERS[name]
    maps = torch.cat([explainer(model, part, labels)
                      for part, labels in zip(pictures.inputs.split(50), pictures.labels.split(50))])
    row = stored["runs"][0]["trained"]["scores"][name]
    assert explain.pointing_game(maps, pictures.masks).mean() == pytest.approx(row["pointing"][0], abs=0.01)
    assert explain.energy_in_mask(maps, pictures.masks).mean() == pytest.approx(row["energy"][0], abs=0.005)


def test_maps_that_never_see_the_model_are_told_by_the_check_and_no_other_that_reads_weights_is(stored):
    for run in stored["runs"]:
        ends = {name: row["everything"] for name, row in run["sanity"].items()}
        assert [name for name, value in ends.items() if value > 0.99] == ["edges", "centre", "random"]


def test_intervals_hold_their_means_and_baselines_have_the_same_scores_for_every_seed(stored):
    runs = [run["trained"]["scores"] for run in stored["runs"]]
    for scores in runs:
        assert all(low <= mean <= high for row in scores.values() for mean, low, high in row.values())
        assert all(scores[name]["pointing"] == runs[0][name]["pointing"] for name in ("edges", "centre", "random"))


def test_the_stored_comparison_in_pairs_agrees_with_the_stored_means(stored):
    pairs = results.load("reading_attention_beyond").data
    scores, first = stored["runs"][0]["trained"]["scores"], pairs["runs"][0]["beyond"]
    assert [run["seed"] for run in pairs["runs"]] == [0, 1, 2] and pairs["pictures"] == stored["pictures"]
    assert set(first) == set(reading_attention.EXPLAINERS) - set(reading_attention.BASELINES)
    for name, row in first.items():
        for measure, (mean, low, high) in row.items():
            sign = -1 if measure == "deletion" else 1
            best = max(sign * scores[idle][measure][0] for idle in reading_attention.BASELINES)
            assert mean == pytest.approx(sign * scores[name][measure][0] - best, abs=0.012), (name, measure)
            assert low <= mean <= high


def test_a_stored_comparison_in_pairs_comes_out_again(stored):
    pictures = data.load("shapes", "test", count=stored["pictures"])
    names = ("rollout", *reading_attention.BASELINES)
    explainers = {name: reading_attention.EXPLAINERS[name] for name in names}
    found = explain.localize(reading_attention.trained_model(), pictures, explainers, "labels", steps=1, progress=False)
    again = found.beyond(reading_attention.BASELINES)["rollout"]
    row = results.load("reading_attention_beyond").data["runs"][0]["beyond"]["rollout"]
    for measure in ("pointing", "energy", "iou"):
        assert again[measure] == pytest.approx(row[measure], abs=0.005), measure
