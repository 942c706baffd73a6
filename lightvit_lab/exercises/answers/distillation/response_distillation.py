"""Known wrong answers to the exercises of `chapters/distillation/response_distillation`."""

from __future__ import annotations

import math
from collections.abc import Callable
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from .. import Mistake


Grads = tuple[Tensor | None, Tensor | None]


def _soft(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    there, here = (teacher / temperature).softmax(dim=1), (student / temperature).log_softmax(dim=1)
    return temperature**2 * F.kl_div(here, there, reduction="batchmean")


def _soft_without_square(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    return _soft(student, teacher, temperature) / temperature**2


def _soft_times_temperature(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    return _soft(student, teacher, temperature) / temperature


def _soft_reversed(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    return _soft(teacher, student, temperature)


def _soft_mean(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    return _soft(student, teacher, temperature) / student.shape[1]


def _soft_sum(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    return _soft(student, teacher, temperature) * len(student)


def _soft_twice(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    there, here = (teacher / temperature).softmax(dim=1), (student / temperature).softmax(dim=1)
    return temperature**2 * F.kl_div(here.log_softmax(dim=1), there, reduction="batchmean")


def _soft_without_log(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    there, here = (teacher / temperature).softmax(dim=1), (student / temperature).softmax(dim=1)
    return temperature**2 * F.kl_div(here, there, reduction="batchmean")


def _soft_sharp_teacher(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    here = (student / temperature).log_softmax(dim=1)
    return temperature**2 * F.kl_div(here, teacher.softmax(dim=1), reduction="batchmean")


def _soft_cross_entropy(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    return temperature**2 * F.cross_entropy(student / temperature, (teacher / temperature).softmax(dim=1))


def _soft_over_batch(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    there, here = (teacher / temperature).softmax(dim=0), (student / temperature).log_softmax(dim=0)
    return temperature**2 * F.kl_div(here, there, reduction="batchmean")


def _gradient(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    apart = (student / temperature).softmax(dim=1) - (teacher / temperature).softmax(dim=1)
    return temperature * apart / len(student)


def _gradient_flipped(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    return -_gradient(student, teacher, temperature)


def _gradient_without_square(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    return _gradient(student, teacher, temperature) / temperature**2


def _gradient_without_chain(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    return _gradient(student, teacher, temperature) * temperature


def _gradient_bare(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    return _gradient(student, teacher, temperature) / temperature


def _gradient_not_divided(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    return _gradient(student, teacher, temperature) * len(student)


def _gradient_sharp(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    return temperature * (student.softmax(dim=1) - teacher.softmax(dim=1)) / len(student)


def _gradient_of_logits(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    return (student - teacher) / student.numel()


def _step(loss: Callable[[nn.Module, nn.Module, Tensor, Tensor], Tensor]) -> Callable[..., Grads]:
    """A step of two linear layers made of their weights, as the exercise asks for it."""
    def answer(inputs: Tensor, labels: Tensor, student_weight: Tensor,
               teacher_weight: Tensor) -> Grads:
        student, teacher = _layer(student_weight), _layer(teacher_weight)
        value = loss(student, teacher, inputs, labels)
        if value.requires_grad:
            value.backward()
        return student.weight.grad, teacher.weight.grad
    return answer


def _layer(weight: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    layer.weight.data.copy_(weight)
    return layer


def _mixed(hard: float, soft: float) -> Callable[[nn.Module, nn.Module, Tensor, Tensor], Tensor]:
    """The loss of a step with these two weights, temperature 4, the teacher left alone."""
    def loss(student: nn.Module, teacher: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
        logits = student(inputs)
        return hard * F.cross_entropy(logits, labels) + soft * _soft(logits, teacher(inputs).detach(), 4.0)
    return loss


def _live(student: nn.Module, teacher: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
    logits = student(inputs)
    return 0.1 * F.cross_entropy(logits, labels) + 0.9 * _soft(logits, teacher(inputs), 4.0)


@torch.no_grad()
def _frozen(student: nn.Module, teacher: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
    return _live(student, teacher, inputs, labels)


def _softened_labels(student: nn.Module, teacher: nn.Module, inputs: Tensor,
                     labels: Tensor) -> Tensor:
    logits = student(inputs)
    return 0.1 * F.cross_entropy(logits / 4, labels) + 0.9 * _soft(logits, teacher(inputs).detach(), 4.0)


def _step_without_square(student: nn.Module, teacher: nn.Module, inputs: Tensor,
                         labels: Tensor) -> Tensor:
    logits = student(inputs)
    return 0.1 * F.cross_entropy(logits, labels) + 0.9 / 16 * _soft(logits, teacher(inputs).detach(), 4.0)


def _token(class_logits: Tensor, token_logits: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    return (F.cross_entropy(class_logits, labels) + F.cross_entropy(token_logits, teacher.argmax(dim=1))) / 2


def _token_swapped(class_logits: Tensor, token_logits: Tensor, teacher: Tensor,
                   labels: Tensor) -> Tensor:
    return _token(token_logits, class_logits, teacher, labels)


def _token_averaged(class_logits: Tensor, token_logits: Tensor, teacher: Tensor,
                    labels: Tensor) -> Tensor:
    both = (class_logits + token_logits) / 2
    return _token(both, both, teacher, labels)


def _token_labels_alone(class_logits: Tensor, token_logits: Tensor, teacher: Tensor,
                        labels: Tensor) -> Tensor:
    return (F.cross_entropy(class_logits, labels) + F.cross_entropy(token_logits, labels)) / 2


def _token_soft(class_logits: Tensor, token_logits: Tensor, teacher: Tensor,
                labels: Tensor) -> Tensor:
    return (F.cross_entropy(class_logits, labels) + F.cross_entropy(token_logits, teacher.softmax(dim=1))) / 2


def _token_added(class_logits: Tensor, token_logits: Tensor, teacher: Tensor,
                 labels: Tensor) -> Tensor:
    return 2 * _token(class_logits, token_logits, teacher, labels)


MISTAKES = {
    "response_distillation.odds": (
        Mistake("not softened", "This is the ratio at temperature 1. The logits are divided before the softmax.",
                "Only the difference counts, and it is 8 / 4.", answer=math.exp(8)),
        Mistake("multiplied", "You multiplied by the temperature: that makes the teacher surer.",
                "Divide the logits by 4.", answer=math.exp(32)),
        Mistake("logits alone", "This is how far the divided logits are apart. The softmax takes exponentials.",
                "exp of what you have.", answer=2.0),
        Mistake("probabilities divided", "You divided the ratio. Temperature divides the logits, inside the exponential.",
                "exp(8 / 4), not exp(8) / 4.", answer=math.exp(8) / 4),
        Mistake("as a share", "This is the probability of the first, were there no third class. We asked for the ratio.",
                "One probability divided by the other: the sum below them cancels.", answer=math.exp(2) / (1 + math.exp(2))),
    ),
    "response_distillation.soft_targets": (
        Mistake("square forgotten", "Right at temperature 1 alone. At others the gradient shrinks with the square of the temperature.",
                "Multiply the whole by temperature ** 2.", answer=_soft_without_square),
        Mistake("temperature for its square", "You made up for the temperature once. It enters twice: by the chain rule, and because soft distributions differ less.",
                "The factor is the square, not the temperature itself.", answer=_soft_times_temperature),
        Mistake("reversed", "Student and teacher have changed places: this divergence leaves it to the student which of the teacher's classes it ignores.",
                "F.kl_div(input, target): the student's log-probabilities come first.", answer=_soft_reversed),
        Mistake("mean over all entries", "You divided by batch times classes: with 1,000 classes little would be left of the loss.",
                "Sum over classes, mean over pictures: reduction=\"batchmean\".", answer=_soft_mean),
        Mistake("not averaged", "This is the sum over the batch: twice the pictures would be twice the loss.",
                "Divide by the number of pictures: reduction=\"batchmean\".", answer=_soft_sum),
        Mistake("softmax twice", "Your student went through the softmax twice, and after the first all numbers lie between 0 and 1.",
                "log_softmax of the logits themselves.", answer=_soft_twice),
        Mistake("logarithm forgotten", "F.kl_div takes the logarithm of the student's probabilities, and does not notice when it gets the probabilities.",
                "log_softmax for the student, softmax for the teacher.", answer=_soft_without_log),
        Mistake("teacher not softened", "Only the student is softened: its logits would have to be as many times as large as the teacher's.",
                "Divide the teacher's logits by the temperature, too.", answer=_soft_sharp_teacher),
        Mistake("cross-entropy", "This is the cross-entropy: the same gradient, but it does not reach 0 where both agree.",
                "Subtract the teacher's entropy, or use F.kl_div.", answer=_soft_cross_entropy),
        Mistake("over the batch", "Your softmax runs over the pictures.",
                "Classes are dimension 1: dim=1.", answer=_soft_over_batch),
    ),
    "response_distillation.gradient": (
        Mistake("flipped", "The sign is the other way round: a step against this gradient would lead away from the teacher.",
                "Student minus teacher.", answer=_gradient_flipped),
        Mistake("square forgotten", "This is the gradient without the factor of the loss: it shrinks as the temperature grows.",
                "The loss has a factor temperature ** 2 of its own.", answer=_gradient_without_square),
        Mistake("chain rule forgotten", "You kept the square. The logits are divided by the temperature before the softmax, and so is their gradient.",
                "Chain rule: times 1 / temperature.", answer=_gradient_without_chain),
        Mistake("no temperature in front", "The difference of the probabilities is right. What stands before it?",
                "temperature ** 2 from the loss, 1 / temperature from the chain rule.", answer=_gradient_bare),
        Mistake("batch forgotten", "The loss is a mean over pictures; this is the gradient of their sum.",
                "Divide by the number of pictures.", answer=_gradient_not_divided),
        Mistake("not softened", "Your probabilities are those at temperature 1.",
                "Divide both logits by the temperature before the softmax.", answer=_gradient_sharp),
        Mistake("limit", "This is what the gradient comes near to at high temperature, if the logits of each picture sum to 0. At these temperatures it is not yet there.",
                "The difference of the two softmaxes.", answer=_gradient_of_logits),
    ),
    "response_distillation.step": (
        Mistake("gradients into the teacher", "The student's gradient is right, but the teacher has one, too: an optimizer that knew its weights would teach the teacher.",
                "Call the teacher under torch.no_grad().", answer=_step(_live)),
        Mistake("nothing learns", "Neither has a gradient: the student, too, was called under no_grad.",
                "Only the teacher's call belongs under torch.no_grad().", answer=_step(_frozen)),
        Mistake("weights swapped", "The labels got the weight of the teacher.",
                "0.1 of the label loss, 0.9 of the soft targets.", answer=_step(_mixed(0.9, 0.1))),
        Mistake("both in full", "Both terms are there in full. The two weights say how they share.",
                "0.1 of one and 0.9 of the other.", answer=_step(_mixed(1.0, 1.0))),
        Mistake("teacher alone", "The labels are missing.",
                "Add 0.1 of F.cross_entropy(logits, labels).", answer=_step(_mixed(0.0, 0.9))),
        Mistake("labels softened", "You divided the logits by the temperature for the labels, too. Labels are one-hot; nothing in them is to be softened.",
                "F.cross_entropy of the logits as they are.", answer=_step(_softened_labels)),
        Mistake("square forgotten", "Without the square the teacher hardly counts, whatever its weight: at temperature 4 a sixteenth.",
                "Multiply the soft term by temperature ** 2.", answer=_step(_step_without_square)),
    ),
    "response_distillation.token": (
        Mistake("heads swapped", "The heads have changed places.",
                "The class token's head hears the labels, the distillation token's head the teacher.", answer=_token_swapped),
        Mistake("averaged first", "You averaged the two heads before the loss. So they do for the answer; in training each is to hear one voice.",
                "One cross-entropy for each head.", answer=_token_averaged),
        Mistake("labels alone", "Both heads hear the labels. Where is the teacher?",
                "The second target is teacher.argmax(dim=1).", answer=_token_labels_alone),
        Mistake("soft", "This is the soft target. The published models take the teacher's decision as if it were a label.",
                "Its decision: teacher.argmax(dim=1).", answer=_token_soft),
        Mistake("added", "Twice the loss: each head counts one half.",
                "Divide by 2.", answer=_token_added),
    ),
    "response_distillation.budget": (
        Mistake("teacher free", "As if the stored answers were free. The teacher runs once to make them.",
                "Live: 3 x (3 + 6). Stored: 6 + 3 x 3.", answer=3.0),
        Mistake("one student", "For one student nothing is saved. There are three.",
                "The teacher's 6 units are paid once, not three times.", answer=1.0),
        Mistake("backward pass forgotten", "Either your students have no backward pass, or your teacher has one. Students have, the teacher has not.",
                "3 units for a student's step, 6 for the teacher's answers.", answer=21 / 9),
        Mistake("both live and stored", "You stored the answers and ran the teacher all the same.",
                "With stored answers a student's step costs its own 3 units.", answer=27 / 33),
        Mistake("the wrong way round", "This is the share of the cost that is left.",
                "Its inverse.", answer=15 / 27),
    ),
}
