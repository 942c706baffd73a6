import json
import math
from pathlib import Path

import numpy
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightvit_lab.distillation import ModelOutputs
from lightvit_lab.distillation.response_distillation import objectives as responses
from lightvit_lab.errors import LabError
from lightvit_lab.training import Batch

REFERENCE = json.loads(Path(__file__).with_name("distillation_reference.json").read_text())
GIVEN = {name: torch.tensor(value) for name, value in REFERENCE["inputs"].items()}
STUDENT, TOKEN, TEACHER, LABELS = (GIVEN[name] for name in ("student_cls", "student_dist", "teacher", "labels"))
CLASSES, SETTINGS = 10, ("distillation_type", "alpha", "tau")
LOSSES = {
    "soft": lambda ours, theirs: responses.soft_target_loss(ours, theirs),
    "hard": lambda ours, theirs: responses.hard_target_loss(ours, theirs),
    "deit hard": lambda ours, theirs: responses.deit_loss(STUDENT, ours, theirs, LABELS, "hard"),
    "deit soft": lambda ours, theirs: responses.deit_loss(STUDENT, ours, theirs, LABELS, "soft", temperature=3.0),
    "decoupled": lambda ours, theirs: responses.decoupled_loss(ours, theirs, LABELS),
    "dist": lambda ours, theirs: responses.dist_loss(ours, theirs),
}
OBJECTIVES = [responses.SoftTargets(), responses.SoftTargets(standardized=True), responses.HardTargets(),
              responses.PerSample(), responses.Decoupled(), responses.Correlation()]


def softmax(logits: Tensor, temperature: float = 1.0) -> numpy.ndarray:
    """By numpy, in double precision."""
    values = numpy.exp(logits.double().numpy() / temperature)
    return values / values.sum(1, keepdims=True)


def batch(step: int = 1, **mixed) -> Batch:
    return Batch(torch.zeros(len(LABELS), 3, 4, 4), LABELS, torch.arange(len(LABELS)), step=step, **mixed)


def mixed_batch() -> Batch:
    order = torch.arange(len(LABELS)).flip(0)
    return batch(partner=order, partner_labels=LABELS[order], mix=0.3)


@pytest.mark.parametrize("case", REFERENCE["cases"], ids=lambda case: " ".join(map(str, list(case.values())[:4])))
def test_loss_and_gradients_of_deit_are_those_of_its_code(case):
    labels = {"ce": LABELS, "label_smoothing_0.1": responses.smooth_labels(LABELS, CLASSES, 0.1),
              "soft_target": GIVEN["soft_labels"]}[case["base_criterion"]]
    of_class, of_token = STUDENT.clone().requires_grad_(), TOKEN.clone().requires_grad_()
    loss = responses.deit_loss(of_class, of_token, TEACHER, labels, *(case[name] for name in SETTINGS))
    loss.backward()
    found = [loss.item(), of_class.grad.norm().item(), of_token.grad.norm().item()]
    assert found == pytest.approx([case["loss"], case["grad_cls_l2"], case["grad_dist_l2"]], rel=1e-5)


class Says(nn.Module):
    """A model that says the same whatever it sees, with what timm's tasks ask of one."""

    num_classes, in_chans = CLASSES, 3
    pretrained_cfg = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}

    def __init__(self, *logits: Tensor):
        super().__init__()
        self.logits = nn.ParameterList(value.clone() for value in logits)

    def set_distilled_training(self, enable: bool = True) -> None:
        pass

    def forward(self, inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        return self.logits[0] if len(self.logits) == 1 else tuple(self.logits)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_soft_targets_are_timms_logit_distillation(temperature):
    task = pytest.importorskip("timm.task").LogitDistillationTask(
        Says(STUDENT), Says(TEACHER), nn.CrossEntropyLoss(), temperature=temperature, verbose=False)
    found = task(torch.zeros(8, 3, 4, 4), LABELS)
    assert found["kd_loss"].item() == pytest.approx(
        responses.soft_target_loss(STUDENT, TEACHER, temperature).item(), rel=1e-5)


@pytest.mark.parametrize("kind, share", [("hard", 1), ("soft", CLASSES)])
def test_the_token_loss_is_timms_but_for_the_classes_by_which_deits_code_divides(kind, share):
    task = pytest.importorskip("timm.task").TokenDistillationTask(
        Says(STUDENT, TOKEN), Says(TEACHER), nn.CrossEntropyLoss(), distill_type=kind, temperature=3.0,
        task_loss_weight=0.3, distill_loss_weight=0.7 / share, verbose=False)
    ours = responses.deit_loss(STUDENT, TOKEN, TEACHER, LABELS, kind, alpha=0.7, temperature=3.0)
    assert task(torch.zeros(8, 3, 4, 4), LABELS)["loss"].item() == pytest.approx(ours.item(), rel=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_no_gradient_reaches_the_teacher(name):
    ours, theirs = TOKEN.clone().requires_grad_(), TEACHER.clone().requires_grad_()
    LOSSES[name](ours, theirs).backward()
    assert theirs.grad is None and ours.grad.abs().sum() > 0


@pytest.mark.parametrize("objective", OBJECTIVES, ids=str)
def test_no_gradient_reaches_the_teacher_through_an_objective(objective):
    ours, theirs = STUDENT.clone().requires_grad_(), TEACHER.clone().requires_grad_()
    objective(ModelOutputs(ours), ModelOutputs(theirs), batch()).backward()
    assert theirs.grad is None and ours.grad.abs().sum() > 0


def test_the_divergence_expects_by_the_teacher_and_not_by_the_student():
    ours, theirs = torch.tensor([[0.0, 0.0]]), torch.tensor([[math.log(3), 0.0]])      # (1/2, 1/2) and (3/4, 1/4)
    forward = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    reverse = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    assert responses.soft_target_loss(ours, theirs, 1.0).item() == pytest.approx(forward, rel=1e-6)
    assert abs(forward - reverse) > 0.01


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])
def test_the_gradient_of_soft_targets_is_t_times_the_gap_of_probabilities(temperature):
    ours = STUDENT.clone().requires_grad_()
    responses.soft_target_loss(ours, TEACHER, temperature).backward()
    by_hand = temperature * (softmax(STUDENT, temperature) - softmax(TEACHER, temperature)) / len(STUDENT)
    assert numpy.abs(ours.grad.numpy() - by_hand).max() < 1e-6


def test_soft_targets_are_a_mean_over_pictures_and_not_over_classes():
    once, twice = (responses.soft_target_loss(STUDENT.repeat(n, 1), TEACHER.repeat(n, 1)) for n in (1, 2))
    ours, theirs = softmax(STUDENT, 4), softmax(TEACHER, 4)
    by_hand = 16 * (theirs * numpy.log(theirs / ours)).sum(1).mean()
    assert once.item() == pytest.approx(by_hand, rel=1e-5) and twice.item() == pytest.approx(by_hand, rel=1e-5)


def test_a_temperature_a_picture_is_that_of_each_picture():
    temperatures = torch.linspace(0.5, 8, len(STUDENT))[:, None]
    each = [responses.soft_target_loss(STUDENT[i : i + 1], TEACHER[i : i + 1], temperatures[i].item())
            for i in range(len(STUDENT))]
    together = responses.soft_target_loss(STUDENT, TEACHER, temperatures)
    assert together.item() == pytest.approx(torch.stack(each).mean().item(), rel=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_parts_of_the_decoupled_loss_add_up_to_the_plain_one(temperature):
    target, others, weight = responses.decoupled_parts(STUDENT, TEACHER, LABELS, temperature)
    whole = temperature**2 * (target + weight * others).mean()
    assert whole.item() == pytest.approx(responses.soft_target_loss(STUDENT, TEACHER, temperature).item(), rel=1e-5)


def test_the_decoupled_loss_is_the_papers_written_out_picture_by_picture():
    ours, theirs, total = softmax(STUDENT, 4), softmax(TEACHER, 4), 0.0
    for p, q, label in zip(ours, theirs, LABELS.tolist()):
        pair = sum(b * math.log(b / a) for a, b in ((p[label], q[label]), (1 - p[label], 1 - q[label])))
        rest = [(p[i] / (1 - p[label]), q[i] / (1 - q[label])) for i in range(CLASSES) if i != label]
        total += 2.0 * pair + 5.0 * sum(b * math.log(b / a) for a, b in rest)
    found = responses.decoupled_loss(STUDENT, TEACHER, LABELS, alpha=2.0, beta=5.0)
    assert found.item() == pytest.approx(16 * total / len(STUDENT), rel=1e-5)


def test_dist_correlates_rows_and_columns_as_numpy_does():
    ours, theirs = softmax(STUDENT, 2), softmax(TEACHER, 2)
    rows = numpy.mean([1 - numpy.corrcoef(a, b)[0, 1] for a, b in zip(ours, theirs)])
    columns = numpy.mean([1 - numpy.corrcoef(a, b)[0, 1] for a, b in zip(ours.T, theirs.T)])
    found = responses.dist_loss(STUDENT, TEACHER, beta=2.0, gamma=0.5, temperature=2.0)
    assert found.item() == pytest.approx(4 * (2 * rows + 0.5 * columns), rel=1e-5)


@pytest.mark.parametrize("objective", OBJECTIVES[:2] + OBJECTIVES[3:], ids=str)       # hard targets ask for certainty
def test_a_student_that_says_what_the_teacher_says_pays_nothing_and_is_left_alone(objective):
    ours = TEACHER.clone().requires_grad_()
    loss = objective(ModelOutputs(ours), ModelOutputs(TEACHER), batch())
    loss.backward()
    assert abs(loss.item()) < 1e-5 and ours.grad.abs().max() < 1e-5


def test_standardised_logits_know_neither_scale_nor_shift():
    by_numpy = TEACHER.numpy()
    by_numpy = (by_numpy - by_numpy.mean(1, keepdims=True)) / by_numpy.std(1, keepdims=True)
    assert numpy.abs(responses.standardize(TEACHER).numpy() - by_numpy).max() < 1e-5
    objective = responses.SoftTargets(temperature=2, standardized=True)
    assert abs(objective(ModelOutputs(0.1 * TEACHER - 7), ModelOutputs(TEACHER), batch()).item()) < 1e-5
    assert responses.SoftTargets(temperature=2)(ModelOutputs(0.1 * TEACHER - 7), ModelOutputs(TEACHER), batch()).item() > 0.1


def test_the_sharper_of_both_gets_the_higher_temperature_and_they_add_up():
    own, other = responses.sharpness_temperatures(STUDENT, 5 * TEACHER, 3.0)
    assert torch.allclose(own + other, torch.full_like(own, 6.0)) and (other > own).all() and (own > 0).all()
    shifted, _ = responses.sharpness_temperatures(STUDENT - 50, 5 * TEACHER + 20, 3.0)
    assert torch.allclose(shifted, own, atol=1e-4)


def test_per_sample_is_three_parts_of_its_divergence_and_one_of_plain_soft_targets():
    own, other = (value.double().numpy() for value in responses.sharpness_temperatures(STUDENT, TEACHER, 4.0))
    total = 0.0
    for i in range(len(STUDENT)):
        p, q = softmax(STUDENT[i : i + 1], own[i, 0])[0], softmax(TEACHER[i : i + 1], other[i, 0])[0]
        total += own[i, 0] * other[i, 0] * (q * numpy.log(q / p)).sum()
    each = total / len(STUDENT)
    assert responses.per_sample_loss(STUDENT, TEACHER, 4.0).item() == pytest.approx(each, rel=1e-4)
    ours, theirs = softmax(STUDENT, 4), softmax(TEACHER, 4)
    plain = 16 * (theirs * numpy.log(theirs / ours)).sum(1).mean()
    found = responses.PerSample(4.0)(ModelOutputs(STUDENT), ModelOutputs(TEACHER), batch())
    assert found.item() == pytest.approx(3 * each + plain, rel=1e-4)
    other = responses.PerSample(4.0, alpha=0.5, beta=2.0)(ModelOutputs(STUDENT), ModelOutputs(TEACHER), batch())
    assert other.item() == pytest.approx(0.5 * each + 2 * plain, rel=1e-4)


def test_temperatures_of_logits_whose_mean_is_zero_are_those_of_the_papers_log_sum_exp():
    ours, theirs = (logits - logits.mean(1, keepdim=True) for logits in (STUDENT, TEACHER))
    sharp = [numpy.log(numpy.exp(logits.double().numpy()).sum(1)) for logits in (ours, theirs)]
    own, other = responses.sharpness_temperatures(ours, theirs, 4.0)
    assert numpy.allclose(own[:, 0].numpy(), 8 * sharp[0] / (sharp[0] + sharp[1]), rtol=1e-5)
    assert numpy.allclose(other[:, 0].numpy(), 8 * sharp[1] / (sharp[0] + sharp[1]), rtol=1e-5)


@pytest.mark.parametrize("kind", [responses.Decoupled, responses.PerSample])
def test_a_warm_up_brings_the_term_in_evenly_and_then_leaves_it(kind):
    whole = kind()(ModelOutputs(STUDENT), ModelOutputs(TEACHER), batch()).item()
    shares = [kind(warmup=4)(ModelOutputs(STUDENT), ModelOutputs(TEACHER), batch(step=step)).item() / whole
              for step in (1, 2, 4, 5)]
    assert shares == pytest.approx([0.25, 0.5, 1, 1], rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_label_smoothing_is_a_teacher_who_finds_all_classes_equal(smoothing):
    smoothed = F.cross_entropy(STUDENT, responses.smooth_labels(LABELS, CLASSES, smoothing))
    by_torch = F.cross_entropy(STUDENT, LABELS, label_smoothing=smoothing)
    assert smoothed.item() == pytest.approx(by_torch.item(), rel=1e-6)
    uniform = responses.soft_target_loss(STUDENT, torch.zeros_like(STUDENT), 1.0)
    taught = (1 - smoothing) * F.cross_entropy(STUDENT, LABELS) + smoothing * (uniform + math.log(CLASSES))
    assert smoothed.item() == pytest.approx(taught.item(), rel=1e-6)


def test_an_annealed_temperature_goes_evenly_and_then_stays():
    objective = responses.SoftTargets(temperature=8, final_temperature=2, steps=4)
    assert [objective.temperature_at(step) for step in (1, 2, 3, 4, 9)] == [8, 6, 4, 2, 2]
    found = objective(ModelOutputs(STUDENT), ModelOutputs(TEACHER), batch(step=3))
    assert found.item() == pytest.approx(responses.soft_target_loss(STUDENT, TEACHER, 4.0).item())
    assert responses.SoftTargets(temperature=8, final_temperature=2, steps=1).temperature_at(1) == 8


def test_mixed_pictures_take_both_labels_by_their_shares():
    one, other = batch(), batch()
    other = Batch(other.inputs, LABELS.flip(0), other.index, step=1)
    seen = ModelOutputs(STUDENT, TOKEN), ModelOutputs(TEACHER)
    for objective in (responses.Labels(smoothing=0.1), responses.Decoupled(),
                      responses.DistillationToken(smoothing=0.1)):
        first, second, both = (objective(*seen, given).item() for given in (one, other, mixed_batch()))
        assert abs(first - second) > 0.01
        assert both == pytest.approx(0.3 * first + 0.7 * second, rel=1e-5), objective


@pytest.mark.parametrize("objective", OBJECTIVES, ids=str)
def test_of_a_student_with_a_token_the_tokens_head_is_taught(objective):
    by_token = objective(ModelOutputs(STUDENT, TOKEN), ModelOutputs(TEACHER), batch())
    assert by_token.item() == objective(ModelOutputs(TOKEN), ModelOutputs(TEACHER), batch()).item()
    assert by_token.item() != objective(ModelOutputs(STUDENT), ModelOutputs(TEACHER), batch()).item()


def test_labels_teach_the_head_of_the_class_token():
    found = responses.Labels()(ModelOutputs(STUDENT, TOKEN), ModelOutputs(TEACHER), batch())
    assert found.item() == pytest.approx(F.cross_entropy(STUDENT, LABELS).item())


@pytest.mark.parametrize("temperature", [0, -1, math.inf, math.nan, "4", True, torch.zeros(8, 1), torch.ones(8)])
def test_a_temperature_that_is_no_positive_number_is_refused(temperature):
    for loss in (responses.soft_target_loss,
                 lambda *given: responses.decoupled_loss(*given[:2], LABELS, temperature=given[2])):
        with pytest.raises(LabError, match="temperature.*give a number > 0"):
            loss(STUDENT, TEACHER, temperature)
    with pytest.raises(LabError, match="dist_loss: temperature"):
        responses.dist_loss(STUDENT, TEACHER, temperature=temperature)


@pytest.mark.parametrize("kind", [responses.SoftTargets, responses.PerSample, responses.Decoupled,
                                  responses.Correlation, responses.DistillationToken])
def test_an_objective_refuses_such_a_temperature_before_any_step(kind):
    with pytest.raises(LabError, match=rf"{kind.__name__}: temperature=0; give a number > 0"):
        kind(temperature=0)


@pytest.mark.parametrize("call, message", [
    (lambda: responses.soft_target_loss(STUDENT, TEACHER[:, :9]), r"\(8, 10\) and the teacher's \(8, 9\)"),
    (lambda: responses.hard_target_loss(STUDENT[0], TEACHER[0]), r"give both as \(pictures, classes\)"),
    (lambda: responses.dist_loss(STUDENT[:1], TEACHER[:1]), "batch of 1.*batch_size >= 2"),
    (lambda: responses.deit_loss(STUDENT, TOKEN, TEACHER, LABELS, "sofd"), 'Did you mean "soft"'),
    (lambda: responses.deit_loss(STUDENT, TOKEN, TEACHER, LABELS, alpha=1.5), "alpha=1.5.*0 <= alpha <= 1"),
    (lambda: responses.smooth_labels(LABELS, CLASSES, 1.1), "smoothing=1.1"),
    (lambda: responses.Labels(smoothing=-0.1), "Labels: smoothing=-0.1"),
    (lambda: responses.Decoupled(warmup=-1), "Decoupled: warmup=-1"),
    (lambda: responses.SoftTargets(final_temperature=1.0), "annealing needs both.*steps=500"),
    (lambda: responses.SoftTargets(steps=10), "annealing needs both"),
    (lambda: responses.SoftTargets(final_temperature=0, steps=10), "final_temperature=0; give a number > 0"),
    (lambda: responses.DistillationToken(kind="none"), "Give one of: hard, soft"),
    (lambda: responses.DistillationToken()(ModelOutputs(STUDENT), ModelOutputs(TEACHER), batch()), "distilled=True"),
])
def test_bad_input_is_refused_with_what_mends_it(call, message):
    with pytest.raises(LabError, match=message):
        call()
