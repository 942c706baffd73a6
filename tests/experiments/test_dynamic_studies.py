"""The studies of token pruning and merging: rows as they say, tokens and MACs that fall, times. Small runs on digits."""

import dataclasses

import pytest
import torch

from lightvit_lab import models
from lightvit_lab.dynamic.token_merging import merge_tokens, source_map
from lightvit_lab.dynamic.token_pruning.choosing import kept_patches
from lightvit_lab.dynamic.token_pruning.pruning import prune_tokens
from lightvit_lab.experiments import base, dynamic

COMMON = {"label", "recipe", "method", "setting", "schedule", "proportional", "stage", "seed", "test", "test_low", "test_high",
          "params", "macs", "bytes", "tokens", "latency_ms", "interval_ms", "speedup", "latency_1_ms", "interval_1_ms", "speedup_1"}


def few(label, *stages):
    """A row of the book with other stages and one seed."""
    return dataclasses.replace(dynamic.PRUNING_ROWS[label], stages=stages, seeds=(0,))


ROWS = {
    "merge": dynamic.MERGING_ROWS["merge r=2"],
    "evit": few("evit 0.5", "off the shelf", "fine-tuned"),
    "dynamicvit": few("dynamicvit 0.5", "fine-tuned"),
    "ats": few("ats 0.5", "off the shelf"),
    "looks": few("coarse to fine 0.5", "off the shelf", dynamic.LOOKS_STAGE),
}


@pytest.fixture(scope="module")
def found(put_base, tmp_path_factory):
    """A study of four rows on an untrained model and the digits, made once; its runs are cached in a folder of its own."""
    with pytest.MonkeyPatch.context() as patch:
        put_base(patch, tmp_path_factory.mktemp("runs"), depth=4)
        for name, value in {"TIMING_S": 0.1, "LARGE_S": 0.1, "SIZES": (64,), "BATCHES": {"": 4, "_1": 1},
                            "LOOKS": {**base.FINE_TUNING, "steps": 2}}.items():
            patch.setattr(dynamic, name, value)
        yield dynamic._study("tiny", ROWS, dynamic.MERGE_LARGE)()


def test_every_row_has_its_stages_costs_and_times_beside_the_dense_model(found):
    assert [(row["label"], row["stage"]) for row in found["rows"]] == [
        ("merge", "off the shelf"), ("evit", "off the shelf"), ("evit", "fine-tuned"), ("dynamicvit", "fine-tuned"),
        ("ats", "off the shelf"), ("looks", "off the shelf"), ("looks", "fine-tuned, 300 steps")]
    assert all(COMMON <= set(row) and row["macs"] < found["dense"]["macs"] for row in found["rows"][:5])
    assert {"latency_ms", "latency_1_ms", "test", "macs"} <= set(found["dense"])


def test_tokens_left_are_those_the_method_keeps(found):
    merge, evit, _, dynamicvit, ats, looks, _ = (row["tokens"] for row in found["rows"])
    assert merge == 65 - 4 * 2
    assert evit == 1 + 17 + 1              # of 64 image tokens 32 and a fused one, of these 33 again half and a fused one
    assert dynamicvit == 1 + 16
    assert 1 < ats <= evit
    assert looks == 1 + 4 * 8 + 8          # of 16 regions 8 in four small patches each, 8 stay large


def test_macs_of_adaptive_sampling_are_means_over_real_pictures(found):
    row = next(row for row in found["rows"] if row["label"] == "ats")
    model = prune_tokens(base.model(), 0.5, dynamic.LAYERS, "ats")
    images = dynamic.data.load("digits", "test").batch(torch.arange(dynamic.COUNTED))[0]
    macs = [dynamic.profiling.count(dynamic.OnePicture(model, image[None]), (3, 32, 32)).macs for image in images]
    assert min(macs) <= row["macs"] <= max(macs) and row["macs"] == sum(macs) // len(macs)


def test_leaving_after_the_coarse_look_lies_between_the_two_looks_and_costs_what_each_picture_needs(found):
    for row in found["rows"][-2:]:
        (first, second), leaving = row["looks"], row["leaving"]
        assert second["test"] == row["test"] and leaving[-1] == {
            "threshold": 1.0, "early": 0.0, **second, "macs": row["macs"]}
        once = dynamic.profiling.count(dynamic.coarse_to_fine(base.model(), 0.0, reuse=True), (3, 32, 32)).macs
        assert all(abs(one["macs"] - one["early"] * once - (1 - one["early"]) * row["macs"]) < 1e-4 * row["macs"]
                   for one in leaving)
        assert all(before["early"] >= after["early"] for before, after in zip(leaving, leaving[1:]))
    assert found["rows"][-2]["looks"] != found["rows"][-1]["looks"]              # the second one was trained


def test_pairs_at_random_are_as_many_and_others_for_each_picture_and_each_call():
    torch.manual_seed(0)
    model = models.create_model("lab_vit_student", dim=32, depth=4).eval()
    merged, images = dynamic.merge_at_random(model, 8), torch.randn(1, 3, 32, 32).expand(2, -1, -1, -1)
    maps = []
    for _ in range(2):
        with torch.inference_mode():
            merged(images)
        maps += [*source_map(merged)]
    assert merged.tokens_per_block == merge_tokens(model, 8).tokens_per_block == [57, 49, 41, 33]
    assert len({tuple(one.tolist()) for one in maps}) == 4 and all(len(one.unique()) == 33 for one in maps)


def test_larger_pictures_are_timed_beside_the_same_model_whole(found):
    (first, second) = found["sizes"]
    assert (first["image_size"], first["tokens"]) == (64, 17) and first["macs_gain"] > 1
    assert len(second["speedup"]) == 3 and all(value > 0 for value in second["speedup"])


def test_random_choices_keep_as_many_tokens_and_differ_from_picture_to_picture():
    torch.manual_seed(0)
    model = models.create_model("lab_vit_student", dim=32, depth=4).eval()
    pruned = dynamic.prune_at_random(model, 0.25, (1,))
    (places,) = kept_patches(pruned, torch.randn(8, 3, 32, 32))
    assert places.shape == (8, 16) and len({tuple(sorted(row)) for row in places.tolist()}) == 8


def test_the_rows_of_the_book_have_every_method_the_pages_speak_of():
    merging, pruning = dynamic.MERGING_ROWS.values(), dynamic.PRUNING_ROWS.values()
    assert {row.columns["method"] for row in merging} == {"weighted", "mean", "max", "prune", "mlerp", "tofu", "cluster", "random", "dense"}
    assert {row.columns["method"] for row in pruning} == {"evit", "topk", "ats", "dynamicvit", "random", "coarse to fine", "dense"}
