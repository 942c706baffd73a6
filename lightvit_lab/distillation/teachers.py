"""A teacher at work: a model that runs beside the student, in eval mode and without gradients."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from ..data import Pictures
from ..errors import LabError, require_choice
from ..training import Batch
from ..runtime.running import as_input, cast, native_bfloat16
from ..runtime.wrapped import unwrapped
from ..training.probing import GAIN, PRECISIONS
from .model_outputs import ModelOutputs, collect_outputs


class LiveTeacher:
    """Shows of each batch what `model` makes of it, without gradients; in bfloat16 if asked, or if
    "auto" and it pays.

    Whoever uses it puts the model on the device of the batches: `with on_device(teacher.model)`.

    Raises LabError if the model is in train mode: dropout would change what it says, and batch norm
    would learn.
    """

    def __init__(self, model: nn.Module, precision: str = "auto"):
        require_choice("distill", "teacher_precision", precision, PRECISIONS)
        model = unwrapped(model)
        if any(module.training for module in model.modules()):
            raise LabError(f"distill: the teacher, {type(model).__name__}, is in train mode, where dropout changes "
                           "what it says and batch norm goes on learning; call teacher.eval()")
        self.model, self.precision = model, precision

    def prepare(self, inputs: Tensor, data: Pictures, run: Mapping[str, Any]) -> None:
        """Choose the precision on the first `inputs` (B, 3, H, W) of a run on `data`, where that
        was left open.
        """
        if self.precision == "auto":
            self.precision = "bfloat16" if _half_pays(self.model, inputs) else "float32"

    @property
    def identity(self) -> str:
        """Class, and the beginning of the sha256 of the weights: by these a checkpoint of a run
        knows its teacher.
        """
        digest = hashlib.sha256()
        for name, value in self.model.state_dict().items():
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
        return f"{type(self.model).__name__} {digest.hexdigest()[:16]}"

    @torch.no_grad()
    def outputs(self, batch: Batch, features: Sequence[int] = (),
            attention: Sequence[int] = ()) -> ModelOutputs:
        """What the teacher shows of `batch`."""
        # said either way: the student may be under autocast
        with cast(self.precision, batch.inputs.device):
            return collect_outputs(self.model, as_input(self.model, batch.inputs), features, attention)


@torch.no_grad()
def _half_pays(model: nn.Module, inputs: Tensor, rounds: int = 4) -> bool:
    """Whether a forward pass in bfloat16 gains enough; on a GPU, whether it multiplies that type
    itself.
    """
    if inputs.device.type != "cpu":
        return native_bfloat16(inputs.device)
    seconds: dict[str, list[float]] = {"float32": [], "bfloat16": []}
    for _ in range(rounds):
        for precision, times in seconds.items():
            start = time.perf_counter()
            with cast(precision, inputs.device):
                model(as_input(model, inputs[:32]))
            times.append(time.perf_counter() - start)
    # the first pass also prepares kernels
    plain, half = (times[1:] for times in seconds.values())
    return min(median(plain) / median(half), min(plain) / min(half)) >= GAIN
