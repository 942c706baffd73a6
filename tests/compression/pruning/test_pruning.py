"""The public functions: how much goes, what stays as it was, budgets, and what is refused."""

import json

import pytest
import torch
from drawn_weights import pictures
from small_models import EVERY, PICTURES, PLAIN, small

from lightvit_lab import data, models, profiling, training
from lightvit_lab.compression.pruning.budgets import units_to_keep
from lightvit_lab.compression.pruning.pruners import (prune, prune_blocks, prune_embedding, prune_head_width, prune_heads,
                                                      prune_mlp, sensitivity)
from lightvit_lab.errors import LabError

LABELS = torch.tensor([3, 1, 4, 1, 5, 9])
FUNCTIONS = (prune_mlp, prune_heads, prune_head_width, prune_embedding, prune_blocks)


def calibration():
    return pictures(1, *PICTURES), LABELS


def widths(model):
    """Neurons, heads and head width of every block."""
    blocks = [part for part in model.modules() if hasattr(part, "attn") and hasattr(part, "mlp")]
    return [(block.mlp.fc2.in_features, block.attn.num_heads, block.attn.proj.in_features // block.attn.num_heads)
            for block in blocks]


@pytest.mark.parametrize("kind", EVERY)
def test_every_function_returns_a_smaller_model_and_leaves_its_argument_untouched(kind):
    for prune in FUNCTIONS:
        if prune is prune_embedding and kind not in PLAIN:
            continue
        whole = small(kind).train()
        before, recipe = {name: value.clone() for name, value in whole.state_dict().items()}, whole.recipe
        pruned = prune(whole, 0.5, "taylor", calibration())
        assert whole.training and not pruned.training and whole.recipe is recipe and "plans" not in recipe
        assert all(torch.equal(value, before[name]) for name, value in whole.state_dict().items())
        assert profiling.count(pruned, (3, 32, 32)).macs < profiling.count(whole, (3, 32, 32)).macs
        assert type(pruned) is type(whole) and pruned(pictures(2, *PICTURES)).shape == (6, 10)
        plan = pruned.recipe["plans"][-1]
        assert plan["transform"] == "prune" and json.loads(json.dumps(plan)) == plan


def test_at_least_the_share_asked_for_goes_from_every_layer():
    whole = small()
    assert widths(prune_mlp(whole, 0.3)) == [(33, 3, 8)] * 3          # 0.7 * 48 = 33.6
    assert widths(prune_heads(whole, 0.34)) == [(48, 1, 8)] * 3       # as Torch-Pruning rounds
    assert widths(prune_heads(whole, 1 / 3)) == [(48, 2, 8)] * 3
    assert widths(prune_head_width(whole, 0.25)) == [(48, 3, 6)] * 3
    assert prune_embedding(whole, 0.5).dim == 12
    assert len(prune_blocks(whole, 0.3).blocks) == 2
    assert widths(prune_mlp(whole, 0)) == widths(whole)


def test_widths_are_rounded_down_to_what_the_hardware_likes():
    whole = small()
    assert widths(prune_mlp(whole, 0.3, multiple_of=8)) == [(32, 3, 8)] * 3
    assert widths(prune_head_width(whole, 0.2, multiple_of=4)) == [(48, 3, 4)] * 3
    assert prune_embedding(whole, 0.2, multiple_of=16).dim == 16
    assert widths(prune_mlp(whole, 0, multiple_of=32)) == widths(whole), "where nothing goes, nothing is rounded"
    found = widths(prune_mlp(whole, 0.4, "taylor", calibration(), budget="global", multiple_of=16))
    assert all(neurons % 16 == 0 for neurons, _, _ in found) and sum(neurons for neurons, _, _ in found) == 80


def test_a_dict_prunes_the_layers_that_it_names_alone():
    ratios = {"blocks.0.mlp": 0.5, "blocks.2.mlp": 0.25}
    assert widths(prune_mlp(small(), ratios)) == [(24, 3, 8), (48, 3, 8), (36, 3, 8)]
    assert len(prune_blocks(small(), {"blocks.1": 1, "blocks.0": 0}).blocks) == 2


def test_the_units_that_stay_are_those_with_the_highest_scores():
    whole = small("timm")
    with torch.no_grad():
        whole.blocks[1].mlp.fc1.weight[10:34] *= 1e-3
        whole.blocks[1].mlp.fc2.weight[:, 10:34] *= 1e-3
    plan = prune_mlp(whole, 0.5).recipe["plans"][0]
    assert plan["kept"]["blocks.1.mlp"] == [*range(10), *range(34, 48)]


def test_a_global_budget_takes_more_where_less_is_lost_and_leaves_one_unit_in_each_layer():
    found = {"one": torch.tensor([9.0, 8, 7, 6]), "two": torch.tensor([1.0, 2, 3, 4]), "three": torch.zeros(4)}
    kept = units_to_keep("prune_mlp", "mlp", found, 0.5, "global", 1, comparable=True)
    assert kept == {"one": [0, 1, 2, 3], "two": [3], "three": [0]}
    scaled = {"one": torch.tensor([90.0, 80, 1, 1]), "two": torch.tensor([0.9, 0.8, 0.01, 0.01])}
    assert units_to_keep("prune_mlp", "mlp", scaled, 0.5, "global", 1, comparable=False) == {"one": [0, 1], "two": [0, 1]}


def test_a_global_budget_keeps_multiples_also_where_the_last_group_of_a_layer_is_smaller():
    found = {"one": torch.tensor([9.0] * 6), "two": torch.tensor([8.0] * 6)}
    kept = units_to_keep("prune_mlp", "mlp", found, 0.16, "global", 4, comparable=True)      # 10 of 12 may stay
    assert {name: len(index) for name, index in kept.items()} == {"one": 6, "two": 4}
    with pytest.raises(LabError, match="leaves 7 units in all, fewer than 4 in each of the 2 layers"):
        units_to_keep("prune_mlp", "mlp", found, 0.4, "global", 4, comparable=True)


def test_a_global_budget_stops_where_the_next_group_does_not_fit():
    """Six of ten may stay, in fours: the four best. The last group, two, would fit, and leave six, which is no multiple."""
    found = {"one": torch.arange(10.0)}
    assert units_to_keep("prune_mlp", "mlp", found, 0.4, "global", 4, comparable=True) == {"one": [6, 7, 8, 9]}
    found |= {"two": torch.full((4,), 20.0)}
    kept = units_to_keep("prune_mlp", "mlp", found, 4 / 14, "global", 4, comparable=True)             # ten of fourteen
    assert kept == {"one": [6, 7, 8, 9], "two": [0, 1, 2, 3]}


def test_of_head_dimensions_every_head_keeps_its_own_best():
    scores = torch.tensor([[[5.0, 1, 9], [1, 2, 3]], [[1, 2, 0], [7, 6, 5]]])
    found = units_to_keep("prune_head_width", "head_width", {"it": scores}, 1 / 3, "layer", 1, comparable=False)
    assert found == {"it": {"qk": [[0, 2], [1, 2]], "v": [[0, 1], [0, 1]]}}


@pytest.mark.parametrize("budget", ["layer", "global"])
def test_what_is_pruned_can_be_pruned_again_until_one_unit_is_left(budget):
    model = small()
    for _ in range(2):
        model = prune_heads(prune_mlp(model, 0.4, budget=budget), 0.25, budget=budget)
    assert len(model.recipe["plans"]) == 4 and model(pictures(2, *PICTURES)).shape == (6, 10)
    alone = small(num_heads=1)
    with pytest.raises(LabError, match="leaves none of the 1 units of blocks.0.attn.*ratio=0"):
        prune_heads(alone, 0.5)
    with pytest.raises(LabError, match="fewer than 1 in each"):
        prune_heads(alone, 0.5, budget="global")


@pytest.mark.parametrize("prune, arguments, words", [
    (prune_mlp, {"ratio": 1}, "leaves none of the 48 units of blocks.0.mlp.*0 <= ratio <= 0.979"),
    (prune_mlp, {"ratio": 1.5}, "ratio"),
    (prune_mlp, {"ratio": -0.1}, "ratio"),
    (prune_mlp, {"ratio": "half"}, "ratio"),
    (prune_mlp, {"ratio": float("nan")}, "ratio"),
    (prune_mlp, {"ratio": 0.99, "budget": "global"}, "fewer than 1 in each of the 3 layers"),
    (prune_mlp, {"ratio": 0.9, "multiple_of": 8}, "multiples of 8.*ratio <= 0.833"),
    (prune_mlp, {"ratio": 0.5, "multiple_of": 0}, "multiple_of"),
    (prune_mlp, {"ratio": {"blocks.7.mlp": 0.5}}, "blocks.7.mlp.*Did you mean"),
    (prune_mlp, {"ratio": {"blocks.0.mlp": 0.5}, "budget": "global"}, "give a number"),
    (prune_mlp, {"ratio": {}}, "names no layer"),
    (prune_mlp, {"ratio": 0.5, "importance": "tailor"}, 'Did you mean "taylor"'),
    (prune_mlp, {"ratio": 0.5, "budget": "local"}, "budget"),
    (prune_mlp, {"ratio": 0.5, "importance": "activation"}, "needs calibration"),
    (prune_mlp, {"ratio": 0.5, "importance": "taylor", "calibration": pictures(1, *PICTURES)}, "label for each"),
    (prune_mlp, {"ratio": 0.5, "importance": "fisher", "calibration": (pictures(1, *PICTURES), LABELS + 5)},
     "10 classes"),
    (prune_mlp, {"ratio": 0.5, "compensate": True}, "needs calibration"),
    (prune_mlp, {"ratio": 0.5, "compensate": True, "calibration": pictures(1, 1, 3, 32, 32)}, "has 1 picture;"),
    (prune_mlp, {"ratio": 0.5, "compensate": True, "calibration": torch.rand(4, 3, 32, 32)}, "normalised"),
    (prune_mlp, {"ratio": 0.5, "compensate": True, "calibration": pictures(1, *PICTURES), "ridge": -1}, "ridge"),
    (prune_mlp, {"ratio": 0.5, "compensate": True, "calibration": pictures(1, 4, 3, 16, 16)}, "16 x 16"),
    (prune_heads, {"ratio": 0.7}, "leaves none of the 3 units.*0 <= ratio <= 0.666"),
    (prune_head_width, {"ratio": 0.9}, "leaves none of the 8 units"),
    (prune_embedding, {"ratio": 0.99}, "leaves none of the 24 units of the embedding"),
    (prune_embedding, {"ratio": {"blocks.0": 0.5}}, "one width for all"),
    (prune_embedding, {"ratio": 0.5, "compensate": True}, "fine-tune"),
    (prune_blocks, {"ratio": 0.9}, "leaves none of the 3 units"),
    (prune_blocks, {"ratio": {"blocks.0": 1, "blocks.1": 1, "blocks.2": 1}}, "no block in blocks"),
    (prune_blocks, {"ratio": {"blocks.0": 0.5}}, "ratio of blocks.0"),
])
def test_bad_input_is_refused_with_what_is_allowed(prune, arguments, words):
    with pytest.raises(LabError, match=words):
        prune(small(), **arguments)


def test_models_and_layers_that_cannot_be_pruned_are_refused_with_what_can():
    with pytest.raises(LabError, match="no MLPs"):
        prune_mlp(models.create_model("lab_cnn"), 0.5)
    with pytest.raises(LabError, match="no attention"):
        prune_heads(models.create_model("lab_cnn"), 0.5)
    with pytest.raises(LabError, match="no blocks"):
        prune_blocks(models.create_model("lab_cnn"), 0.5)
    with pytest.raises(LabError, match="prune_mlp, prune_heads, prune_blocks"):
        prune_embedding(small("lightvit"), 0.5)
    model = small()
    model.blocks[1].mlp.fc1 = torch.nn.Sequential(torch.nn.Linear(24, 4), torch.nn.Linear(4, 48))
    with pytest.raises(LabError, match="blocks.1.mlp.fc1 is Sequential.*prune first"):
        prune_mlp(model, 0.5)


def test_sensitivity_scores_each_layer_pruned_alone():
    torch.manual_seed(0)
    pictures_of = data.load("shapes", "val", count=40)
    model = small()
    found = sensitivity(model, pictures_of, ratios=(0.25, 0.5), importance="random")
    assert [(one["layer"], one["ratio"]) for one in found] == [
        (f"blocks.{block}.mlp", ratio) for block in range(3) for ratio in (0.25, 0.5)]
    by_hand = training.evaluate(prune_mlp(model, {"blocks.1.mlp": 0.5}, "random"), pictures_of)
    assert found[3] == {"layer": "blocks.1.mlp", "ratio": 0.5, "accuracy": by_hand.accuracy, "low": by_hand.low,
                        "high": by_hand.high}
    assert len(sensitivity(model, pictures_of, prune=prune_blocks, ratios=(1,))) == 3
    with pytest.raises(LabError, match="give prune_mlp"):
        sensitivity(model, pictures_of, prune=prune_embedding)


def test_a_pruned_model_learns_on():
    model = prune_head_width(prune_embedding(small(), 0.5), 0.5)
    history = training.fit(model, data.load("shapes", count=64), steps=2, batch_size=32, lr=1e-3)
    assert history is not None and model.blocks[0].attn.head_dim == 4 and model.dim == 12


def test_prune_names_what_it_cuts_and_an_unknown_part_is_refused_with_the_closest():
    whole = small("lab")
    assert widths(prune(whole, "mlp", 0.5)) == [(neurons // 2, heads, width) for neurons, heads, width in widths(whole)]
    assert widths(prune(whole, "heads", 0.5)) == [(neurons, heads // 2, width) for neurons, heads, width in widths(whole)]
    with pytest.raises(LabError, match='prune: part=.mlps. is unknown. Did you mean "mlp"'):
        prune(whole, "mlps", 0.5)
    with pytest.raises(TypeError, match="compensation"):
        prune_mlp(whole, 0.5, compensation=True)
