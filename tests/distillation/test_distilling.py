import copy
import runpy
from dataclasses import dataclass
from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor, nn

from launching import found_by_two
from lightvit_lab import data, models, training
from lightvit_lab.distillation import distill, distilling, model_outputs
from lightvit_lab.distillation.response_distillation.objectives import (
    Correlation, Decoupled, DistillationToken, HardTargets, Labels, PerSample, SoftTargets)
from lightvit_lab.errors import LabError
from lightvit_lab.training import loop

SCRIPT = Path(__file__).with_name("two_students.py")
TWO = runpy.run_path(str(SCRIPT))
Net, pictures, teacher, run, RUN = (TWO[name] for name in ("Net", "pictures", "teacher", "run", "RUN"))


class Stop(Exception):
    pass


@dataclass(frozen=True)
class Hint:
    """A small feature objective with a projector: what two blocks show is to be alike after a linear map."""

    weight: float = 1.0
    student_features: tuple[int, ...] = (0,)
    teacher_features: tuple[int, ...] = (-1,)

    def build(self, student, teacher) -> nn.Module:
        return Projected(nn.Conv2d(student.features[0].shape[1], teacher.features[-1].shape[1], 1))


class Projected(nn.Module):
    built: list = []

    def __init__(self, map: nn.Module):
        super().__init__()
        self.map, self.before = map, copy.deepcopy(map.state_dict())
        self.built.append(self)

    def forward(self, student, teacher, batch) -> Tensor:
        return (self.map(student.features[0]) - teacher.features[-1]).square().mean()


@dataclass(frozen=True)
class StopsAt:
    """Nothing to learn from, and the run breaks off in a step."""

    step: int
    weight: float = 0.0

    def __repr__(self) -> str:
        return "StopsAt()"          # so that a checkpoint takes the run without the stop for the same

    def __call__(self, student, teacher, batch) -> Tensor:
        if batch.step == self.step:
            raise Stop
        return student.logits.sum()


def test_the_teacher_stays_as_it_was_bit_for_bit():
    guide = teacher()
    before = copy.deepcopy(guide.state_dict())
    run(Net(), guide)
    assert not any(module.training for module in guide.modules())
    assert all(value.grad is None and value.requires_grad for value in guide.parameters())
    for name, value in guide.state_dict().items():
        assert torch.equal(value, before[name]), name     # the batch norm's running means too


def test_the_student_is_trained_and_left_in_eval_mode():
    student = Net()
    before = copy.deepcopy(student.state_dict())
    run(student, teacher())
    assert not student.training
    assert all(not torch.equal(value, before[name]) for name, value in student.state_dict().items())


def test_the_terms_add_up_to_the_loss_and_are_weighted():
    history = run(Net(), teacher())
    assert list(history.terms) == ["labels", "soft"] and len(history.terms["soft"]) == len(history.loss) == 9
    for loss, labels, soft in zip(history.loss, *history.terms.values()):
        assert labels + soft == pytest.approx(loss, rel=1e-6) and soft > 0
    heavier = distill(Net(), teacher(), pictures(), {"labels": Labels(), "soft": SoftTargets(2.0, weight=5)}, **RUN)
    assert heavier.terms["soft"][0] == pytest.approx(10 * history.terms["soft"][0], rel=1e-2)


def test_the_bar_shows_every_term(monkeypatch):
    texts = []
    monkeypatch.setattr(loop.tqdm, "set_postfix_str", lambda self, text, refresh: texts.append(text))
    history = run(Net(), teacher(), steps=2)
    labels, soft = (history.terms[name][0] for name in ("labels", "soft"))
    assert texts[0].startswith(f"loss {history.loss[0]:.3f} = labels {labels:.3f} + soft {soft:.3f}, right")


def test_settings_are_found_by_name_wherever_they_stand_in_the_call_of_fit():
    def rearranged(seed=3, *, epochs=2, data, model, patience=5):
        """A loop whose parameters stand in another order."""

    assert distilling._settings(rearranged) == {"seed": 3, "epochs": 2, "patience": 5}
    known = distilling._settings(training.fit)
    assert {"epochs", "steps", "lr", "batch_size", "seed", "threads"} <= set(known) and not {"model", "data"} & set(known)


def test_labels_alone_are_the_run_that_fit_makes():
    ours, plain = Net(), Net()
    history = distill(ours, teacher(), pictures(), {"labels": Labels()}, **RUN)
    assert history.loss == training.fit(plain, pictures(), **RUN).loss
    for name, value in plain.state_dict().items():
        assert torch.equal(ours.state_dict()[name], value), name


def test_a_projector_learns_beside_the_student_and_is_dropped():
    student, names = Net(), set(Net().state_dict())
    distill(student, teacher(), pictures(), {"labels": Labels(), "hint": Hint()}, **RUN)
    projected = Projected.built[-1]
    assert not torch.equal(projected.map.weight, projected.before["weight"])
    assert set(student.state_dict()) == names


def test_the_run_decides_what_projectors_begin_with_and_takes_no_random_numbers_of_the_caller():
    begun = []
    for before in (1, 2):
        student, guide = Net(), teacher()
        torch.manual_seed(before)
        expected = torch.rand(1)
        torch.manual_seed(before)
        distill(student, guide, pictures(), {"hint": Hint()}, **{**RUN, "steps": 1})
        begun.append(Projected.built[-1].before["weight"])
        assert torch.equal(torch.rand(1), expected)
    assert torch.equal(*begun)


def resumable(student: nn.Module, guide: nn.Module, path: Path, stop: int = 0, **changes) -> training.History:
    objectives = {"labels": Labels(), "soft": SoftTargets(), "hint": Hint(), "stop": StopsAt(stop)}
    return distill(student, guide, pictures(), objectives, checkpoint=path, save_every=3, **{**RUN, **changes})


def test_a_run_stopped_half_way_ends_with_the_bits_of_one_that_was_not(tmp_path):
    whole, stopped, taken_up = Net(), Net(), Net(99)
    history = resumable(whole, teacher(), tmp_path / "whole.pt")
    with pytest.raises(Stop):
        resumable(stopped, teacher(), tmp_path / "run.pt", stop=5)
    again = resumable(taken_up, teacher(), tmp_path / "run.pt")
    assert again.loss == history.loss and again.terms == history.terms
    for name, value in whole.state_dict().items():
        assert torch.equal(taken_up.state_dict()[name], value), name


def test_a_resumed_run_keeps_the_teachers_precision_though_another_would_now_pay(tmp_path, monkeypatch):
    found = {}
    for first in (True, False):
        path = tmp_path / f"{first}.pt"
        monkeypatch.setattr(model_outputs, "_half_pays", lambda model, inputs, answer=first: answer)
        with pytest.raises(Stop):
            resumable(Net(), teacher(), path, stop=5)
        monkeypatch.setattr(model_outputs, "_half_pays", lambda model, inputs, answer=not first: answer)
        found[first] = resumable(Net(), teacher(), path)
    assert [found[first].choices["teacher_precision"] for first in (True, False)] == ["bfloat16", "float32"]
    plain = resumable(Net(), teacher(), tmp_path / "plain.pt", teacher_precision="float32")
    assert found[False].loss == plain.loss != found[True].loss


def test_a_checkpoint_is_refused_by_another_teacher_and_by_other_objectives(tmp_path):
    path = tmp_path / "run.pt"
    run(Net(), teacher(), checkpoint=path)
    for guide, changes in ((Net(8, 8, restless=True).eval(), {}), (teacher(), {"teacher_precision": "auto"})):
        with pytest.raises(LabError, match="checkpoint of another run: .*objective is"):
            run(Net(), guide, checkpoint=path, **changes)
    with pytest.raises(LabError, match=r"another run: .*SoftTargets\(temperature=2.0.*SoftTargets\(temperature=3.0"):
        distill(Net(), teacher(), pictures(), {"labels": Labels(), "soft": SoftTargets(3.0, weight=0.5)},
                teacher_precision="float32", checkpoint=path, **RUN)


def test_a_student_in_half_precision_leaves_the_teacher_and_the_losses_in_float32():
    class Listens(Net):
        heard: list = []

        def forward(self, inputs: Tensor) -> Tensor:
            logits = super().forward(inputs)
            self.heard.append(logits.dtype)
            return logits

    @dataclass(frozen=True)
    class Squares(Labels):
        def __call__(self, student, teacher, batch) -> Tensor:
            Listens.heard.append((student.logits.T @ teacher.logits).dtype)
            return super().__call__(student, teacher, batch)

    distill(Net(), Listens(7).eval(), pictures(), {"labels": Squares()}, teacher_precision="float32",
            **{**RUN, "precision": "bfloat16", "steps": 2})
    assert set(Listens.heard) == {torch.float32}
    Listens.heard.clear()
    distill(Net(), Listens(7).eval(), pictures(), {"labels": Labels()}, teacher_precision="bfloat16",
            **{**RUN, "steps": 2})
    assert Listens.heard[-1] == torch.bfloat16


@pytest.mark.parametrize("objective", [
    SoftTargets(), SoftTargets(8, final_temperature=1, steps=100), SoftTargets(2, standardized=True), HardTargets(),
    PerSample(), Decoupled(), Correlation()], ids=str)
def test_a_student_born_again_agrees_with_its_teacher_without_seeing_a_label(objective):
    """Self-distillation (born again, 1805.04770): the teacher is a trained model of the student's own architecture.

    The teacher's classes are turned round, so that no other way leads to them.
    """
    guide = Net(3)
    training.fit(guide, pictures(), **{**RUN, "steps": 60, "augment": ()})
    with torch.no_grad():
        guide.head.weight.copy_(guide.head.weight[[1, 2, 0]])
        guide.head.bias.copy_(guide.head.bias[[1, 2, 0]])
    student = Net(4)
    distill(student, guide, pictures(), {"taught": objective}, **{**RUN, "lr": 2e-2, "steps": 100, "augment": ()})
    with torch.no_grad():
        said, learnt = guide(pictures().inputs).argmax(1), student(pictures().inputs).argmax(1)
    assert (said == (pictures().labels + 2) % 3).float().mean() > 0.9
    assert (learnt == said).float().mean() > 0.9


def lab_and_timm() -> tuple[nn.Module, nn.Module]:
    lab = models.create_model("lab_vit", dim=32, depth=2, num_heads=2, embedding="patch", distilled=True)
    official = timm.models.deit.VisionTransformerDistilled(
        img_size=32, patch_size=4, embed_dim=32, depth=2, num_heads=2, num_classes=10)
    with torch.no_grad():
        for value in official.parameters():
            value.normal_(std=0.2)
    lab.load_state_dict(official.state_dict())
    return lab, official


@pytest.mark.parametrize("mode", ["eval", "train", "both heads"])
def test_the_labs_distilled_vit_is_timms_deit_with_the_same_weights(mode):
    lab, official = lab_and_timm()
    inputs = torch.randn(2, 3, 32, 32)
    for model in (lab, official):
        model.train(mode != "eval").set_distilled_training(mode == "both heads")
    found, expected = lab(inputs), official(inputs)
    assert isinstance(found, tuple) == isinstance(expected, tuple) == (mode == "both heads")
    for one, other in zip(*(given if isinstance(given, tuple) else (given,) for given in (found, expected))):
        assert one.std() > 0.1 and (one - other).abs().max() < 1e-4


@pytest.mark.parametrize("make", [
    lambda: models.create_model("lab_vit_student", dim=16, depth=1, num_heads=2, patch_size=8, distilled=True),
    lambda: timm.create_model("deit_tiny_distilled_patch16_224", img_size=32, depth=1, num_classes=10)],
    ids=["lab", "timm"])
def test_both_heads_of_a_student_with_a_token_learn_and_its_mean_comes_back(make):
    torch.manual_seed(0)
    student, guide = make(), models.create_model("lab_cnn", widths=(4, 8)).eval()
    before = [copy.deepcopy(head.weight) for head in (student.head, student.head_dist)]
    history = distill(student, guide, data.load("shapes", count=16), {"token": DistillationToken()},
                      **{**RUN, "steps": 2, "batch_size": 8})
    for head, weight in zip((student.head, student.head_dist), before):
        assert not torch.equal(head.weight, weight)
    assert student.distilled_training is False and isinstance(student(torch.zeros(2, 3, 32, 32)), Tensor)
    assert list(history.terms) == ["token"]


def test_a_token_whose_head_nothing_teaches_is_refused():
    student = models.create_model("lab_vit_student", dim=16, depth=1, num_heads=2, patch_size=8, distilled=True)
    guide, few = models.create_model("lab_cnn", widths=(4, 8)).eval(), data.load("shapes", count=16)
    refused(r"no objective teaches its head.*SoftTargets\(\).*distilled=False", student, guide, few,
            {"labels": Labels()})
    distill(student, guide, few, {"labels": Labels(), "soft": SoftTargets()}, **{**RUN, "steps": 1, "batch_size": 8})


def refused(message: str, *given, **settings) -> None:
    with pytest.raises(LabError, match=message):
        distill(*given, **{**RUN, **settings})


def test_a_teacher_in_train_mode_is_refused_also_if_only_one_part_is():
    guide = teacher()
    guide.blocks[1].train()
    refused(r"the teacher, Net, is in train mode.*call teacher.eval\(\)", Net(), guide, pictures(),
            {"labels": Labels()})


def test_a_teacher_of_other_classes_is_refused_before_the_first_step():
    student = Net()
    before = copy.deepcopy(student.state_dict())
    refused("the student makes 3 logits and the teacher 5", student, Net(classes=5).eval(), pictures(),
            {"labels": Labels()})
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())


def test_a_student_that_would_teach_itself_is_refused():
    student = Net().eval()
    refused(r"share parameters.*copy.deepcopy\(student\)", student, student, pictures(), {"labels": Labels()})
    guide = teacher()
    guide.head = student.head
    refused("share parameters", student, guide, pictures(), {"labels": Labels()})


def test_a_token_objective_for_a_student_without_token_is_refused():
    refused("the student has no distillation token.*distilled=True", Net(), teacher(), pictures(),
            {"token": DistillationToken()})


@pytest.mark.parametrize("objectives, settings, message", [
    ({}, {}, "give a dict of name -> objective"), (Labels(), {}, "give a dict of name -> objective"),
    ({"labels": training.label_loss}, {}, "'labels' is a function without a weight"),
    ({"labels": Labels(weight=-1)}, {}, "the weight of 'labels'=-1"),
    ({"labels": Labels()}, {"label_smoothing": 0.1}, r"Labels\(smoothing=0.1\)"),
    ({"labels": Labels()}, {"objective": None}, "give `objectives`"),
    ({"labels": Labels()}, {"learning_rate": 1}, "learning_rate is no setting here; settings are: epochs"),
    ({"labels": Labels()}, {"teacher_precision": "half"}, "teacher_precision='half'.*auto, float32, bfloat16"),
    ({"labels": Labels()}, {"batch_size": 0}, "batch_size=0"),
    ({"labels": Labels()}, {"batch_size": 51}, "give batch_size <= 50"),
    ({"hint": Hint(student_features=(2,))}, {}, r"layer=2"),
])
def test_what_makes_no_distillation_is_refused(objectives, settings, message):
    refused(message, Net(), teacher(), pictures(), objectives, **settings)


def test_what_is_no_teacher_is_refused():
    refused(r"the teacher is a str; give a model in eval mode, or StoredLogits\(path\)", Net(), "lab_cnn", pictures(),
            {"labels": Labels()})


@pytest.fixture(scope="module")
def of_two(tmp_path_factory) -> dict:
    """What two processes on the CPU find."""
    pytest.importorskip("accelerate")
    return found_by_two(SCRIPT, tmp_path_factory.mktemp("two"))


@pytest.mark.parametrize("label, within", [("live", 1e-5), ("stored", 2e-3)])
def test_two_processes_find_what_one_finds_with_a_teacher_and_with_stored_logits(of_two, label, within):
    student = Net()
    history, found = run(student, teacher()), of_two[label]
    assert found["processes"] == 2
    for name, values in history.terms.items():
        assert found["terms"][name] == pytest.approx(values, rel=within)
    for name, value in student.state_dict().items():
        assert (found["weights"][name] - value).norm() <= within * value.norm(), name


@pytest.mark.parametrize("label, objectives", [("hint", {**TWO["LOGITS"], **TWO["HINT"]}), ("hint alone", TWO["HINT"])])
def test_two_processes_train_a_projector_and_leave_out_a_head_that_nothing_teaches(of_two, label, objectives):
    student = Net()
    start = {name: value.clone() for name, value in student.state_dict().items()}
    history, found = run(student, teacher(), objectives), of_two[label]
    for name, values in history.terms.items():       # of the hint, they follow the projector too
        assert found["terms"][name] == pytest.approx(values, rel=1e-5)
    for name, value in student.state_dict().items():
        assert (found["weights"][name] - value).norm() <= 1e-5 * value.norm(), name
    assert torch.equal(found["weights"]["head.weight"], start["head.weight"]) == (label == "hint alone")
