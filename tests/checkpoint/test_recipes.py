import json
import threading

import pytest
import torch
from torch import nn

from lightvit_lab import models
from lightvit_lab.checkpoint import recipes
from lightvit_lab.compression.low_rank import factors as low_rank, attention as low_rank_attention
from lightvit_lab.compression.pruning import pruners as pruning, unstructured as sparsity
from lightvit_lab.errors import LabError

SMALL = {"image_size": 16, "patch_size": 8, "dim": 16, "depth": 2, "num_heads": 4, "mlp_ratio": 2}


def student(**changes):
    torch.manual_seed(0)
    return models.create_model("lab_vit_student", **{**SMALL, **changes}).eval()


HONEST = {      # models whose files are forged below
    "plain": student,
    "mlp": lambda: pruning.prune_mlp(student(), 0.5),
    "heads": lambda: pruning.prune_heads(student(), 0.5),
    "head_width": lambda: pruning.prune_head_width(student(), 0.5),
    "embedding": lambda: pruning.prune_embedding(student(), 0.5),
    "blocks": lambda: pruning.prune_blocks(student(), 0.5),
    "factorize": lambda: low_rank.factorize(student(), rank=2),
    "linformer": lambda: low_rank_attention.replace_attention(student(), rank=3),
    "zeros": lambda: sparsity.prune_weights(student(), 0.5),
}


def lists(plan):
    """Every list of indices in a plan, wherever it stands, and a function that puts another in its place."""
    if isinstance(plan, dict | list):
        for key, value in [*(plan.items() if isinstance(plan, dict) else enumerate(plan))]:
            if isinstance(value, list) and value and all(type(entry) is int for entry in value):
                yield value, lambda new, key=key: plan.__setitem__(key, new)
            else:
                yield from lists(value)


@pytest.mark.parametrize("part", ["mlp", "heads", "head_width", "embedding"])
def test_indices_that_are_repeated_negative_out_of_range_or_no_numbers_are_refused_though_the_shapes_fit(part):
    model = HONEST[part]()
    text, tensors, tried = json.dumps(model.recipe), model.state_dict(), 0
    for place, (kept, _) in enumerate(lists(json.loads(text)["plans"])):
        wrong = [kept[:1] * len(kept), [-1, *kept[1:]], [*kept[:-1], 16 * 3], [*kept[:-1], 65536], kept[::-1],
                 [*map(float, kept)], [*map(str, kept)], [True, *kept[1:]], [None, *kept[1:]], [[0], *kept[1:]]]
        for indices in wrong:
            recipe = json.loads(text)
            if indices == kept:      # one index, turned round
                continue
            [*lists(recipe["plans"])][place][1](indices)
            with pytest.raises(LabError):
                recipes.rebuild(recipes.parse(json.dumps(recipe)), tensors)
            tried += 1
    assert tried >= 9
    recipes.rebuild(recipes.parse(text), tensors)


MADE_UP = {
    "mlp": [{"part": "mpl"}, {"part": "heads"}, {"part": None}, {"kept": None}, {"kept": []}, {"kept": {}},
            {"kept": {"blocks.0.__class__": [0]}}, {"kept": {"": [0]}}, {"transform": "prune_mlp"},
            {"transform": "factorize"}, {"transform": "prune_weights"}],
    "blocks": [{"kept": kept} for kept in (["blocks.7"], [], "blocks.0", [0], [["blocks.0"]], ["head"],
                                           ["blocks.0", "blocks.1"])],
    "head_width": [{"kept": {"blocks.0.attn": kept}} for kept in ({"qk": [[0]]}, [[0]], 7, {"qk": [0], "v": [0]})],
    "factorize": [{"layers": layers} for layers in (None, ["blocks.0.mlp.fc1"], {"blocks.0.mlp.fc1": 7},
                                                    {"head": {"rank": 2}}, {"patch_embed": {"rank": 2}})]
    + [{"layers": {"blocks.0.mlp.fc1": {"rank": rank}}} for rank in (65536, 0, -1, 1.5, None, True, [2])]
    + [{"layers": {"blocks.0.mlp.fc1": {"rank": 2, "groups": groups}}} for groups in (0, -1, 7, 65536, None)],
    "linformer": [{"method": "os.system"}, {"method": None}]
    + [{"rank": rank} for rank in (0, -3, 65536, None, [3], 4, 3.5)],
}


@pytest.mark.parametrize("part, changes", [(part, changes) for part in MADE_UP for changes in MADE_UP[part]])
def test_plans_that_somebody_made_up_are_refused(part, changes):
    model = HONEST[part]()
    recipe = {**model.recipe, "plans": [{**model.recipe["plans"][0], **changes}]}
    with pytest.raises(LabError):
        recipes.rebuild(recipes.parse(json.dumps(recipe)), model.state_dict())


@pytest.mark.parametrize("part", [part for part in HONEST if part not in ("plain", "zeros")])
def test_a_plan_left_out_or_carried_out_twice_no_longer_fits_the_tensors(part):
    model = HONEST[part]()
    for plans in ([], model.recipe["plans"] * 2):
        with pytest.raises(LabError):
            recipes.rebuild(recipes.parse(json.dumps({**model.recipe, "plans": plans})), model.state_dict())


def test_a_large_model_pruned_to_almost_nothing_still_comes_back():
    model = student(dim=256, depth=4, embedding="patch")
    little = pruning.prune_heads(pruning.prune_mlp(pruning.prune_blocks(model, 0.75), 0.9), 0.75)
    little = pruning.prune_embedding(little, 0.9)
    whole, left = (sum(value.numel() for value in each.parameters()) for each in (model, little))
    assert whole > 64 * left
    recipes.require_fit(little.recipe, little.state_dict())


def test_what_is_registered_elsewhere_meanwhile_and_afterwards_is_not_counted(monkeypatch):
    monkeypatch.setattr(recipes, "LEAST_NUMBERS", 10)
    model, made = student(), []
    with recipes._bounded({"one": torch.zeros(1)}):
        other = threading.Thread(target=lambda: made.append(nn.Linear(100, 100)))
        other.start()
        other.join()
        with pytest.raises(LabError, match="more than 64 numbers"):
            nn.Linear(100, 100)
    nn.Linear(100, 100)
    assert len(made) == 1
    tensors = {name: value[:0] for name, value in model.state_dict().items() if value.ndim}
    with pytest.raises(LabError, match="out of proportion"):
        recipes.require_fit(model.recipe, tensors)
    nn.Linear(100, 100)


def test_whether_a_recipe_fits_is_found_out_without_drawing_a_random_number():
    model = pruning.prune_mlp(student(), 0.5)
    before = torch.get_rng_state()
    recipes.require_fit(model.recipe, model.state_dict())
    assert torch.equal(torch.get_rng_state(), before)
