"""What is no logits (batch, classes), or does not fit the labels, is refused wherever logits are taken."""

import copy

import pytest
import torch
from torch import nn

from lightvit_lab import data, explain, models, training
from lightvit_lab.compression.pruning import prune_mlp
from lightvit_lab.distillation.stored_logits import store_logits
from lightvit_lab.errors import LabError

QUICK = {"steps": 1, "batch_size": 8, "progress": False, "threads": 1, "precision": "float32", "attention": "fused"}
P = data.load("shapes", "train", count=32)
INPUTS, LABELS = P.batch(torch.arange(8))


def small(**how):
    return models.create_model("lab_vit_student", dim=32, depth=2, num_heads=2, **how).eval()


def vit(**how):
    return models.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=48, depth=2, num_heads=3,
                               **{"num_classes": 10, **how}).eval()


class Answers(nn.Module):
    """A model that hands on another's answer in another shape."""

    def __init__(self, shape):
        super().__init__()
        self.inner, self.shape = small(), shape

    def forward(self, inputs):
        return self.shape(self.inner(inputs))


WRONG = {"features_only": lambda: models.create_model("resnet18", features_only=True).eval(),
         "list": lambda: Answers(lambda logits: [logits]), "tuple": lambda: Answers(lambda logits: (logits, logits)),
         "dict": lambda: Answers(lambda logits: {"logits": logits}),
         "a number a picture": lambda: Answers(lambda logits: logits[:, 0]),
         "a map": lambda: Answers(lambda logits: logits[:, :, None]), "no classes": lambda: vit(num_classes=0),
         "no classes of a cnn": lambda: models.create_model("resnet18", num_classes=0).eval()}
CALLS = {
    "evaluate": lambda model: training.evaluate(model, P),
    "evaluate, mirrored": lambda model: training.evaluate(model, P, flip=True),
    "fit": lambda model: training.fit(model, P, **QUICK),
    "store_logits": lambda model: store_logits(model.eval(), P, "nowhere.safetensors", steps=1, batch_size=8, progress=False,
                                               teacher_precision="float32"),
    "occlusion": lambda model: explain.occlusion(model, INPUTS, patch_size=16, progress=False),
    "integrated_gradients": lambda model: explain.integrated_gradients(model, INPUTS[:1], steps=2, progress=False),
}


@pytest.mark.parametrize("model", WRONG)
@pytest.mark.parametrize("call", CALLS)
def test_what_is_no_logits_is_refused(call, model):
    if call == "store_logits" and model == "tuple":
        pytest.skip("two heads, of a model with a distillation token")
    with pytest.raises(LabError, match=r"no logits \(batch, classes\)"):
        CALLS[call](WRONG[model]())


@pytest.mark.parametrize("call", [
    lambda: training.evaluate(small(num_classes=5), P),
    lambda: training.fit(small(num_classes=5), P, **QUICK),
    lambda: training.fit(small(num_classes=5), _of_five(), validation=P, **QUICK),
    lambda: store_logits(small(num_classes=5), P, "nowhere.safetensors", steps=1, batch_size=8, progress=False),
    lambda: prune_mlp(small(num_classes=5), 0.5, importance="taylor", calibration=(INPUTS, LABELS + 9)),
])
def test_labels_that_the_logits_do_not_have_are_refused(call):
    with pytest.raises(LabError, match="labels .*run from"):
        call()


def _of_five():
    index = torch.nonzero(P.labels < 5).flatten()
    return data.Pictures("five", "train", P.pixels[index], P.labels[index], P.class_names[:5], P.mean, P.std)


def test_a_headless_student_may_still_learn_by_an_objective_of_its_own():
    def objective(model, batch):
        return model(batch.inputs).square().mean()

    assert len(training.fit(vit(num_classes=0), P, objective=objective, **QUICK).loss) == 1


@pytest.mark.parametrize("make", [
    lambda: models.create_model("resnet18", num_classes=10),
    lambda: nn.Sequential(nn.Flatten(), nn.Linear(3072, 4), nn.BatchNorm1d(4), nn.Linear(4, 10)),
    lambda: nn.Sequential(nn.Conv2d(3, 4, 32), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 10)),
])
def test_one_picture_a_batch_is_refused_before_the_first_step_where_batch_norm_needs_two(make):
    model = make()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(LabError, match="cannot train on one picture at a time.*batch_size of at least two"):
        training.fit(model, P, **{**QUICK, "batch_size": 1})
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("name", ["lab_cnn", "lab_vit_student", "lab_cct"])
def test_models_that_can_train_on_one_picture_still_do(name):
    assert len(training.fit(models.create_model(name), P, **{**QUICK, "batch_size": 1}).loss) == 1


@pytest.mark.parametrize("name, place", [("lab_vit_student", "head"), ("vit_tiny_patch16_224", "head"), ("resnet18", "fc"),
                                         ("lab_lightvit", "head"), ("mobilenetv3_small_050", "classifier")])
def test_features_behind_a_head_that_was_taken_away_by_hand_are_no_logits(name, place):
    model = models.create_model(name, num_classes=10, **({"img_size": 32} if name.startswith("vit") else {}))
    setattr(model, place, nn.Identity())
    with pytest.raises(LabError, match="evaluate: .* features without a head"):
        training.evaluate(model, data.load("shapes", "train", count=16))


def test_a_model_of_ones_own_may_call_a_part_that_does_nothing_its_head():
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10))
    model.head = nn.Identity()
    assert training.evaluate(model, data.load("shapes", "train", count=16)).count == 16


class _Two(nn.Module):
    """Logits, and something that is none."""

    def __init__(self, *more):
        super().__init__()
        self.model, self.more = small(), more

    def forward(self, inputs):
        return (self.model(inputs), *self.more)


@pytest.mark.parametrize("more", [(None,), ("text",), (None, None), ()])
def test_a_teacher_that_returns_more_than_logits_is_refused_by_name(more, tmp_path):
    with pytest.raises(LabError, match="_Two makes no logits .* but a tuple"):
        store_logits(_Two(*more).eval(), data.load("shapes", "train", count=16), tmp_path / "logits", steps=1,
                     batch_size=8, progress=False)


@pytest.mark.parametrize("explainer", [explain.relevance_map, explain.grad_cam, explain.class_attention, explain.deep_lift])
def test_a_target_made_inside_inference_mode_is_as_good_as_another(explainer):
    model, inputs = small().eval(), torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        found = explainer(model, inputs, torch.tensor([1, 2]))
    assert torch.equal(found, explainer(model, inputs, torch.tensor([1, 2])))
