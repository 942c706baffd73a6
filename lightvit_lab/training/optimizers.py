"""AdamW, or Muon for the hidden matrices with AdamW for the rest; warm-up and schedule."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import LabError, plain_numbers

OPTIMIZERS = ("adamw", "muon")
SCHEDULES = ("cosine", "linear")


def step_all(optimizers: list[torch.optim.Optimizer], lr: float) -> None:
    """Step all at learning rate `lr`, then drop the gradients."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.step()
        optimizer.zero_grad()


class Muon(torch.optim.Optimizer):
    """Momentum, made orthogonal: a step changes a matrix alike in all directions (Jordan, 2024).

    Steps are scaled to the size of AdamW's (arXiv 2502.16982), so that one `lr` serves both.
    Filters (out, in, height, width) count as matrices (out, rest). torch.optim.Muon does the same
    in bfloat16, which on a processor without that unit takes longer than the model itself, and
    refuses filters.
    """

    def __init__(self, params: list[Tensor], lr: float, weight_decay: float,
                 momentum: float = 0.95):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:
        """One step on every parameter with a gradient; those of one shape together, for speed."""
        for group in self.param_groups:
            alike: dict[torch.Size, list[tuple[Tensor, Tensor]]] = {}
            for value in (value for value in group["params"] if value.grad is not None):
                mean = self.state[value].setdefault("momentum", torch.zeros_like(value))
                mean.lerp_(value.grad, 1 - group["momentum"])
                # Nesterov's momentum
                ahead = value.grad.lerp(mean, group["momentum"]).flatten(1)
                alike.setdefault(ahead.shape, []).append((value, ahead))
            for shape, pairs in alike.items():
                scale = 0.2 * math.sqrt(max(shape))
                steps = orthogonalize(torch.stack([ahead for _, ahead in pairs]))
                for (value, _), turned in zip(pairs, steps):
                    value.mul_(1 - group["lr"] * group["weight_decay"])
                    value.add_(turned.view_as(value), alpha=-group["lr"] * scale)


def orthogonalize(matrices: Tensor) -> Tensor:
    """(k, m, n) -> k matrices of the same singular vectors and singular values of 0.7 to 1.2.

    By five steps of the Newton-Schulz iteration.
    """
    tall = matrices.shape[1] > matrices.shape[2]
    wide = matrices.mT if tall else matrices
    wide = wide / (wide.norm(dim=(1, 2), keepdim=True) + 1e-7)
    # an odd polynomial of the singular values, with the coefficients of Jordan et al.
    for _ in range(5):
        gram = wide @ wide.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=-4.7750, alpha=2.0315)
        wide = torch.baddbmm(wide, polynomial, wide, beta=3.4445)
    return wide.mT if tall else wide


@plain_numbers
def create_optimizers(model: nn.Module, name: str, lr: float,
                      weight_decay: float) -> list[torch.optim.Optimizer]:
    """AdamW (arXiv 1711.05101), or with "muon" Muon for hidden matrices and AdamW for the rest.

    Raises LabError if the model has no hidden matrix.
    """
    hidden = _hidden_matrices(model) if name == "muon" else []
    groups = decay_groups(model, weight_decay, leave_out={id(value) for value in hidden})
    has_fused = next(model.parameters()).device.type in ("cpu", "cuda")
    adamw = torch.optim.AdamW(groups, lr=lr, fused=has_fused)
    return [Muon(hidden, lr, weight_decay), adamw] if hidden else [adamw]


def decay_groups(model: nn.Module, weight_decay: float,
                 leave_out: set[int] = frozenset()) -> list[dict[str, Any]]:
    """Weight decay on matrices and filters only, not on biases, norms and `tables`.

    Frozen parameters and those whose `id` is in `leave_out` are in neither group.
    """
    trained = [(name, value) for name, value in model.named_parameters()
               if value.requires_grad and id(value) not in leave_out]
    known = tables(model)
    free = {name for name, value in trained if value.ndim < 2 or name in known}
    return [{"params": [value for name, value in trained if name not in free],
             "weight_decay": weight_decay},
            {"params": [value for name, value in trained if name in free], "weight_decay": 0.0}]


def schedule_factor(step: int, steps: int, warmup: float, schedule: str = "cosine") -> float:
    """Share of the learning rate at `step` (from 0): a linear rise over `warmup`, then a fall."""
    rising = max(1, round(warmup * steps))
    if step < rising:
        return (step + 1) / rising
    done = (step - rising) / max(1, steps - rising)
    return 1 - done if schedule == "linear" else 0.5 * (1 + math.cos(math.pi * done))


def _hidden_matrices(model: nn.Module) -> list[Tensor]:
    """Trained matrices and filters, except tables, first filters, depthwise ones and heads.

    Heads are what is named so, also that of a distillation token, and the last matrix.
    """
    known = tables(model)
    matrices = [(name, value) for name, value in model.named_parameters()
                if value.ndim > 1 and value.requires_grad and name not in known]
    hidden = [value for number, (name, value) in enumerate(matrices[:-1])
              if min(value.shape[:2]) > 1 and not (number == 0 and value.ndim > 2)
              and name.split(".")[-2:-1] not in (["head"], ["head_dist"])]
    if not hidden:
        raise LabError('fit: optimizer="muon" is for hidden matrices, and '
                       f'{type(model).__name__} has none; give optimizer="adamw"')
    return hidden


def tables(model: nn.Module) -> set[str]:
    """Names of the learned tables of `model`: looked up or added, such as positions.

    A module names its own by `no_weight_decay()`, relative to itself, as timm's do; an embedding is
    one. timm's modules name only some: theirs are also all own parameters that are not called a
    weight.
    """
    ids = set()
    for module in model.modules():
        own = set(getattr(module, "no_weight_decay", set)())
        if isinstance(module, nn.Embedding):
            own.add("weight")
        if type(module).__module__.startswith("timm."):
            parameters = dict(module.named_parameters(recurse=False))
            own.update(name for name in parameters if "weight" not in name)
        ids.update(id(value) for name, value in module.named_parameters() if name in own)
    return {name for name, value in model.named_parameters() if id(value) in ids}
