"""What models show of a batch, against what they compute; and each objective of features in a run with either teacher."""

import pytest
import torch
from torch import nn

from lightvit_lab import data, models
from lightvit_lab.distillation import distill
from lightvit_lab.distillation import feature_distillation as features
from lightvit_lab.distillation.response_distillation.objectives import Labels
from lightvit_lab.distillation.model_outputs import ModelOutputs, collect_outputs
from lightvit_lab.errors import LabError

TIMM = {
    "vit_tiny_patch16_224": ({"img_size": 32, "patch_size": 8, "depth": 3}, 1),
    "deit_tiny_distilled_patch16_224": ({"img_size": 32, "patch_size": 8, "depth": 3}, 2),
    "vit_small_patch16_dinov3": ({"img_size": 64, "depth": 2}, 5),
    "resnet18": ({}, 0),
    "convnext_atto": ({}, 0),
    "swin_tiny_patch4_window7_224": ({"img_size": 64, "window_size": 2, "depths": (1, 1, 1, 1)}, 0),
}


def _images(size: int = 32, count: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def _model(name: str, **settings) -> nn.Module:
    torch.manual_seed(0)
    return models.create_model(name, **settings).eval()


@pytest.mark.parametrize("name", TIMM)
def test_features_of_timms_models_are_those_timm_gives(name):
    settings, prefix = TIMM[name]
    model, images = _model(name, **settings), _images(settings.get("img_size", 32), count=1)
    with torch.no_grad():
        shown = collect_outputs(model, images, features=(0, -1))
        expected = model.forward_intermediates(images, intermediates_only=True, norm=False, output_fmt="NCHW")
        torch.testing.assert_close(shown.logits, model(images))
    assert shown.prefix == prefix
    torch.testing.assert_close(shown.maps(0), expected[0])
    torch.testing.assert_close(shown.maps(-1), expected[-1])
    torch.testing.assert_close(shown.tokens(-1), expected[-1].flatten(2).transpose(1, 2))


@pytest.mark.parametrize("name", ["lab_vit", "lab_vit_student", "lab_cct"])
def test_features_of_the_labs_transformers_end_where_their_norm_begins(name):
    model, images = _model(name), _images()
    with torch.no_grad():
        shown = collect_outputs(model, images, features=(1, -1), attention=(-1,))
        torch.testing.assert_close(model.norm(shown.features[-1]), model.forward_features(images))
    prefix = 0 if name == "lab_cct" else 1
    assert shown.prefix == prefix and shown.tokens(1).shape[1] == model.num_image_tokens
    weights = shown.attention[-1]
    assert weights.shape[1] == 4 and weights.shape[2] == weights.shape[3] == prefix + model.num_image_tokens
    torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:3]))


def test_features_of_lightvit_are_its_maps_without_global_tokens():
    model, images = _model("lab_lightvit"), _images()
    with torch.no_grad():
        shown, expected = collect_outputs(model, images, features=(0, 1)), model.forward_intermediates(images, intermediates_only=True)
    assert shown.prefix == 4
    for stage in (0, 1):
        torch.testing.assert_close(shown.maps(stage), expected[stage])


def test_features_of_the_labs_cnn_are_its_stages():
    model, images = _model("lab_cnn"), _images()
    with torch.no_grad():
        shown, first = collect_outputs(model, images, features=(0, 2)), model.stages[0](model.stem(images))
    torch.testing.assert_close(shown.maps(0), first)
    torch.testing.assert_close(model.head(shown.maps(2).mean((2, 3))), shown.logits)


def test_maps_and_tokens_lay_patches_row_by_row_without_those_in_front():
    tokens = torch.arange(10.0).view(1, 10, 1)
    shown = ModelOutputs(torch.zeros(1, 2), features={0: tokens}, prefix=1)
    assert shown.maps(0).tolist() == [[[[1, 2, 3], [4, 5, 6], [7, 8, 9]]]]
    assert shown.tokens(0).flatten().tolist() == list(range(1, 10))
    assert ModelOutputs(torch.zeros(1, 2), features={0: shown.maps(0)}).tokens(0).flatten().tolist() == list(range(1, 10))


class _Plain(nn.Module):
    """Cuts pictures into `tokens` values, and says no more of them than how many stand for no patch, if any."""

    def __init__(self, tokens: int, prefix: int):
        super().__init__()
        if prefix:
            self.num_prefix_tokens = prefix
        self.tokens, self.blocks = tokens, nn.Sequential(nn.Identity())

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.blocks(images.flatten(1)[:, : self.tokens, None]).flatten(1)


@pytest.mark.parametrize("tokens, prefix", [(16, 0), (17, 1), (49, 0), (50, 1)])
def test_a_model_of_ones_own_says_how_many_tokens_stand_in_front_or_has_none(tokens, prefix):
    shown = collect_outputs(_Plain(tokens, prefix), _images(), features=(0,))
    assert shown.prefix == prefix and shown.maps(0).shape[2] ** 2 == tokens - prefix


@pytest.mark.parametrize("name", ["lab_vit_student", "vit_tiny_patch16_224"])
def test_values_are_the_last_third_of_qkv_head_by_head_and_let_gradients_through(name):
    model, images = _model(name, **TIMM.get(name, ({},))[0]), _images()
    seen, block = [], model.blocks[1]
    handle = block.norm1.register_forward_hook(lambda module, given, output: seen.append(output))
    found = collect_outputs(model, images, values=(1,))
    handle.remove()
    dim, heads = seen[0].shape[-1], block.attn.num_heads
    values = torch.nn.functional.linear(seen[0], block.attn.qkv.weight[2 * dim:], block.attn.qkv.bias[2 * dim:])
    torch.testing.assert_close(found.values[1], values.view(2, -1, heads, dim // heads).transpose(1, 2))
    assert found.prefix == 1 and not found.attention
    found.values[1].square().sum().backward()
    assert block.attn.qkv.weight.grad[2 * dim:].abs().sum() > 0 and block.attn.qkv.weight.grad[:2 * dim].abs().sum() == 0


def test_looking_leaves_no_hooks_and_lets_gradients_through_to_the_student():
    student = _model("lab_vit_student").train()
    shown = collect_outputs(student, _images(), features=(1,), attention=(1,))
    (shown.features[1].sum() + shown.attention[1][..., 0].sum()).backward()
    assert student.blocks[0].mlp.fc1.weight.grad.abs().sum() > 0 and student.blocks[3].mlp.fc1.weight.grad is None
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in student.modules())
    with pytest.raises(LabError):
        collect_outputs(student, torch.zeros(2, 5, 32, 32), features=(0,))
    assert not any(module._forward_hooks for module in student.modules())


@pytest.mark.parametrize("name, settings", [("lab_vit", {"distilled": True}), ("repvit_m0_9", {}),
                                            ("deit_tiny_distilled_patch16_224", TIMM["deit_tiny_distilled_patch16_224"][0])])
def test_both_heads_are_asked_in_train_mode_and_the_switch_is_set_back(name, settings):
    model = _model(name, **settings)
    with torch.no_grad():
        assert collect_outputs(model, _images()).token_logits is None
        model.train()
        assert collect_outputs(model, _images()).token_logits is not None
        assert isinstance(model(_images()), torch.Tensor)


class _Skipping(nn.Module):
    """Has two blocks and calls one; the other puts out no tokens."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 4)), nn.Identity()])

    def forward(self, images):
        return self.blocks[0](images)


BAD = {
    "no such layer": (lambda: collect_outputs(_model("lab_cnn"), _images(), features=(3,)), r"layer=3; give a number with -3 <= layer <= 2"),
    "no whole layer": (lambda: collect_outputs(_model("lab_cnn"), _images(), features=(0.5,)), "layer=0.5; give a whole number with -3 <= layer <= 2"),
    "attention of a CNN": (lambda: collect_outputs(_model("lab_cnn"), _images(), attention=(-1,)), "no attention .*AttentionTransfer"),
    "attention in windows": (lambda: collect_outputs(_model("lab_lightvit"), _images(), attention=(0,)), "several ways .*AttentionTransfer"),
    "a layer passed by": (lambda: collect_outputs(_Skipping(), _images(), features=(1,)), "showed no features of layer 1"),
    "features of a vector": (lambda: collect_outputs(_Skipping(), _images(), features=(0,)), r"features of shape \(2, 4\)"),
    "tokens in two lists": (lambda: collect_outputs(_model("crossvit_tiny_240"), _images(240, 1), features=(0,)),
                            "features of type list"),
    "neither blocks nor stages": (lambda: collect_outputs(nn.Flatten(), _images(), features=(0,)), "no `blocks`, no `stages`"),
    "no square": (lambda: ModelOutputs(torch.zeros(1, 2), prefix=1).grid("tokens", 51), "51 tokens, 1 of them in front, form no square"),
    "nothing but those in front": (lambda: ModelOutputs(torch.zeros(1, 2), prefix=1).grid("tokens", 1), "form no square"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_seen_is_refused_with_what_can(name):
    call, message = BAD[name]
    with pytest.raises(LabError, match=message):
        call()


# in a run

STEPS = {"steps": 3, "batch_size": 8, "lr": 1e-3, "threads": 1, "precision": "float32", "attention": "fused",
         "teacher_precision": "float32", "progress": False}
KINDS = [features.AttentionTransfer, features.AttentionWeights, features.Similarity, features.Relational, features.Manifold,
         features.Hint, features.ShallowMimic, features.DeepGeneration, features.ValueRelations]


@pytest.fixture(scope="module")
def shapes() -> data.Pictures:
    return data.load("shapes", count=128)


def _run(shapes: data.Pictures, teacher: str, objective, **settings):
    student, guide = _model("lab_vit_student").train(), _model(teacher)
    before = {name: value.clone() for name, value in guide.state_dict().items()}
    history = distill(student, guide, shapes, {"labels": Labels(), "features": objective}, **{**STEPS, **settings})
    for name, value in guide.state_dict().items():
        assert torch.equal(value, before[name])
    return student, history


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("teacher", ["lab_vit", "lab_cnn"])
def test_each_objective_trains_the_student_with_either_teacher_and_leaves_no_projector(kind, teacher, shapes):
    if kind in (features.AttentionWeights, features.ValueRelations) and teacher == "lab_cnn":
        with pytest.raises(LabError, match="ResidualNetwork has no attention .*AttentionTransfer"):
            _run(shapes, teacher, kind())
        return
    student, history = _run(shapes, teacher, kind())
    assert student.state_dict().keys() == _model("lab_vit_student").state_dict().keys()
    terms = history.terms["features"]
    assert len(terms) == 3 and all(term > 0 for term in terms)
    assert history.loss == pytest.approx([sum(pair) for pair in zip(history.terms["labels"], terms)], rel=1e-5)


def test_a_lifted_student_is_compared_without_a_projector_and_keeps_its_lift(shapes):
    student = features.lift_last_layer(_model("lab_vit_student", pool="mean"), 128).train()
    history = distill(student, _model("lab_cnn"), shapes, {"labels": Labels(), "lifted": features.LiftedLastLayer()}, **STEPS)
    assert student.blocks[-1][0].weight.shape == (128, 64) and student.head.in_features == 128
    first, *_, last = history.terms["lifted"]
    assert 0 < last < first
    with pytest.raises(LabError, match=r"lift_last_layer\(student, 128\)"):
        _run(shapes, "lab_cnn", features.LiftedLastLayer())


def test_a_run_with_projectors_is_the_same_again_and_taken_up_where_it_stopped(shapes, tmp_path):
    class Stop(Exception):
        pass

    def stop(history, steps):
        if len(history.loss) == 2:
            raise Stop

    objective, path = features.DeepGeneration(), tmp_path / "run.pt"
    plain, _ = _run(shapes, "lab_vit", objective)
    with pytest.raises(Stop):
        _run(shapes, "lab_vit", objective, checkpoint=path, save_every=1, callback=stop)
    resumed, history = _run(shapes, "lab_vit", objective, checkpoint=path, save_every=1)
    assert len(history.loss) == 3
    for one, other in zip(plain.state_dict().values(), resumed.state_dict().values()):
        assert torch.equal(one, other)


def test_what_does_not_join_is_refused_before_the_first_step(shapes):
    seen = []
    for objective, settings, message in (
            (features.Relational(), {"batch_size": 2}, "the batch has 2; give a batch_size of 3"),
            (features.Hint(teacher_layer=7), {}, "layer=7"),
            (features.AttentionTransfer(student_layer=(0, 1), teacher_layer=(0, 9)), {}, "layer=9")):
        with pytest.raises(LabError, match=message):
            _run(shapes, "lab_vit", objective, callback=lambda history, steps: seen.append(steps), **settings)
    assert not seen
