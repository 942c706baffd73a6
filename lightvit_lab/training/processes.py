"""One process or several: the same code on a laptop and under `accelerate launch`."""

from __future__ import annotations

import os
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

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model to call in training: it averages gradients over the processes. Its weights are those of `model`."""
        if self.count == 1:
            return model
        own = [torch.cuda.current_device()] if device().type == "cuda" else None
        return nn.parallel.DistributedDataParallel(model, device_ids=own)

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
