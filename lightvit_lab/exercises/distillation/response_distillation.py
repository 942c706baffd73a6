"""What the exercises of `chapters/distillation/response_distillation` are tried on."""

from functools import cache, partial
from itertools import product
from typing import Any

import torch
from torch import Generator, Tensor

from ... import checkpoint, data
from ..declaration import Exercise, OpenExercise
from ..outcome import by_outcome, numbers


def logits(generator: Generator) -> list[tuple]:
    """Logits of student and teacher, of several sizes, and a temperature that is not 1."""
    draw = partial(torch.randn, generator=generator)
    return [(draw(shape), 3 * draw(shape), temperature)
            for shape, temperature in (((3, 5), 2.0), ((4, 7), 4.0), ((6, 4), 0.5))]


def two_layers(generator: Generator) -> list[tuple]:
    """Pictures of six numbers, their labels among four classes, and the weights of both layers."""
    draw = partial(torch.randn, generator=generator)
    return [(draw(8, 6), torch.randint(4, (8,), generator=generator), draw(4, 6), 2 * draw(4, 6))
            for _ in range(2)]


def answers(generator: Generator) -> list[tuple]:
    """Logits of both heads and of a teacher that is wrong now and then, and labels."""
    def logits_of(rows: int) -> Tensor:
        return 2 * torch.randn(rows, 5, generator=generator)

    return [(logits_of(rows), logits_of(rows), logits_of(rows),
             torch.randint(5, (rows,), generator=generator)) for rows in (7, 12)]


@cache
def taught() -> tuple[Tensor, Tensor, Tensor]:
    """The zoo's CNN on validation shapes: its logits, the labels, which classes are related."""
    val = data.load("shapes", "val", count=256)
    words = [set(name.split()) for name in val.class_names]
    kin = [one != two and bool(one & two) for one, two in product(words, words)]
    with torch.no_grad():
        said = checkpoint.load("zoo:lab_cnn/shapes")(val.inputs)
    return said, val.labels, torch.tensor(kin).view(len(words), -1)


def spoken(temperature: float) -> tuple[float, float]:
    """The share of the answer for wrong classes, and how much of it goes to related ones."""
    logits, labels, kin = taught()
    wrong = (logits / temperature).softmax(dim=1).scatter(1, labels[:, None], 0)
    left = wrong.sum(dim=1)
    return left.mean().item(), ((wrong * kin[labels]).sum(dim=1) / left).mean().item()


def judge_temperature(answer: Any) -> tuple[str, str]:
    """A temperature: at least 25 % are left for wrong classes, at least 80 % of it for related."""
    found = numbers([answer], [0])
    if found is None or found[0] <= 0:
        return "form", "Give one number above 0, the temperature."
    left, related = spoken(found[0])
    fault = "sharp" if found[0] < 1 else "quiet" if left < 0.25 else "flat" if related < 0.8 else ""
    return fault, (f"{left:.1%} is left for the wrong classes, at least 25 % is wanted; "
                   f"{related:.1%} of this is for related classes, at least 80 % is wanted.")


EXERCISES = (
    Exercise("response_distillation.odds", points=1, minutes=4, digits=3),
    Exercise("response_distillation.soft_targets", points=3, minutes=12, cases=logits),
    Exercise("response_distillation.gradient", points=2, minutes=10, cases=logits),
    Exercise("response_distillation.step", points=2, minutes=10, cases=two_layers),
    Exercise("response_distillation.token", points=2, minutes=8, cases=answers),
    Exercise("response_distillation.budget", points=1, minutes=6, digits=2),
    Exercise("response_distillation.temperature", points=2, minutes=8,
             prepare=by_outcome(judge_temperature), names={"spoken": spoken}),
)

OPEN = (OpenExercise("response_distillation.never_wrong", points=4, minutes=8),)
