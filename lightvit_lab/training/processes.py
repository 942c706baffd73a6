"""One process or several: the same code on a laptop and under `accelerate launch`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import LabError
from ..runtime import device


class Team:
    """The processes of this run. `rank` counts from 0, the main one; `count` is 1 unless a launcher started several.

    Raises LabError if several were started and Accelerate, which connects them, is missing.
    """

    def __init__(self) -> None:
        self.count = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = _connect() if self.count > 1 else 0

    @property
    def is_main(self) -> bool:
        """True in the one process that writes files and draws the progress bar."""
        return self.rank == 0

    def start_alike(self, model: nn.Module) -> None:
        """Give all processes the weights of the main one; all of them must call."""
        if self.count > 1:
            for value in model.parameters():
                torch.distributed.broadcast(value.data, src=0)
        self.share_buffers(model)

    def share_buffers(self, model: nn.Module) -> None:
        """Give all processes the main one's buffers, such as batch norm's means; all of them must call."""
        if self.count > 1:
            for value in model.buffers():
                torch.distributed.broadcast(value, src=0)

    def average_gradients(self, parameters: Sequence[Tensor]) -> None:
        """Make each gradient its mean over the processes, in place; all of them must call.

        An objective may leave a part of the model out: what has no gradient in any process stays without. So we
        average ourselves: DistributedDataParallel waits for each gradient, unless it is told which may be missing.
        """
        if self.count == 1:
            return
        has = torch.tensor([float(value.grad is not None) for value in parameters], device=parameters[0].device)
        used = [value for value, some in zip(parameters, self.total(has).tolist()) if some]
        for dtype in {value.dtype for value in used}:
            alike = [value for value in used if value.dtype == dtype]
            grads = [torch.zeros_like(value) if value.grad is None else value.grad for value in alike]
            flat = self.total(torch.cat([grad.flatten() for grad in grads])) / self.count
            for value, part in zip(alike, flat.split([value.numel() for value in alike])):
                value.grad = part.view_as(value).clone()

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


def _connect() -> int:
    """Join the other processes, each on its own device; returns the rank."""
    try:
        from accelerate import PartialState
    except ImportError:
        raise LabError("training: several processes were launched, and Accelerate, which connects them, is missing; "
                       "pip install accelerate") from None
    return PartialState(cpu=device().type == "cpu").process_index
