"""Direct feature mimicking: the student's features, mapped to the teacher's width, are to be the
teacher's.

What maps them is trained along by `distill` and dropped at the end. Derived in
`chapters/distillation/feature_distillation`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import plain_numbers, require_grid, require_range
from ...training import Batch
from ...training.randomness import generator_for
from .joining import FeaturePairs, Layers, alike, joined_grid, joined_tokens, require_same
from ..model_outputs import ModelOutputs

_MASKS = 3   # what a generator is for, beside those of training.randomness and structured_features


def hint_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Half the squared distance of features of one shape, mean over all of their numbers.

    Romero et al., FitNets: Hints for Thin Deep Nets, arXiv 1412.6550.
    """
    require_same("hint_loss", student, teacher, "map the student's by a linear layer of the teacher's width, and lay "
                 "maps over one grid by align(maps, size); the objective Hint does both")
    return F.mse_loss(student, teacher.detach()) / 2


def whiten(tokens: Tensor) -> Tensor:
    """Each token (..., D) with mean 0 and variance 1: teachers of any scale then weigh alike (arXiv
    2205.14141).
    """
    return F.layer_norm(tokens, tokens.shape[-1:])


@dataclass(frozen=True)
class _Mimicking(FeaturePairs):
    """Image tokens of pairs of layers, compared by `hint_loss` after one projector each."""

    weight: float = 4.0
    whitened: bool = True

    def target(self, tokens: Tensor) -> Tensor:
        """What the teacher's tokens ask for."""
        return whiten(tokens) if self.whitened else tokens

    def tokens(self, student: ModelOutputs, teacher: ModelOutputs, pair: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Tokens (B, N, D) of both on one grid, in the widths they have."""
        return joined_tokens(student, teacher, pair)

    def projector(self, width: int, wide: int) -> nn.Module:
        """What maps tokens of the student's width to the teacher's."""
        return nn.Linear(width, wide)

    def build(self, student: ModelOutputs, teacher: ModelOutputs) -> nn.Module:
        """The projectors for what both showed: a module called in the objective's place."""
        widths = [[tokens.shape[-1] for tokens in self.tokens(student, teacher, pair)] for pair in self.pairs]
        return Projected(self, [self.projector(*width) for width in widths])

    def __call__(self, student: ModelOutputs, teacher: ModelOutputs, batch: Batch) -> Tensor:
        """As `build`'s module does, but without projectors: for models of one width."""
        return Projected(self, [nn.Identity() for _ in self.pairs])(student, teacher, batch)


class Projected(nn.Module):
    """An objective of mimicking with its `projectors`, one for each pair of layers."""

    def __init__(self, objective: Any, projectors: list[nn.Module]):
        super().__init__()
        self.objective, self.projectors = objective, nn.ModuleList(projectors)

    def forward(self, student: ModelOutputs, teacher: ModelOutputs, batch: Batch) -> Tensor:
        loss = 0.0
        for pair, projector in zip(self.objective.pairs, self.projectors):
            shown, taught = self.objective.tokens(student, teacher, pair)
            loss = loss + hint_loss(projector(shown), self.objective.target(taught))
        return loss / len(self.projectors)


@dataclass(frozen=True)
class Hint(_Mimicking):
    """FitNets' hint in the middle of both networks: `hint_loss` of image tokens after a linear
    projector.

    The paper trains on the hint first and on labels after; here it is a term beside the others.
    `whitened` compares with `whiten` of the teacher's tokens. arXiv 1412.6550.
    """

    student_layer: Layers = -2
    teacher_layer: Layers = -2


@dataclass(frozen=True)
class ShallowMimic(_Mimicking):
    """ViTKD's first half: the first layers are mimicked, each after a linear projector of its own.
    arXiv 2209.02432.
    """

    student_layer: Layers = (0, 1)
    teacher_layer: Layers = (0, 1)


@dataclass(frozen=True)
class LiftedLastLayer(_Mimicking):
    """The last layers: the student's is normed, as before its head, and lifted to the teacher's
    width.

    Between models with the same tokens in front those take part: a class token is all that a ViT's
    head reads. Tian et al., From Per-Image Low-Rank to Encoding Mismatch, arXiv 2511.15572, find
    that a narrow last layer has no room for what a wide one says, and keep the lift in the student
    (or widen its last block); here it serves the loss alone, so that the student stays as it is,
    and comparisons are between students of one size.
    """

    def tokens(self, student: ModelOutputs, teacher: ModelOutputs, pair: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Tokens (B, N, D) of both, with those in front where they are alike, in the widths they
        have.
        """
        shown, taught = student.features[pair[0]], teacher.features[pair[1]]
        same = shown.ndim == taught.ndim == 3 and student.prefix == teacher.prefix and alike(
            student, teacher, shown.shape[1] - student.prefix, taught.shape[1] - teacher.prefix)
        return (shown, taught) if same else joined_tokens(student, teacher, pair)

    def projector(self, width: int, wide: int) -> nn.Module:
        """A norm, as before the head, and a linear layer to the teacher's width."""
        return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, wide))


@plain_numbers
@dataclass(frozen=True)
class DeepGeneration(FeaturePairs):
    """ViTKD's second half: a share `masked` of the student's tokens is hidden, the teacher's made
    from the rest.

    Tokens are mapped to the teacher's width, hidden ones replaced by a learned token, and two 3x3
    convolutions make the teacher's; the loss counts hidden tokens alone. Which are hidden follows
    from the step and `seed`. arXiv 2209.02432.
    """

    weight: float = 4.0
    masked: float = 0.5
    whitened: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_range("DeepGeneration", "masked", self.masked, 0.01, 1)

    def build(self, student: ModelOutputs, teacher: ModelOutputs) -> nn.Module:
        """The generators for what both showed, one for each pair: a module called in the
        objective's place.
        """
        widths = [[tokens.shape[-1] for tokens in joined_tokens(student, teacher, pair)] for pair in self.pairs]
        return Generated(self, [Generator(*width) for width in widths])


@plain_numbers
class Generator(nn.Module):
    """Tokens (B, N, width), which are hidden (B, N), and their grid, None for a square -> tokens
    (B, N, wide), guessed.
    """

    def __init__(self, width: int, wide: int):
        super().__init__()
        self.lift = nn.Linear(width, wide)
        self.mask_token = nn.Parameter(torch.zeros(wide))
        self.convolutions = nn.Sequential(nn.Conv2d(wide, wide, 3, padding=1), nn.ReLU(),
                                          nn.Conv2d(wide, wide, 3, padding=1))

    def forward(self, tokens: Tensor, hidden: Tensor,
                grid: tuple[int, int] | None = None) -> Tensor:
        grid = require_grid("DeepGeneration", tokens.shape[1], 0, grid)
        lifted = torch.where(hidden[..., None], self.mask_token, self.lift(tokens))
        maps = lifted.transpose(1, 2).unflatten(2, grid)
        return self.convolutions(maps).flatten(2).transpose(1, 2)


class Generated(nn.Module):
    """`DeepGeneration` with its generators."""

    def __init__(self, objective: DeepGeneration, generators: list[Generator]):
        super().__init__()
        self.objective, self.generators = objective, nn.ModuleList(generators)

    def forward(self, student: ModelOutputs, teacher: ModelOutputs, batch: Batch) -> Tensor:
        loss, generator = 0.0, generator_for(self.objective.seed, _MASKS, batch.step)
        for pair, make in zip(self.objective.pairs, self.generators):
            shown, taught = joined_tokens(student, teacher, pair)
            hidden = draw_hidden(*shown.shape[:2], self.objective.masked, generator).to(shown.device)
            made = make(shown, hidden, joined_grid(student, teacher, pair))
            loss = loss + hint_loss(made[hidden], (whiten(taught) if self.objective.whitened else taught)[hidden])
        return loss / len(self.generators)


def draw_hidden(batch: int, tokens: int, share: float, generator: torch.Generator) -> Tensor:
    """Which tokens are hidden, (batch, tokens): of each picture the same number, at least one."""
    count = max(1, round(share * tokens))
    return torch.rand(batch, tokens, generator=generator).argsort(dim=1).argsort(dim=1) < count
