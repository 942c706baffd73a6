"""Direct feature mimicking: the student's features, mapped to the teacher's width, copy them.

What maps them is trained along by `distill` and dropped at the end, or stays in the student
(`lift_last_layer`). Page: chapters/distillation/feature_distillation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...components import initialise_linear
from ...errors import LabError, plain_numbers, require_grid, require_range, require_whole
from ...models import timm_parts
from ...models.transforming import Plan, transform, transformed
from ...training import Batch
from ..model_outputs import ModelOutputs, objective
from .joining import Layers, Pair, Pairs, joined_grid, joined_tokens


def hint_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Half the squared distance of features of one shape, the mean over all of their numbers.

    Romero et al., FitNets: Hints for Thin Deep Nets, arXiv 1412.6550.
    """
    if student.shape != teacher.shape:
        raise LabError(f"hint_loss: the student's {tuple(student.shape)} and the teacher's "
                       f"{tuple(teacher.shape)} differ in shape; map widths by a linear layer and "
                       "grids by align(maps, size); the objective Hint does both")
    return F.mse_loss(student, teacher.detach()) / 2


def whiten(tokens: Tensor) -> Tensor:
    """Each token (..., D) with mean 0 and variance 1, so that a teacher's scale does not count.

    arXiv 2205.14141.
    """
    return F.layer_norm(tokens, tokens.shape[-1:])


class Trained(nn.Module):
    """An objective and what is trained along for it: a list `name` of modules, one for each pair.

    `make(student_width, teacher_width)` makes one, for the widths that these outputs have.
    """

    def __init__(self, objective: Any, name: str, make: Callable[[int, int], nn.Module],
                 student: ModelOutputs, teacher: ModelOutputs):
        super().__init__()
        self.objective, self.name = objective, name
        tokens = [joined_tokens(student, teacher, pair) for pair in objective.pairs]
        modules = [make(first.shape[-1], second.shape[-1]) for first, second in tokens]
        self.add_module(name, nn.ModuleList(modules))

    def forward(self, student: ModelOutputs, teacher: ModelOutputs, batch: Batch) -> Tensor:
        return self.objective(student, teacher, batch, getattr(self, self.name))


@objective
class _Mimicking(Pairs):
    """Image tokens of pairs of layers, compared by `hint_loss` after one projector each.

    Called without projectors, it compares models of one width.
    """

    weight: float = 4.0
    whitened: bool = True

    def projector(self, width: int, teacher_width: int) -> nn.Module:
        """The module that maps tokens of the student's width to the teacher's."""
        return nn.Linear(width, teacher_width)

    def build(self, student: ModelOutputs, teacher: ModelOutputs) -> Trained:
        """The objective with projectors for these outputs, to be trained along."""
        return Trained(self, "projectors", self.projector, student, teacher)

    def compare(self, student: ModelOutputs, teacher: ModelOutputs, pair: Pair,
                projector: nn.Module | None, _generator: None) -> Tensor:
        """The loss of one pair of layers: the student's projected tokens against the teacher's."""
        tokens, target = joined_tokens(student, teacher, pair)
        tokens = tokens if projector is None else projector(tokens)
        return hint_loss(tokens, whiten(target) if self.whitened else target)


@objective
class Hint(_Mimicking):
    """FitNets' hint in the middle of both networks: `hint_loss` after a linear projector.

    The paper trains on the hint first and on labels after; here it is one of several terms.
    `whitened` compares with `whiten` of the teacher's tokens. arXiv 1412.6550.
    """

    student_layer: Layers = -2
    teacher_layer: Layers = -2


@objective
class ShallowMimic(_Mimicking):
    """ViTKD's first half: the first layers are mimicked, each by its own linear projector.

    arXiv 2209.02432.
    """

    student_layer: Layers = (0, 1)
    teacher_layer: Layers = (0, 1)


@plain_numbers
def lift_last_layer(model: nn.Module, width: int) -> nn.Module:
    """A copy of `model`, a plain ViT, that ends in tokens of `width`, with fresh heads.

    After the last block come a linear map without bias and a norm, which stay in the model: they
    count as its last block, in place of the final norm. In the paper the head reads the mean of
    these image tokens, so create the model with pool="mean". Tian et al., From Per-Image Low-Rank
    to Encoding Mismatch, arXiv 2511.15572. Raises LabError for other models.
    """
    plan = {"transform": "lift_last_layer", "width": width}
    return transformed(model, plan, apply_lift)


@transform("lift_last_layer")
def apply_lift(model: nn.Module, plan: Plan) -> nn.Module:
    """Let `model` end as `plan` says: {"width": 192}."""
    timm_parts.require_plain_vit("lift_last_layer", model)
    width = require_whole("lift_last_layer", "width", plan.get("width"), 1)
    weight = model.head.weight
    lift = nn.Sequential(nn.Linear(weight.shape[1], width, bias=False), nn.LayerNorm(width))
    heads = {name: nn.Linear(width, head.out_features) for name in ("head", "head_dist")
             if (head := getattr(model, name, None)) is not None}
    for layer in (lift[0], *heads.values()):
        initialise_linear(layer)
    for part in (lift, *heads.values()):
        part.to(weight)                 # its device and its type
    for name, head in heads.items():
        setattr(model, name, head)
    model.norm = nn.Identity()
    model.blocks.append(lift)
    if hasattr(model, "fc_norm"):
        model.fc_norm = nn.Identity()
    return model


@objective
class LiftedLastLayer(Pairs):
    """`hint_loss` of the last layers of a student of `lift_last_layer` and of a teacher as wide.

    Between models with the same tokens in front those take part. No projector is trained along and
    dropped, since the student's own lift does its work. arXiv 2511.15572.
    """

    weight: float = 4.0
    whitened: bool = True

    def compare(self, student: ModelOutputs, teacher: ModelOutputs, pair: Pair, *_: Any) -> Tensor:
        """The loss of one pair of layers: lifted tokens against the teacher's."""
        tokens, target = joined_tokens(student, teacher, pair, with_prefix=True)
        if tokens.shape[-1] != target.shape[-1]:
            raise LabError(f"LiftedLastLayer: the student's tokens have width {tokens.shape[-1]} "
                           f"and the teacher's {target.shape[-1]}; lift_last_layer(student, "
                           f"{target.shape[-1]}) lifts them, Hint projects them")
        return hint_loss(tokens, whiten(target) if self.whitened else target)


@objective
class DeepGeneration(Pairs):
    """ViTKD's second half: a share `masked` of the student's tokens is hidden and generated again.

    Tokens are mapped to the teacher's width, hidden ones replaced by a learned token, and two 3x3
    convolutions make the teacher's; the loss counts hidden tokens alone. Which are hidden follows
    from the step and `seed`. arXiv 2209.02432.
    """

    draws: ClassVar[int] = 3         # the purpose of its generator, unlike others of a run

    weight: float = 4.0
    masked: float = 0.5
    whitened: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_range("DeepGeneration", "masked", self.masked, 0.01, 1)

    def build(self, student: ModelOutputs, teacher: ModelOutputs) -> Trained:
        """The objective with generators for these outputs, to be trained along."""
        return Trained(self, "generators", Generator, student, teacher)

    def compare(self, student: ModelOutputs, teacher: ModelOutputs, pair: Pair,
                generate: Generator, generator: torch.Generator) -> Tensor:
        """The loss of one pair of layers: hidden tokens of the teacher, generated from the rest."""
        tokens, target = joined_tokens(student, teacher, pair)
        hidden = draw_hidden(*tokens.shape[:2], self.masked, generator).to(tokens.device)
        generated = generate(tokens, hidden, joined_grid(student, teacher, pair))
        return hint_loss(generated[hidden], (whiten(target) if self.whitened else target)[hidden])


@plain_numbers
class Generator(nn.Module):
    """Tokens (B, N, width), of which `hidden` (B, N) are masked -> tokens (B, N, teacher_width).

    `grid` is that of the tokens, (rows, columns); None for a square.
    """

    def __init__(self, width: int, teacher_width: int):
        super().__init__()
        self.lift = nn.Linear(width, teacher_width)
        self.mask_token = nn.Parameter(torch.zeros(teacher_width))
        self.convolutions = nn.Sequential(nn.Conv2d(teacher_width, teacher_width, 3, padding=1),
                                          nn.ReLU(),
                                          nn.Conv2d(teacher_width, teacher_width, 3, padding=1))

    def forward(self, tokens: Tensor, hidden: Tensor,
                grid: tuple[int, int] | None = None) -> Tensor:
        grid = require_grid("DeepGeneration", tokens.shape[1], 0, grid)
        lifted = torch.where(hidden[..., None], self.mask_token, self.lift(tokens))
        maps = lifted.transpose(1, 2).unflatten(2, grid)
        return self.convolutions(maps).flatten(2).transpose(1, 2)


def draw_hidden(batch: int, tokens: int, share: float, generator: torch.Generator) -> Tensor:
    """Which tokens are hidden, (batch, tokens): of each picture the same number, at least one."""
    count = max(1, round(share * tokens))
    return torch.rand(batch, tokens, generator=generator).argsort(dim=1).argsort(dim=1) < count
