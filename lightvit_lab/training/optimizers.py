"""AdamW, or Muon for the hidden matrices with AdamW for the rest; warm-up and schedule."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import LabError

OPTIMIZERS = ("adamw", "muon")
SCHEDULES = ("cosine", "linear")


class Optimizers:
    """One or more optimizers stepped as one, with one learning rate."""

    def __init__(self, *parts: torch.optim.Optimizer):
        self.parts = parts

    def step(self, lr: float) -> None:
        """Step at learning rate `lr`, then drop the gradients."""
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = lr
            part.step()
            part.zero_grad(set_to_none=True)

    def state_dict(self) -> list[dict[str, Any]]:
        """The state of each part, in order."""
        return [part.state_dict() for part in self.parts]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        """Take over what `state_dict` returned."""
        for part, state in zip(self.parts, states, strict=True):
            part.load_state_dict(state)


def create_optimizer(model: nn.Module, name: str, lr: float, weight_decay: float) -> Optimizers:
    """AdamW (arXiv 1711.05101) for all, or `name="muon"`: Muon for the hidden matrices and AdamW for the rest.

    Muon (Jordan et al., 2024) is torch's own, with steps scaled to AdamW's (arXiv 2502.16982), so that one `lr` serves
    both. Raises LabError if this torch has no Muon, or the model no hidden matrix.
    """
    hidden = _hidden_matrices(model) if name == "muon" else []
    groups = decay_groups(model, weight_decay, leave_out={id(value) for value in hidden})
    adamw = torch.optim.AdamW(groups, lr=lr, fused=True)
    if not hidden:
        return Optimizers(adamw)
    return Optimizers(torch.optim.Muon(hidden, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"), adamw)


def decay_groups(model: nn.Module, weight_decay: float, leave_out: set[int] = frozenset()) -> list[dict[str, Any]]:
    """Weight decay on matrices and filters only: biases, norms, the class token and the position table are left free.

    Frozen parameters and those whose `id` is in `leave_out` are in neither group.
    """
    trained = [(name, value) for name, value in model.named_parameters()
               if value.requires_grad and id(value) not in leave_out]
    free = {name for name, value in trained if value.ndim < 2 or _is_table(name)}
    return [{"params": [value for name, value in trained if name not in free], "weight_decay": weight_decay},
            {"params": [value for name, value in trained if name in free], "weight_decay": 0.0}]


def schedule_factor(step: int, steps: int, warmup: float, schedule: str = "cosine") -> float:
    """Share of the learning rate at `step` (from 0): a linear rise over the share `warmup` of the run, then a fall."""
    rising = max(1, round(warmup * steps))
    if step < rising:
        return (step + 1) / rising
    done = (step - rising) / max(1, steps - rising)
    return 1 - done if schedule == "linear" else 0.5 * (1 + math.cos(math.pi * done))


def _hidden_matrices(model: nn.Module) -> list[Tensor]:
    """Trained 2-D weights but the last, which makes the logits, and tables of tokens and positions."""
    if not hasattr(torch.optim, "Muon"):
        raise LabError(f'fit: optimizer="muon" needs torch.optim.Muon, which torch {torch.__version__} does not have; '
                       'pip install "torch>=2.9", or give optimizer="adamw"')
    matrices = [value for name, value in model.named_parameters()
                if value.ndim == 2 and value.requires_grad and not _is_table(name)]
    if len(matrices) < 2:
        raise LabError(f'fit: optimizer="muon" is for hidden matrices, and {type(model).__name__} has none; '
                       'give optimizer="adamw"')
    return matrices[:-1]


def _is_table(name: str) -> bool:
    return name.endswith(("cls_token", "pos_embed"))
