"""What the exercises of `chapters/distillation/feature_distillation` are tried on."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torch.autograd import grad

from ... import checkpoint, data
from ...distillation.model_outputs import collect_outputs
from ..declaration import Exercise, OpenExercise
from ..outcome import by_outcome, numbers


def maps(generator: Generator) -> list[tuple]:
    """Feature maps (batch, channels, height, width)."""
    return [(torch.randn(shape, generator=generator) + 0.3,)
            for shape in ((3, 5, 4, 4), (2, 8, 3, 3), (4, 2, 5, 5))]


def batches(generator: Generator) -> list[tuple]:
    """Maps of student and teacher with as many channels, so that comparing these raises nothing."""
    def maps_of(size: int, side: int) -> Tensor:
        return torch.randn(size, 6, side, side, generator=generator) + 0.2

    return [(maps_of(size, 4), maps_of(size, 3)) for size in (5, 4, 7)]


def tokens(generator: Generator) -> list[tuple]:
    """Tokens (batch, n, dim) of student and teacher, of different widths."""
    draw = partial(torch.randn, generator=generator)
    return [(draw(size, 7, 4), draw(size, 7, 9)) for size in (3, 2, 4)]


def with_gradients(loss: Callable[..., Tensor]) -> Callable[..., dict[str, Tensor]]:
    """The loss, and its gradients in student, teacher and projector; zeros where none flows."""
    def differentiated(*tensors: Tensor) -> dict[str, Tensor]:
        value, slopes = loss(*tensors), tuple(map(torch.zeros_like, tensors))
        if isinstance(value, Tensor) and value.requires_grad:
            slopes = grad(value, tensors, allow_unused=True, materialize_grads=True)
        names = ("gradient of student", "gradient of teacher", "gradient of weight")
        return {"loss": value, **dict(zip(names, slopes))}

    return differentiated


def hints(generator: Generator) -> list[tuple]:
    """Student, teacher and projector with gradients; as wide, so that not to project is legal."""
    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).requires_grad_()

    return [(normal(3, 4, 5), normal(3, 4, 5), normal(5, 5)) for _ in range(3)]


def features(generator: Generator) -> list[tuple]:
    """Features of 40 tokens, 8 channels: energy falls by direction, and the mean is not zero."""
    def draw() -> Tensor:
        mixed = torch.randn(40, 8, generator=generator) * 0.7 ** torch.arange(8)
        return mixed @ torch.randn(8, 8, generator=generator) + 0.5

    return [(draw(), 3), (draw(), 2), (draw(), 5)]


@cache
def pair_of_layers(layer: int, stage: int) -> tuple[float, int, float]:
    """Slope of the logits at the student's image tokens, blocks below, what the stage knows."""
    val = data.load("shapes", "val", count=256)
    student = checkpoint.load("zoo:lab_vit_student/shapes")
    outputs = collect_outputs(student, val.inputs[:8], features=(layer,))
    (slope,) = grad(outputs.logits.square().sum(), outputs.features[layer])
    with torch.no_grad():
        outputs = collect_outputs(checkpoint.load("zoo:lab_cnn/shapes"), val.inputs,
                                  features=(stage,))
    means = outputs.maps(stage).flatten(2).mean(dim=2)
    seen, new = ((means - means.mean(dim=0)) / means.std(dim=0)).chunk(2)
    known, asked = val.labels.chunk(2)
    reading = torch.linalg.solve(seen.T @ seen + 30 * torch.eye(seen.shape[1]),
                                 seen.T @ (F.one_hot(known, 10) - 0.1))
    right = (new @ reading).argmax(dim=1) == asked
    return slope[:, 1:].norm().item(), layer + 1, right.float().mean().item()


def judge_layers(answer: Any) -> tuple[str, str]:
    """Layers of student and teacher: read, two blocks learn, the teacher's knows the class."""
    pair = numbers(answer, range(2))
    if pair is None or pair[0] not in range(4) or pair[1] not in range(3):
        return "form", "Give a pair (student's layer from 0 to 3, teacher's layer from 0 to 2)."
    slope, blocks, right = pair_of_layers(*map(int, pair))
    fault = "unread" if slope == 0 else "shallow" if blocks < 2 else "early" if right < 0.4 else ""
    return fault, (f"Slope of the logits at the student's image tokens {slope:.3f}; blocks that "
                   f"learn: {blocks}, at least 2; accuracy of the linear classifier on the "
                   f"teacher's layer: {right:.1%}, at least 40 %.")


EXERCISES = (
    Exercise("feature_distillation.attention_map", points=2, minutes=8, cases=maps),
    Exercise("feature_distillation.similarity", points=2, minutes=10, cases=batches),
    Exercise("feature_distillation.budget", points=1, minutes=6, digits=3),
    Exercise("feature_distillation.within", points=2, minutes=10, cases=tokens),
    Exercise("feature_distillation.hint", 2, 10, hints, prepare=with_gradients),
    Exercise("feature_distillation.unreachable", 2, 12, features, tolerance=1e-4),
    Exercise("feature_distillation.layers", points=2, minutes=10, seconds=60,
             prepare=by_outcome(judge_layers), names={"pair_of_layers": pair_of_layers}),
)

OPEN = (OpenExercise("feature_distillation.looks_alike", points=4, minutes=8),)
