"""A teacher model that runs on each batch of the student, in eval mode and without gradients."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..data import Pictures
from ..errors import LabError, require_choice
from ..runtime.running import as_input, cast, native_bfloat16
from ..runtime.wrapped import unwrapped
from ..training import Batch
from ..training.probing import GAIN, PRECISIONS, speedup
from .model_outputs import ModelOutputs, collect_outputs


class LiveTeacher:
    """Makes the outputs of `model` for each batch; in bfloat16 if wanted, or if "auto" and it pays.

    The caller puts the model on the device of the batches: `with on_device(teacher.model)`. Raises
    LabError if the model is in train mode: dropout would change its outputs, and batch norm would
    learn.
    """

    def __init__(self, model: nn.Module, precision: str = "auto"):
        require_choice("distill", "teacher_precision", precision, PRECISIONS)
        model = unwrapped(model)
        if any(module.training for module in model.modules()):
            raise LabError(f"distill: the teacher, {type(model).__name__}, is in train mode, where "
                           "dropout changes its outputs and batch norm learns; call teacher.eval()")
        self.model, self.models, self.choices = model, (model,), {"teacher_precision": precision}

    def prepare(self, inputs: Tensor, data: Pictures, run: Mapping[str, Any]) -> None:
        """Choose the precision on the first `inputs` (B, 3, H, W) of a run, where it is open."""
        if self.choices["teacher_precision"] == "auto":
            precision = "bfloat16" if _half_pays(self.model, inputs) else "float32"
            self.choices["teacher_precision"] = precision

    @property
    def identity(self) -> str:
        """Class and first digits of the sha256 of the weights, by which a checkpoint knows it."""
        digest = hashlib.sha256()
        for name, value in self.model.state_dict().items():
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
        return f"{type(self.model).__name__} {digest.hexdigest()[:16]}"

    @torch.no_grad()
    def outputs(self, batch: Batch, features: Sequence[int] = (),
                attention: Sequence[int] = ()) -> ModelOutputs:
        """The teacher's outputs for `batch`."""
        # float32 needs its cast too: the student may be under autocast
        with cast(self.choices["teacher_precision"], batch.inputs.device):
            return collect_outputs(self.model, as_input(self.model, batch.inputs), features, attention)


@torch.no_grad()
def _half_pays(model: nn.Module, inputs: Tensor) -> bool:
    """Whether a forward in bfloat16 gains enough; on a GPU, whether it multiplies that type itself."""
    if inputs.device.type != "cpu":
        return native_bfloat16(inputs.device)

    def seconds(precision: str) -> float:
        start = time.perf_counter()
        with cast(precision, inputs.device):
            model(as_input(model, inputs))
        return time.perf_counter() - start

    return speedup(seconds, "float32", "bfloat16", rounds=4) >= GAIN
