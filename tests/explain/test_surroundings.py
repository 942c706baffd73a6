"""Explainers in every surrounding: types, autocast, checkpointing, no_grad and inference_mode."""

import pytest
import torch
from drawn_weights import fill, pictures
from torch import nn
from torch.utils.checkpoint import checkpoint

from lightvit_lab import explain, models
from lightvit_lab.compression.pruning.pruners import prune_mlp
from lightvit_lab.errors import LabError
from lightvit_lab.explain.localization import bootstrap
from lightvit_lab.explain.relevance import propagate
from lightvit_lab.models import timm_parts

SLOPES = {"relevance": explain.relevance_map, "integrated gradients": explain.integrated_gradients,
          "grad-cam": explain.grad_cam}
EXPLAINERS = {
    **SLOPES, "rollout": explain.rollout_map, "class attention": explain.class_attention,
    "layerwise": lambda model, inputs, target: explain.relevance_map(model, inputs, target, "layerwise"),
    "deep lift": explain.deep_lift,
    "occlusion": lambda model, inputs, target: explain.occlusion(model, inputs, target, 8),
    "kernel shap": lambda model, inputs, target: explain.kernel_shap(model, inputs, target, 8, 40),
    "edges": explain.edge_map,
}


def student():
    return fill(models.create_model("lab_vit_student", depth=2))


def timms():
    return fill(models.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, depth=3, num_classes=10))


def inputs_of(kind=torch.float32):
    return pictures(0, 2, 3, 32, 32).to(kind)


@pytest.mark.parametrize("name", EXPLAINERS)
@pytest.mark.parametrize("weights, given", [(torch.float64, torch.float64), (torch.float64, torch.float32),
                                            (torch.float32, torch.float64), (torch.float32, torch.bfloat16),
                                            (torch.bfloat16, torch.float32), (torch.bfloat16, torch.bfloat16)])
def test_models_and_pictures_of_any_type_are_explained(name, weights, given):
    expected = EXPLAINERS[name](student(), inputs_of().to(given).float(), 3)
    found = EXPLAINERS[name](student().to(weights), inputs_of(given), 3).float()
    half = torch.bfloat16 in (weights, given)
    alike = torch.nn.functional.cosine_similarity(found.flatten(), expected.flatten(), dim=0)
    assert alike > (0.9 if half else 0.9999)      # bfloat16 has three digits, and gradients lose some


@pytest.mark.parametrize("name", EXPLAINERS)
def test_autocast_outside_changes_no_map(name):
    expected = EXPLAINERS[name](student(), inputs_of(), 3)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(EXPLAINERS[name](student(), inputs_of(), 3), expected)


@pytest.mark.parametrize("outside", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("name", EXPLAINERS)
def test_no_grad_and_inference_mode_outside_change_no_map_also_for_pictures_made_inside(name, outside):
    model, expected = student(), EXPLAINERS[name](student(), inputs_of(), 3)
    with outside():
        assert torch.equal(EXPLAINERS[name](model, inputs_of() + 0, 3), expected)
    assert not any(weight.is_inference() or weight.grad is not None for weight in model.parameters())
    model(inputs_of()).sum().backward()


def test_scores_and_checks_take_no_grad_inference_mode_autocast_and_half_precision():
    masks = torch.zeros(2, 32, 32)
    masks[:, 4:20, 8:30] = 1
    plain = explain.localize(student(), (inputs_of(), masks), {"rollout": explain.rollout_map}, 3, steps=3)
    sanity = explain.sanity_check(explain.relevance_map, student(), inputs_of(), 3)
    for outside in (torch.no_grad, torch.inference_mode, lambda: torch.autocast("cpu", torch.bfloat16)):
        with outside():
            found = explain.localize(student(), (inputs_of() + 0, masks), {"rollout": explain.rollout_map}, 3, steps=3)
            assert explain.sanity_check(explain.relevance_map, student(), inputs_of() + 0, 3) == sanity
        assert found.scores == plain.scores
    half = explain.localize(student().bfloat16(), (inputs_of(), masks), {"rollout": explain.rollout_map}, 3, steps=3)
    assert half.scores["rollout"]["energy"] == pytest.approx(plain.scores["rollout"]["energy"], abs=0.02)
    assert isinstance(explain.sanity_check(explain.rollout_map, student().double(), inputs_of()).unchanged, bool)


class Checkpointed(nn.Module):
    """A user's block that calls torch.utils.checkpoint itself."""

    def __init__(self, inner, reentrant):
        super().__init__()
        self.inner, self.reentrant = inner, reentrant

    def forward(self, tokens):
        return checkpoint(self.inner, tokens, use_reentrant=self.reentrant)

    @property
    def norm1(self):
        return self.inner.norm1


def checkpointed(reentrant, places=(0, 1, 2)):
    model = timms()
    for place in places:
        model.blocks[place] = Checkpointed(model.blocks[place], reentrant)
    return model


@pytest.mark.parametrize("name", sorted(set(EXPLAINERS) - {"layerwise"}))
def test_maps_of_a_checkpointed_model_are_those_without_and_the_switch_stays_on(name):
    model, light = timms(), models.create_model("lab_lightvit")
    expected = EXPLAINERS[name](model, inputs_of(), 3)
    model.set_grad_checkpointing(True)
    assert torch.equal(EXPLAINERS[name](model, inputs_of(), 3), expected) and model.grad_checkpointing
    light.set_grad_checkpointing(True)
    if name in ("integrated gradients", "occlusion"):
        assert EXPLAINERS[name](light, inputs_of(), 3).isfinite().all()


@pytest.mark.parametrize("name", sorted(set(EXPLAINERS) - {"layerwise", "deep lift"}))
def test_maps_of_a_model_that_calls_checkpoint_itself_are_those_without(name):
    expected = EXPLAINERS[name](timms(), inputs_of(), 3)
    assert torch.allclose(EXPLAINERS[name](checkpointed(False), inputs_of(), 3), expected, atol=1e-6)


@pytest.mark.parametrize("places", [(0, 1, 2), (2,)])
@pytest.mark.parametrize("name", [*SLOPES, "deep lift"])
def test_checkpoints_that_let_no_gradient_pass_are_refused_in_a_sentence(name, places):
    model = checkpointed(True, places)
    with pytest.raises(LabError, match="use_reentrant=True, which lets no gradient pass"):
        EXPLAINERS[name](model, inputs_of(), 3)
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())
    assert EXPLAINERS["rollout"](model, inputs_of(), 3).shape == (2, 4, 4)      # needs no gradient


@pytest.mark.parametrize("reentrant", [True, False])
def test_attention_recorded_beside_a_checkpointed_backward_is_that_of_the_forward(reentrant):
    model, inputs = checkpointed(reentrant), inputs_of().requires_grad_()
    with torch.no_grad(), explain.record_attention(model) as expected:
        model(inputs)
    with explain.record_attention(model) as found:
        model(inputs).sum().backward()
    assert len(found) == len(expected) == 3
    assert all(torch.allclose(one, two, atol=1e-6) for one, two in zip(found, expected))


ATTENTION = {"lab": lambda: student().blocks[0].attn, "timm": lambda: timms().blocks[0].attn,
             "held": lambda: timm_parts.PlainAttention(timms().blocks[0].attn)}


@pytest.mark.parametrize("kind", ATTENTION)
def test_weights_read_under_autocast_are_those_outside_also_of_tokens_in_half_precision(kind):
    attention = ATTENTION[kind]()
    tokens = torch.randn(2, 9, attention.qkv.in_features).bfloat16()
    query, key, _ = attention.qkv(tokens.float()).unflatten(-1, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
    expected = (query @ key.mT / attention.head_dim**0.5).softmax(-1)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.allclose(timm_parts.attention_weights(attention, tokens), expected, atol=1e-6)
        if hasattr(attention, "weights"):
            assert torch.allclose(attention.weights(tokens), expected, atol=1e-6)


def test_attention_recorded_under_autocast_is_that_of_the_tokens_that_it_was_given_in_float32():
    model, inputs, given = student(), inputs_of(), []
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad(), explain.record_attention(model) as found:
        handle = model.blocks[1].attn.register_forward_pre_hook(lambda _, tokens: given.append(tokens[0].float()))
        model(inputs)
        handle.remove()
    query, key, _ = model.blocks[1].attn.split_heads(given[0])
    assert torch.allclose(found[1], (query @ key.mT * model.blocks[1].attn.scale).softmax(-1), atol=1e-6)


def test_rollout_and_relevance_multiply_in_float32_under_autocast():
    maps = [torch.rand(2, 3, 7, 7) for _ in range(3)]
    plain = explain.rollout(maps), explain.rollout(maps, "max"), propagate(maps, maps[::-1])
    with torch.autocast("cpu", torch.bfloat16):
        cast = explain.rollout(maps), explain.rollout(maps, "max"), propagate(maps, maps[::-1])
    assert all(torch.equal(one, two) for one, two in zip(plain, cast))


def test_scores_of_maps_in_half_precision_are_computed_in_float32():
    masks = torch.zeros(1, 32, 32)
    masks[:, :16] = 1
    maps = torch.rand(1, 32, 32).bfloat16()
    assert explain.energy_in_mask(maps, masks).item() == pytest.approx(
        (maps.double() * masks).sum().item() / maps.double().sum().item(), abs=1e-6)
    assert bootstrap(torch.ones(4, 1, dtype=torch.bfloat16)) == [(1, 1, 1)]


def test_a_device_without_float64_is_asked_for_none(monkeypatch):
    from lightvit_lab.runtime import running

    moved = []
    monkeypatch.setattr(running, "float64_place", lambda place: moved.append(place) or torch.device("cpu"))
    explain.at_resolution(torch.rand(1, 8, 8), 4, 4)
    explain.sanity.rank_correlation(torch.rand(2, 3, 3), torch.rand(2, 3, 3))
    assert len(moved) == 3


def test_a_layer_without_a_rule_and_an_answer_without_logits_are_refused():
    model = student()
    model.blocks[0].mlp.fc1 = nn.Sequential(model.blocks[0].mlp.fc1)
    with pytest.raises(LabError, match='no rule for Sequential; give rule="attention"'):
        explain.relevance(model, inputs_of(), 3, "layerwise")
    features = models.create_model("vit_tiny_patch16_224", img_size=32, depth=1, num_classes=0, global_pool="")
    with pytest.raises(LabError, match=r"makes no logits \(batch, classes\), but \(2, 5, 192\)"):
        explain.relevance_map(features, inputs_of())


COMPILED = {      # how readers compile: the whole model in place, its blocks in place, its blocks wrapped
    "model": lambda model: model.compile(backend="eager"),
    "blocks": lambda model: [block.compile(backend="eager") for block in model.blocks],
    "wrapped blocks": lambda model: [model.blocks.__setitem__(place, torch.compile(block, backend="eager"))
                                     for place, block in enumerate(model.blocks)],
}


@pytest.mark.skipif(not hasattr(torch.compiler, "set_stance"), reason="torch 2.5 cannot set what is compiled aside")
@pytest.mark.parametrize("how", COMPILED)
def test_hooks_see_the_forward_of_a_model_that_was_compiled_in_place_and_has_run(how):
    found = []
    for compiled in (True, False):
        torch.manual_seed(0)
        model = models.create_model("lab_vit_student", dim=32, depth=2, num_heads=2).eval()
        inputs, labels = torch.randn(2, 3, 32, 32), torch.tensor([1, 2])
        if compiled:
            COMPILED[how](model)
            model(inputs)
        with explain.record_attention(model) as recorded, torch.no_grad():
            model(inputs)
        pruned = prune_mlp(model, 0.5, "taylor", (inputs, labels))
        found.append([explain.grad_cam(model, inputs, labels), *recorded, pruned(inputs)])
    assert len(found[0]) == 4 and all(torch.equal(*pair) for pair in zip(*found, strict=True))
