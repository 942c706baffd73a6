"""Whole numbers of any type are taken everywhere, and no others: counts, sizes, seeds, steps, layers."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy
import pytest
import torch
from torch import Tensor

from lightvit_lab import checkpoint, data, explain, models, profiling, training
from lightvit_lab.compression.low_rank.factors import factorize
from lightvit_lab.compression.low_rank.attention import replace_attention
from lightvit_lab.compression.pruning.pruners import prune_mlp
from lightvit_lab.compression.pruning.unstructured import prune_weights
from lightvit_lab.distillation.response_distillation.objectives import SoftTargets
from lightvit_lab.distillation.feature_distillation.mimicking import lift_last_layer
from lightvit_lab.distillation.feature_distillation.structured import Manifold
from lightvit_lab.dynamic.early_exit.block_skipping import add_skipping
from lightvit_lab.dynamic.early_exit.exits import add_exits
from lightvit_lab.dynamic.early_exit.rules import Patience
from lightvit_lab.dynamic.token_merging.diffrate import reduce_tokens
from lightvit_lab.dynamic.token_merging.merging import merge_tokens
from lightvit_lab.dynamic.token_pruning.pruning import prune_tokens
from lightvit_lab.errors import LabError, plain_numbers, require_multiple, require_range, require_whole

KINDS = [int, float, numpy.int64, numpy.uint8, numpy.float32, numpy.array, torch.tensor, lambda value: torch.tensor(float(value))]
SHAPES = data.load("shapes", count=40)
QUICK = {"progress": False, "threads": 1, "precision": "float32", "attention": "fused", "steps": 1, "batch_size": 4}


def small(depth=2):
    torch.manual_seed(0)
    return models.create_model("lab_vit_student", dim=32, depth=depth, num_heads=2)


def text(model):
    return json.dumps(model.recipe, sort_keys=True)      # 8 and 8.0 differ there, and NumPy's have no place


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_number_of_any_type_is_an_int_afterwards(kind):
    assert [type(found) for found in (require_whole("f", "n", kind(10), 0), require_multiple("f", "n", kind(10), 5, ""))
            ] == [int, int]
    assert require_whole("f", "n", kind(10), 0) == 10 == require_range("f", "n", kind(10), 0, 10)


@pytest.mark.parametrize("wrong", [10.5, True, float("nan"), float("inf"), -float("inf"), "10", None, [10], 1j,
                                   numpy.float64(10.5), numpy.bool_(True), torch.tensor([10, 11]), torch.tensor(0.5)])
def test_no_other_is_taken(wrong):
    with pytest.raises(LabError, match="f: n=.*give a whole number"):
        require_whole("f", "n", wrong, 0)


def test_infinity_is_no_number_in_a_range():
    with pytest.raises(LabError, match="give a number with 0 <= r"):
        require_range("f", "r", float("inf"), 0)


def test_annotated_arguments_arrive_as_plain_numbers_and_others_untouched():
    @plain_numbers
    def given(count: int, share: float = 1.0, several: Sequence[int] = (), either: Tensor | int = 0,
              name: str = "", *, last: int | None = None):
        return count, share, several, either, name, last

    weight = torch.tensor(2.0, requires_grad=True)
    found = given(numpy.int64(3), numpy.float32(0.5), numpy.array([1, 2]), weight, 7, last=4.0)
    assert found[:3] == (3, 0.5, [1, 2]) and found[3] is weight and found[4:] == (7, 4)
    assert [type(one) for one in (*found[:2], *found[2], found[5])] == [int, float, int, int, int]
    assert given(1) == (1, 1.0, (), 0, "", None) and given.__name__ == "given"


TAKEN = {
    "data.load count": lambda n: len(data.load("shapes", count=n)),
    "data.load digits": lambda n: len(data.load("digits", count=n)),
    "data.load image_size": lambda n: data.load("digits", image_size=n, count=2).pixels.shape[-1],
    "data.load seed": lambda n: data.load("digits", seed=n, count=2).labels.tolist(),
    "shapes seed": lambda n: data.load("shapes", seed=n, count=2).labels.tolist(),
    "evaluate": lambda n: training.evaluate(small(), SHAPES, batch_size=n).count,
    "fit steps": lambda n: len(training.fit(small(), SHAPES, **{**QUICK, "steps": n}).loss),
    "fit seed": lambda n: training.fit(small(), SHAPES, **QUICK, seed=n).loss,
    "fit batch_size": lambda n: training.fit(small(), SHAPES, **{**QUICK, "batch_size": n}).images_seen,
    "fit threads": lambda n: training.fit(small(), SHAPES, **{**QUICK, "threads": n}).choices["threads"],
    "fit checks": lambda n: len(training.fit(small(), SHAPES, **{**QUICK, "steps": 8}, validation=SHAPES, checks=n).scores),
    "count": lambda n: profiling.count(torch.nn.Conv2d(8, 4, 3), input_size=(n, 32, 32)).macs,
    "estimate_vit": lambda n: profiling.estimate_vit(32, 4, 32, n).macs,
    "SoftTargets": lambda n: repr(SoftTargets(steps=n, final_temperature=1)),
    "Manifold": lambda n: repr(Manifold(samples=n)),
    "Patience": lambda n: repr(Patience(n)),
    "random_map": lambda n: explain.random_map(n, n)(None, torch.zeros(1, 3, 32, 32)).tolist(),
    "occlusion": lambda n: explain.occlusion(small(), torch.zeros(1, 3, 32, 32), patch_size=n).shape,
}
PLANS = {
    "create_model": lambda n: models.create_model("lab_vit_student", dim=4 * n, depth=n, num_heads=2),
    "create_model of timm": lambda n: models.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=3 * n,
                                                          depth=n, num_classes=n),
    "create_model of stages": lambda n: models.create_model("lab_cnn", widths=(n, n), num_classes=n),
    "factorize": lambda n: factorize(small(), rank=n),
    "replace_attention": lambda n: replace_attention(small(), "nystrom", rank=n),
    "prune_mlp": lambda n: prune_mlp(small(), 0.25, multiple_of=n),
    "prune_weights": lambda n: prune_weights(small(), 0.5, seed=n, importance="random"),
    "merge_tokens": lambda n: merge_tokens(small(), r=n),
    "merge_tokens by block": lambda n: merge_tokens(small(), r=[n, n]),
    "reduce_tokens, pruned": lambda n: reduce_tokens(small(), [0, n], 0),
    "reduce_tokens, merged": lambda n: reduce_tokens(small(), 0, [n, 0]),
    "prune_tokens": lambda n: prune_tokens(small(10), 0.5, layers=[n]),
    "add_exits": lambda n: add_exits(small(10), layers=[n]),
    "add_skipping": lambda n: add_skipping(small(10), layers=(n,)),
    "lift_last_layer": lambda n: lift_last_layer(small(), n),
}


@pytest.mark.parametrize("kind", [float, numpy.int64, torch.tensor])
@pytest.mark.parametrize("name", TAKEN)
def test_public_functions_take_any_type_and_do_the_same(name, kind):
    assert TAKEN[name](kind(8)) == TAKEN[name](8)


@pytest.mark.parametrize("kind", [float, numpy.int64, numpy.float32])
@pytest.mark.parametrize("name", PLANS)
def test_recipes_hold_plain_ints_whatever_was_given(name, kind, tmp_path):
    found, plain = PLANS[name](kind(8)), PLANS[name](8)
    assert text(found) == text(plain)
    checkpoint.save(found, tmp_path / "model.safetensors")
    assert text(checkpoint.load(tmp_path / "model.safetensors")) == text(plain)


@pytest.mark.parametrize("wrong", [8.5, True, float("nan"), float("inf")])
@pytest.mark.parametrize("name", [*TAKEN, *PLANS])
def test_public_functions_refuse_what_is_no_whole_number(name, wrong):
    with pytest.raises(LabError, match="whole number|give a number"):
        {**TAKEN, **PLANS}[name](wrong)


@pytest.mark.parametrize("seed", [-1, 2**40])
def test_the_sets_agree_on_seeds(seed):
    for name in ("digits", "shapes"):
        with pytest.raises(LabError, match="seed="):
            data.load(name, seed=seed, count=2)
