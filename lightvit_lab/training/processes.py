"""One process or several: the same code on a laptop and under `accelerate launch`."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import LabError
from ..runtime import device
from .augment import Batch
from .objectives import Objective

LossParts = tuple[Tensor, Tensor | None, dict[str, Tensor]]     # loss, logits, terms


class Team:
    """The processes of this run: `count`, 1 unless a launcher started several; `rank`, 0 is main.

    Raises LabError if several were started and Accelerate, which connects them, is missing.
    """

    def __init__(self) -> None:
        self.count = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = _connect() if self.count > 1 else 0

    @property
    def is_main(self) -> bool:
        """True in the one process that writes files and draws the progress bar."""
        return self.rank == 0

    def loss_of(self, model: nn.Module, objective: Objective) -> Callable[[Batch], LossParts]:
        """batch -> loss, logits, terms; after `backward` gradients are means over the processes.

        All of them must call, with the same model and in the same order; weights and buffers are
        those of the main one.
        """
        loss = _Loss(model, objective)
        if self.count == 1:
            return loss
        return nn.parallel.DistributedDataParallel(loss, find_unused_parameters=True)

    def total(self, values: Tensor) -> Tensor:
        """`values` summed over the processes (in place); all of them must call."""
        if self.count > 1:
            torch.distributed.all_reduce(values)
        return values

    def same(self, value: Any) -> Any:
        """The main process's `value`, in all of them; all of them must call."""
        if self.count == 1:
            return value
        values = [value]
        torch.distributed.broadcast_object_list(values, src=0)
        return values[0]


class _Loss(nn.Module):
    """The objective as a module, of whose results the loss alone has a gradient.

    So DistributedDataParallel knows every weight that the loss depends on, projectors included, and
    which a step does not use: an exit that did not run, a head without labels.
    """

    def __init__(self, model: nn.Module, objective: Objective):
        super().__init__()
        self.model = model
        self._objective = (objective,)    # in a tuple: a teacher inside is no part of this module

    def forward(self, batch: Batch) -> LossParts:
        parts = self._objective[0](self.model, batch)
        loss, logits, terms = (*parts, {})[:3] if isinstance(parts, tuple) else (parts, None, {})
        logits = None if logits is None else logits.detach()
        return loss, logits, {name: term.detach() for name, term in terms.items()}


def _connect() -> int:
    """Join the other processes, each on its own device; returns the rank."""
    try:
        from accelerate import PartialState
    except ImportError:
        raise LabError("training: several processes were launched, and Accelerate, which connects "
                       "them, is missing; pip install accelerate") from None
    return PartialState(cpu=device().type == "cpu").process_index
