"""A rebuilt model against the whole one with the same units silenced, and against Torch-Pruning's numbers."""

import json
from pathlib import Path

import pytest
import torch
from drawn_weights import fill, pictures
from parity.adapters.torch_pruning import torch_pruning_plans
from small_models import EVERY, PICTURES, PLAIN, silenced, small

from lightvit_lab import models
from lightvit_lab.compression.pruning.structure import apply_pruning
from lightvit_lab.errors import LabError
from lightvit_lab.models.transforming import transformed

PEER = json.loads((Path(__file__).parent / "torch_pruning_reference.json").read_text())["cases"]

PAIRS = [(part, kind) for part in ("mlp", "heads", "head_width", "embedding", "blocks")
         for kind in (PLAIN if part == "embedding" else EVERY)]      # LightViT has no one width


def plan_of(part, kept):
    return {"transform": "prune", "part": part, "kept": kept}


def kept_of(part, kind):
    """Different units in different layers, and of dimensions in different heads."""
    names = [name for name, block in small(kind).named_modules() if hasattr(block, "attn") and hasattr(block, "mlp")]
    if part == "mlp":
        return {f"{name}.mlp": list(range(place, 48, 2 + place)) for place, name in enumerate(names)}
    if part == "heads":
        return {f"{name}.attn": [[0, 2], [1], [1, 2], [0]][place] for place, name in enumerate(names)}
    if part == "head_width":
        return {f"{name}.attn": {"qk": [[0, 2, 4], [1, 2, 3], [5, 6, 7]], "v": [[3, 4, 5], [0, 1, 7], [2, 4, 6]]}
                for name in names}
    return [channel for channel in range(24) if channel % 3] if part == "embedding" else names[::2]


@pytest.mark.parametrize("unfused", [False, True])
@pytest.mark.parametrize("part, kind", PAIRS)
@torch.inference_mode()
def test_a_rebuilt_model_says_what_the_whole_one_says_with_the_same_units_silenced(part, kind, unfused):
    whole, kept = small(kind, unfused), kept_of(part, kind)
    rebuilt = transformed(whole, plan_of(part, kept), apply_pruning)
    inputs = pictures(1, *PICTURES)
    expected = silenced(whole, part, kept)(inputs)
    assert (rebuilt(inputs) - expected).abs().max() < 1e-5 * expected.abs().max().clamp_min(1)
    assert (expected - whole(inputs)).abs().max() > 1e-3, "nothing was silenced, so nothing was compared"
    sizes = [sum(value.numel() for value in model.parameters()) for model in (rebuilt, whole)]
    assert sizes[0] < 0.95 * sizes[1]


@pytest.mark.parametrize("part, kind", PAIRS)
def test_shapes_follow_from_a_plan_that_went_through_json_on_a_device_without_values(part, kind):
    plan = json.loads(json.dumps(plan_of(part, kept_of(part, kind))))
    rebuilt = transformed(small(kind), plan, apply_pruning)
    with torch.device("meta"):
        name, arguments = EVERY[kind]
        empty = apply_pruning(models.create_model(name, **arguments), plan)
    found = {name: (value.shape, value.is_meta) for name, value in empty.state_dict().items()}
    assert found == {name: (value.shape, True) for name, value in rebuilt.state_dict().items()}


@pytest.mark.parametrize("case", PEER)
@torch.inference_mode()
def test_parameters_shapes_and_logits_are_those_of_torch_pruning_where_the_recipe_is_the_same(case):
    peer, settings = PEER[case], PEER[case]["settings"]
    model = fill(models.create_model(peer["model"]))
    for plan in torch_pruning_plans(model, settings):
        model = apply_pruning(model, plan)
    block = model.blocks[5]
    shape = {"num_heads": block.attn.num_heads, "head_dim": block.attn.head_dim,
             "qkv_out": block.attn.qkv.weight.shape[0], "mlp_hidden": block.mlp.fc2.weight.shape[1]}
    assert shape == peer["each_block"] and model.embed_dim == model.norm.weight.numel() == peer["embed_dim"]
    assert sum(value.numel() for value in model.parameters()) == peer["params"]
    logits = model.eval()(pictures(0, 1, 3, 224, 224))[0]
    assert torch.allclose(logits[:10], torch.tensor(peer["logits_first10"]), atol=1e-4)
    assert torch.allclose(logits[-8:], torch.tensor(peer["logits_last8"]), atol=1e-4)
    assert logits.norm().item() == pytest.approx(peer["logits_l2"], rel=1e-4)


def test_what_learned_still_learns_and_what_was_fixed_stays_fixed():
    whole = small()
    whole.pos_embed.requires_grad_(False)
    whole.blocks[0].mlp.fc1.weight.requires_grad_(False)
    for part in ("embedding", "mlp"):
        whole = apply_pruning(whole, plan_of(part, kept_of(part, "lab")))
    fixed = {name for name, value in whole.named_parameters() if not value.requires_grad}
    assert fixed == {"pos_embed", "blocks.0.mlp.fc1.weight"}
    whole.train()(pictures(1, *PICTURES)).sum().backward()
    assert all(value.grad is not None for name, value in whole.named_parameters() if name not in fixed)


@pytest.mark.parametrize("plan, words", [
    (plan_of("mpl", {"blocks.0.mlp": [0]}), 'Did you mean "mlp"'),
    ({"transform": "prune", "part": "mlp"}, "keeps None"),
    (plan_of("mlp", {}), "keeps {}"),
    (plan_of("mlp", [0, 1]), r"keeps \[0, 1\]"),
    (plan_of("mlp", {"blocks.9.mlp": [0]}), "blocks.9.mlp"),
    (plan_of("mlp", {"blocks.0.mlp": []}), "48 units"),
    (plan_of("mlp", {"blocks.0.mlp": [0, 48]}), "from 0 to 47"),
    (plan_of("mlp", {"blocks.0.mlp": [3, 1]}), "rising"),
    (plan_of("mlp", {"blocks.0.mlp": [1, 1]}), "each once"),
    (plan_of("mlp", {"blocks.0.mlp": [0.5]}), "48 units"),
    (plan_of("mlp", {"blocks.0.mlp": "all"}), "48 units"),
    (plan_of("heads", {"blocks.0.attn": [-1]}), "3 units"),
    (plan_of("head_width", {"blocks.0.attn": {"qk": [[0]] * 3, "v": [[0], [1], [2, 3]]}}), "equally many"),
    (plan_of("head_width", {"blocks.0.attn": {"qk": [[0]] * 2, "v": [[0]] * 2}}), "3 heads"),
    (plan_of("head_width", {"blocks.0.attn": [0, 1]}), "qk"),
    (plan_of("embedding", [24]), "24 units"),
    (plan_of("blocks", ["blocks.0", "head"]), "head"),
])
def test_a_plan_that_does_not_fit_the_model_is_refused(plan, words):
    with pytest.raises(LabError, match=words):
        apply_pruning(small(), plan)


def test_parts_that_no_unit_can_leave_alone_are_refused_with_what_to_do_instead():
    dims = {"blocks.0.attn": {"qk": [[0]] * 3, "v": [[0]] * 3}}
    with pytest.raises(LabError, match="prune whole heads"):
        apply_pruning(small("timm", qk_norm=True), plan_of("head_width", dims))
    with pytest.raises(LabError, match="scale_norm"):
        apply_pruning(small("timm", scale_attn_norm=True), plan_of("heads", {"blocks.0.attn": [0]}))
    with pytest.raises(LabError, match="gate or a norm"):
        apply_pruning(small("timm", scale_mlp_norm=True), plan_of("mlp", {"blocks.0.mlp": [0]}))
    with pytest.raises(LabError, match="prune_blocks"):
        apply_pruning(small("lightvit"), plan_of("embedding", [0, 1]))
    with pytest.raises(LabError, match="keep one at least"):
        apply_pruning(small("lightvit"), plan_of("blocks", ["stages.0.0"]))
    with pytest.raises(LabError, match="no MLPs"):
        apply_pruning(models.create_model("lab_cnn"), plan_of("mlp", {"blocks.0.mlp": [0]}))


def test_heads_of_normalised_queries_can_go_whole():
    whole, kept = small("timm", qk_norm=True), {"blocks.1.attn": [0, 2]}
    inputs = pictures(1, *PICTURES)
    rebuilt = transformed(whole, plan_of("heads", kept), apply_pruning)
    with torch.no_grad():
        whole.blocks[1].attn.proj.weight[:, 8:16] = 0
        assert torch.allclose(rebuilt(inputs), whole(inputs), atol=1e-5)
