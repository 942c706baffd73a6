"""The studies of token pruning and merging: rows as they say, tokens and MACs that fall, times. Small runs on digits."""

import dataclasses

import pytest
import torch

from lightvit_lab import models
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
}


@pytest.fixture(scope="module")
def found(put_base, tmp_path_factory):
    """A study of four rows on an untrained model and the digits, made once; its runs are cached in a folder of its own."""
    with pytest.MonkeyPatch.context() as patch:
        put_base(patch, tmp_path_factory.mktemp("runs"), depth=4)
        for name, value in {"TIMING_S": 0.1, "LARGE_S": 0.1, "SIZES": (64,), "BATCHES": {"": 4, "_1": 1}}.items():
            patch.setattr(dynamic, name, value)
        yield dynamic._study("tiny", ROWS, dynamic.MERGE_LARGE)()


def test_every_row_has_its_stages_costs_and_times_beside_the_dense_model(found):
    assert [(row["label"], row["stage"]) for row in found["rows"]] == [
        ("merge", "off the shelf"), ("evit", "off the shelf"), ("evit", "fine-tuned"), ("dynamicvit", "fine-tuned"),
        ("ats", "off the shelf")]
    assert all(COMMON <= set(row) and row["macs"] < found["dense"]["macs"] for row in found["rows"])
    assert {"latency_ms", "latency_1_ms", "test", "macs"} <= set(found["dense"])


def test_tokens_left_are_those_the_method_keeps(found):
    merge, evit, _, dynamicvit, ats = (row["tokens"] for row in found["rows"])
    assert merge == 65 - 4 * 2
    assert evit == 1 + 17 + 1              # of 64 image tokens 32 and a fused one, of these 33 again half and a fused one
    assert dynamicvit == 1 + 16
    assert 1 < ats <= evit


def test_macs_of_adaptive_sampling_are_means_over_real_pictures(found):
    row = found["rows"][-1]
    model = prune_tokens(base.model(), 0.5, dynamic.LAYERS, "ats")
    images = dynamic.data.load("digits", "test").batch(torch.arange(dynamic.COUNTED))[0]
    macs = [dynamic.profiling.count(dynamic.OnePicture(model, image[None]), (3, 32, 32)).macs for image in images]
    assert min(macs) <= row["macs"] <= max(macs) and row["macs"] == sum(macs) // len(macs)


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
    assert {row.columns["method"] for row in merging} == {"weighted", "mean", "max", "prune", "mlerp", "tofu", "cluster"}
    assert {row.columns["method"] for row in pruning} == {"evit", "topk", "ats", "dynamicvit", "random"}
