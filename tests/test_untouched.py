"""Public functions that run a model leave it, and all else they are given, as they found it.

One table of calls: whoever writes a function that runs a model adds a line here.
"""

import copy
from functools import partial

import pytest
import torch
from drawn_weights import fill
from torch import Tensor, nn

from lightvit_lab import checkpoint, data, models
from lightvit_lab.compression import calibrating
from lightvit_lab.compression.pruning import importance, movement, pruners as pruning, unstructured as sparsity
from lightvit_lab.compression.low_rank import factors as low_rank, attention as low_rank_attention
from lightvit_lab.dynamic.early_exit import block_skipping, exits as early_exit, report as exit_report, token_halting
from lightvit_lab.dynamic.token_pruning import choosing, coarse_fine, dynamicvit, pruning as token_pruning
from lightvit_lab.dynamic.token_merging import diffrate, merging as token_merging, rates
from lightvit_lab.dynamic.early_exit.rules import Confidence
from lightvit_lab.experiments import adaptive_depth, faults, light_models
from lightvit_lab.models.transforming import copied
from lightvit_lab.training import Batch, evaluate, fit

SHAPES = data.load("shapes", count=32)
INPUTS, LABELS = SHAPES.batch(torch.arange(32))
SETTINGS = {"steps": 1, "batch_size": 8, "progress": False, "threads": 1, "precision": "float32"}


def lab() -> nn.Module:
    """A lab ViT of a few thousand weights, partly frozen, in a mixture of modes."""
    model = models.create_model("lab_vit", dim=24, depth=3, num_heads=3, patch_size=8, mlp_ratio=2.0)
    recipe = model.recipe
    model = fill(model).train()
    model.blocks[1].eval()
    model.blocks[1].attn.qkv.weight.requires_grad_(False)
    model.recipe = recipe
    return model


def unsettled(model: nn.Module) -> nn.Module:
    """`model` with its last block in train mode, the rest in eval mode."""
    model.eval()
    model.blocks[-1].train()
    return model


def exits() -> nn.Module:
    return unsettled(early_exit.add_exits(lab(), [0], Confidence(0.15)))


def gated() -> nn.Module:
    return unsettled(block_skipping.add_skipping(lab(), [1]))


def halting() -> nn.Module:
    return unsettled(token_halting.add_halting(lab(), 0.3, 0.4))


def chosen() -> nn.Module:
    return unsettled(token_pruning.prune_tokens(lab(), 0.5, [1]))


def sampling() -> nn.Module:
    return unsettled(token_pruning.prune_tokens(lab(), 0.5, [1], "ats"))


def merging() -> nn.Module:
    return unsettled(token_merging.merge_tokens(lab(), 2))


def predicting() -> nn.Module:
    return unsettled(token_pruning.prune_tokens(lab(), 0.5, [1], "dynamicvit"))


def moments(model: nn.Module) -> Tensor:
    layers = {"fc1": model.blocks[0].mlp.fc1}
    return calibrating.input_moments(model, INPUTS, layers)["fc1"].products


def merged_places(model: nn.Module) -> Tensor:
    evaluate(model, SHAPES)
    return token_merging.source_map(model)


def keeping_loss(model: nn.Module) -> Tensor:
    torch.manual_seed(0)      # its predictor is fresh, and draws whom to keep
    student = token_pruning.prune_tokens(lab(), 0.5, [1], "dynamicvit").train()
    batch = Batch(INPUTS[:8], LABELS[:8], None, 1)
    return dynamicvit.DynamicViTObjective(model)(student, batch)[2]["labels"].detach()


# Name -> (a model, a function of it): what stands for the result has to be the same in every surrounding.
CALLS = {
    "kept_patches": (chosen, lambda model: choosing.kept_patches(model, INPUTS)[0]),
    "kept_patches of ATS": (sampling, lambda model: choosing.kept_patches(model, INPUTS)[0]),
    "source_map": (merging, merged_places),
    "exit_report": (exits, lambda model: exit_report.exit_report(model, SHAPES).confidence),
    "every_logit": (exits, lambda model: exit_report.every_logit(model, SHAPES)),
    "trade_off": (exits, lambda model: torch.tensor(
        [point.accuracy for point in exit_report.trade_off(model, SHAPES)])),
    "calibrate_confidence": (exits, lambda model: exit_report.calibrate_confidence(
        model, SHAPES).exits[0].temperature),
    "DynamicViTObjective's teacher": (lab, keeping_loss),
    "input_moments": (lab, moments),
    "output_error": (lab, lambda model: torch.tensor(list(low_rank.output_error(
        model, low_rank.factorize(model, rank=4), INPUTS).values()))),
    "factorize": (lab, lambda model: low_rank.factorize(
        model, rank=4, calibration=INPUTS).blocks[0].mlp.fc1.down.weight),
    "wanda": (lab, lambda model: sparsity.prune_weights(
        model, 0.5, "wanda", INPUTS).blocks[0].mlp.fc1.weight),
    "compensate": (lab, lambda model: pruning.prune_mlp(
        model, 0.5, "activation", INPUTS, compensate=True).blocks[0].mlp.fc2.weight),
    "sensitivity": (lab, lambda model: torch.tensor([row["accuracy"] for row in pruning.sensitivity(
        model, SHAPES, ratios=(0.5,))])),
    "tokens_kept": (halting, lambda model: adaptive_depth.tokens_kept(model, SHAPES)),
    "blocks_used": (gated, lambda model: adaptive_depth.blocks_used(model, SHAPES)),
    "layers_alone": (lab, lambda model: torch.tensor(light_models.layers_alone(model, 32))),
    "symptoms": (lab, lambda model: torch.tensor(faults.symptoms(model, SHAPES)["accuracy"])),
} | {f"prune_mlp by {one}": (lab, lambda model, one=one: pruning.prune_mlp(
    model, 0.5, one, (INPUTS, LABELS)).blocks[0].mlp.fc1.weight)
    for one in ("taylor", "fisher", "activation")}


@pytest.fixture(params=CALLS)
def call(request):
    make, function = CALLS[request.param]
    return make(), function


def state(model: nn.Module) -> list:
    """All that a function must not change: modes, flags, gradients, hooks, weights, recipe."""
    parts = [(part.training, len(part._forward_hooks), len(part._forward_pre_hooks)) for part in model.modules()]
    weights = [(value.requires_grad, value.grad is None, value.is_inference(), value.dtype, value.device,
                value.detach().clone()) for value in (*model.parameters(), *model.buffers())]
    return [parts, weights, copy.deepcopy(getattr(model, "recipe", None))]


def require_same(before: list, after: list) -> None:
    assert before[0] == after[0] and before[2] == after[2]
    for (*flags, value), (*others, now) in zip(before[1], after[1], strict=True):
        assert flags == others and torch.equal(value, now)


def test_the_model_and_the_pictures_are_left_as_they_were(call):
    model, function = call
    before, inputs = state(model), INPUTS.clone()
    function(model)
    require_same(before, state(model))
    assert torch.equal(INPUTS, inputs) and not INPUTS.requires_grad and INPUTS.grad is None


@pytest.mark.parametrize("outside", [torch.no_grad, torch.inference_mode])
def test_what_is_found_is_the_same_where_gradients_are_switched_off(call, outside):
    model, function = call
    expected = function(model)
    with outside():
        torch.testing.assert_close(function(model), expected)
    assert not any(value.is_inference() for value in model.parameters())


@pytest.mark.parametrize("by", ["taylor", "activation", "magnitude"])
def test_pictures_made_inside_inference_mode_are_as_good_as_others(by):
    with torch.inference_mode():
        inputs = INPUTS.clone()
    found, expected = (pruning.prune_mlp(lab(), 0.5, by, (given, LABELS), compensate=True)
                       for given in (inputs, INPUTS))
    require_same(state(expected), state(found))


@pytest.mark.parametrize("name", ["input_moments", "output_error", "compensate",
                                  "prune_mlp by activation", "prune_mlp by taylor"])
def test_statistics_are_made_in_float32_also_under_autocast(name):
    make, function = CALLS[name]
    expected = function(make())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(function(make()), expected)


def checkpointed(on: bool) -> nn.Module:
    model = fill(models.create_model("deit_tiny_patch16_224", img_size=32, depth=3, embed_dim=24,
                                     num_classes=10))
    model.set_grad_checkpointing(on)
    return model


def test_importance_is_the_same_for_a_model_that_keeps_no_activations():
    found, expected = (importance.scores(checkpointed(on), "mlp", "taylor", INPUTS, LABELS)
                       for on in (True, False))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("change, objective", [
    (lambda model: block_skipping.add_skipping(model, [1, 2], 0.0), block_skipping.SkipObjective()),
    (lambda model: token_pruning.prune_tokens(model, 0.5, [1], "dynamicvit"),
     dynamicvit.DynamicViTObjective(checkpointed(True))),
])
def test_objectives_that_look_into_a_forward_teach_the_same_under_checkpointing(change, objective):
    found = []
    for on in (True, False):
        torch.manual_seed(0)
        model = change(checkpointed(on)).train()
        objective(model, Batch(INPUTS[:8], LABELS[:8], None, 1))[0].backward()
        found.append([value.grad for value in model.parameters() if value.grad is not None])
    for with_it, without in zip(*found, strict=True):
        torch.testing.assert_close(with_it, without)


class Failing(nn.Module):
    """A part that breaks off a forward in its middle."""

    def forward(self, *_given, **_keywords):
        raise ZeroDivisionError


def test_after_an_exception_in_the_forward_all_is_as_before(call):
    model, function = call
    inner = getattr(model, "model", model)
    inner.norm = Failing()
    before, grad = state(model), torch.is_grad_enabled()
    with pytest.raises(ZeroDivisionError):
        function(model)
    require_same(before, state(model))
    assert torch.is_grad_enabled() is grad and not torch.is_inference_mode_enabled()


@pytest.mark.parametrize("dtype, tolerance", [(torch.bfloat16, 0.2), (torch.float64, 1e-3)])
def test_models_of_other_types_give_about_what_float32_gives(call, dtype, tolerance):
    model, function = call
    expected = function(model)
    model.to(dtype)
    before, found = state(model), function(model)
    require_same(before, state(model))
    assert found.shape == expected.shape
    if found.is_floating_point():
        apart = (found.double() - expected.double()).norm() / expected.double().norm().clamp(min=1e-9)
        assert apart < tolerance


TRAINING = {
    "train_exits": (exits, partial(early_exit.train_exits, data=SHAPES, whole=False, **SETTINGS)),
    "train_skipping": (gated, partial(block_skipping.train_skipping, data=SHAPES, **SETTINGS)),
    "train_halting": (halting, partial(token_halting.train_halting, data=SHAPES, **SETTINGS)),
    "fine_tune": (predicting, lambda model: dynamicvit.fine_tune(model, lab(), SHAPES, **SETTINGS)),
    "learn_rates": (lab, partial(rates.learn_rates, data=SHAPES, share=0.9, whole_blocks=0, **SETTINGS)),
    "movement_prune": (lab, lambda model: movement.movement_prune(
        model, SHAPES, 0.5, **{**SETTINGS, "steps": 10})),
}


@pytest.mark.parametrize("name", TRAINING)
@pytest.mark.parametrize("outside", [torch.no_grad, torch.inference_mode])
def test_training_works_where_gradients_are_switched_off_and_keeps_the_flags(name, outside):
    make, train = TRAINING[name]
    model = make()
    flags = [value.requires_grad for value in model.parameters()]
    with outside():
        trained = train(model)
    trained = trained if isinstance(trained, nn.Module) else model
    assert flags == [value.requires_grad for value in model.parameters()]
    assert not any(value.is_inference() for value in trained.parameters())
    if name == "movement_prune":
        assert sparsity.sparsity(trained)["blocks.0.mlp.fc1"] == 0.5


def test_the_teacher_of_fine_tune_keeps_its_modes_and_its_weights():
    teacher, model = lab(), predicting()
    before = state(teacher)
    dynamicvit.fine_tune(model, teacher, SHAPES, **SETTINGS)
    require_same(before, state(teacher))


@pytest.mark.parametrize("by", ["magnitude", "random"])
def test_zeros_stay_zero_for_a_model_trained_inside_inference_mode(by):
    with torch.inference_mode():
        sparse = sparsity.prune_weights(lab(), 0.5, by)
        with sparsity.keep_zeros(sparse):
            fit(sparse, SHAPES, **{**SETTINGS, "steps": 2})
    assert sparsity.sparsity(sparse) == dict.fromkeys(sparsity.sparsity(sparse), 0.5)


MADE = {
    "create_model": lambda: models.create_model("lab_vit", dim=24, depth=2, num_heads=3, patch_size=8),
    "create_model of timm": lambda: models.create_model(
        "deit_tiny_patch16_224", img_size=32, depth=2, embed_dim=24, num_classes=10),
    "load": lambda: checkpoint.load("zoo:lab_vit_student/shapes"),
    "copied": lambda: copied(lab()),
    "prune_heads": lambda: pruning.prune_heads(lab(), 0.3),
    "prune_head_width": lambda: pruning.prune_head_width(lab(), 0.5),
    "prune_embedding": lambda: pruning.prune_embedding(lab(), 0.5),
    "prune_blocks": lambda: pruning.prune_blocks(lab(), 0.3),
    "factorize": lambda: low_rank.factorize(lab(), rank=4),
    "replace_attention": lambda: low_rank_attention.replace_attention(lab(), rank=4),
    "merge_tokens": lambda: token_merging.merge_tokens(lab(), 2),
    "reduce_tokens": lambda: diffrate.reduce_tokens(lab(), 1, 1),
    "coarse_to_fine": lambda: coarse_fine.coarse_to_fine(lab(), 0.5),
    "add_exits": exits,
    "with_rule": lambda: early_exit.with_rule(exits(), None),
    "add_skipping": gated,
    "add_halting": halting,
    "prune_tokens": chosen,
    "dynamicvit": predicting,
    "calibrate_confidence": lambda: exit_report.calibrate_confidence(exits(), SHAPES),
}


@pytest.mark.parametrize("name", MADE)
def test_models_made_inside_inference_mode_can_be_trained(name):
    with torch.inference_mode():
        model = MADE[name]()
    assert not any(value.is_inference() for value in (*model.parameters(), *model.buffers()))
    logits = model.train()(INPUTS[:4])
    logits.square().sum().backward()
    assert any(value.grad is not None and value.grad.abs().sum() > 0 for value in model.parameters())


def test_a_loaded_model_made_inside_inference_mode_says_what_it_says_outside():
    with torch.inference_mode():
        inside = checkpoint.load("zoo:lab_vit_student/shapes")
    outside = checkpoint.load("zoo:lab_vit_student/shapes")
    assert torch.equal(inside(INPUTS), outside(INPUTS))
