"""What a model, or a teacher, makes of a batch: logits, outputs of blocks, attention."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import isqrt
from typing import Any, dataclass_transform

import torch
from torch import Tensor, nn

from ..data import Pictures
from ..errors import LabError, plain_numbers, require_choice, require_logits, require_whole
from ..models import timm_parts
from ..runtime.hooks import Hook, hooked
from ..runtime.running import as_input, cast, native_bfloat16
from ..runtime.wrapped import unwrapped
from ..training import Batch
from ..training.probing import GAIN, PRECISIONS, speedup


@dataclass
class ModelOutputs:
    """The outputs of one model for one batch, in float32.

    `logits` (B, classes); `token_logits` (B, classes) are those of the distillation token's head,
    where the model has one (then `logits` are those of the class token's head). `features` has the
    output of each wanted layer: tokens (B, N, D), of which the first `prefix` stand for no patch,
    or maps (B, C, h, w). `attention` has weights (B, heads, N, N) and `values` the values that they
    mix (B, heads, N, head_dim). Layers are 0-based blocks, or stages where there are none, by the
    number that was given: -1 is the last. `grids` are the (rows, columns) that the model names for
    the patches of these pictures; patches that form none of them may be taken for a square if
    `square`.
    """

    logits: Tensor
    token_logits: Tensor | None = None
    features: dict[int, Tensor] = field(default_factory=dict)
    attention: dict[int, Tensor] = field(default_factory=dict)
    values: dict[int, Tensor] = field(default_factory=dict)
    prefix: int = 0
    grids: Sequence[tuple[int, int]] = ()
    square: bool = True

    @property
    def taught_logits(self) -> Tensor:
        """The logits that a teacher teaches: those of the distillation token, if there is one."""
        return self.logits if self.token_logits is None else self.token_logits

    def maps(self, layer: int) -> Tensor:
        """Features of a layer as maps (B, C, h, w); image tokens must form a grid."""
        features = self.features[layer]
        if features.ndim == 4:
            return features
        grid = self.grid(f"features of layer {layer}", features.shape[1])
        return features[:, self.prefix :].transpose(1, 2).unflatten(2, grid)

    def tokens(self, layer: int) -> Tensor:
        """Features of a layer as image tokens (B, N, D), row by row, without those in front."""
        features = self.features[layer]
        if features.ndim == 4:
            return features.flatten(2).transpose(1, 2)
        return features[:, self.prefix :]

    def named_grid(self, tokens: int) -> tuple[int, int] | None:
        """(rows, columns) of the patches among `tokens`, if the model names their grid."""
        patches = tokens - self.prefix
        return next((grid for grid in self.grids if grid[0] * grid[1] == patches), None)

    def grid(self, what: str, tokens: int) -> tuple[int, int]:
        """(rows, columns) of the patches among `tokens`; LabError on `what` if they form none."""
        side = isqrt(max(tokens - self.prefix, 0))
        if (named := self.named_grid(tokens)) is not None:
            return named
        if self.square and 0 < side * side == tokens - self.prefix:
            return side, side
        grids = " or ".join(f"{rows} x {columns}" for rows, columns in self.grids)
        form = f"grid of {grids}" if grids else "square"
        raise LabError(f"{what}: {tokens} tokens, {self.prefix} of them in front, form no {form}; "
                       "take a model with all its tokens and grids(height, width) -> [(rows, "
                       "columns)], or what needs no grid: Similarity, Relational, SoftTargets")


@dataclass_transform(frozen_default=True)
def objective(kind: type) -> type:
    """Decorator of objectives: a frozen dataclass, whose numbers may be of any library."""
    return plain_numbers(dataclass(frozen=True)(kind))


def collect_outputs(model: nn.Module, inputs: Tensor, features: Sequence[int] = (),
                    attention: Sequence[int] = (), values: Sequence[int] = ()) -> ModelOutputs:
    """Run `model` on `inputs` (B, 3, H, W) and collect outputs, of these layers too.

    Both heads of a model with a distillation token are collected, which it runs in train mode only.
    Raises LabError on layers that the model does not have, and on a model whose layers or attention
    cannot be read.
    """
    model, outputs = unwrapped(model), ModelOutputs(inputs)
    hooks = _hooks(model, features, attention, values, outputs)
    with hooked(hooks.values()), timm_parts.both_heads(model):
        logits = model(inputs)
    _require_collected(model, hooks, outputs)
    tokens = any(value.ndim == 3 for value in outputs.features.values())
    if tokens or outputs.attention or outputs.values:
        outputs.prefix = timm_parts.num_prefix_tokens(model)
        _read_grids(model, inputs, outputs)
    both = isinstance(logits, tuple) and len(logits) == 2
    if both and all(isinstance(part, Tensor) for part in logits):
        logits, outputs.token_logits = logits[0], logits[1].float()
    # features of a model without a head may be wanted
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        require_logits("distill", model, logits)
    outputs.logits = logits.float()
    return outputs


def _hooks(model: nn.Module, features: Sequence[int], attention: Sequence[int],
           values: Sequence[int], outputs: ModelOutputs) -> dict[tuple[str, int], Hook]:
    """Hooks by (name of the field, layer), which collect features and the rest into `outputs`."""
    name = type(model).__name__

    def hook(modules: Sequence[nn.Module], layer: int, side: str, collect: Any) -> Hook:
        last = len(modules) - 1
        place = require_whole(f"distill: a layer of {name}", "layer", layer, -last - 1, last)
        return Hook(modules[place], side, partial(collect, layer))

    def collect_features(layer: int, *call: Any) -> None:
        output, *rest = call[-1] if isinstance(call[-1], tuple) else (call[-1],)
        outputs.grids = [*outputs.grids, *filter(_is_grid, rest)]   # stages may pass their grid on
        outputs.features[layer] = _channels_second(model, output)

    def collect_attention(layer: int, module: nn.Module, given: tuple, keywords: dict) -> None:
        weights = timm_parts.attention_weights(module, *given, **keywords)
        if isinstance(weights, dict):
            raise LabError(f"distill: {name} attends in several ways ({', '.join(weights)}), with "
                           "several weights a head; AttentionTransfer compares its maps")
        outputs.attention[layer] = weights

    def collect_values(layer: int, module: nn.Module, given: tuple, keywords: dict) -> None:
        outputs.values[layer] = timm_parts.values_and_mixed(module)[0](*given[:1]).float()

    blocks = timm_parts.blocks(model) if features else []
    try:
        modules = (list(timm_parts.attention_modules(model).values())
                   if attention or values else [])
    except LabError as error:
        raise LabError(f"distill: {error}; AttentionTransfer compares any maps") from error
    hooks = {("features", layer): hook(blocks, layer, "output", collect_features)
             for layer in features}
    for name, layers, collect in (("attention", attention, collect_attention),
                                  ("values", values, collect_values)):
        hooks |= {(name, layer): hook(modules, layer, "input", collect) for layer in layers}
    return hooks


def _channels_second(model: nn.Module, output: Any) -> Tensor:
    """Features as tokens (B, N, D) or maps (B, C, h, w), in float32; LabError on others."""
    shape = tuple(output.shape) if isinstance(output, Tensor) else ()
    if len(shape) not in (3, 4):
        kind = f"shape {shape}" if shape else f"type {type(output).__name__}"
        raise LabError(f"distill: a layer of {type(model).__name__} puts out features of {kind}; "
                       "tokens (B, N, D) and maps (B, C, h, w) can be compared")
    # timm's Swin and its kin
    last = output.ndim == 4 and getattr(model, "output_fmt", "NCHW") == "NHWC"
    return (output.permute(0, 3, 1, 2) if last else output).float()


def _require_collected(model: nn.Module, hooks: Mapping[tuple[str, int], Hook],
                       outputs: ModelOutputs) -> None:
    """Raise LabError if a layer did not run, or ran without gradients though it is trained."""
    name = type(model).__name__
    for (what, layer), hook in hooks.items():
        output = getattr(outputs, what).get(layer)
        if output is None:
            raise LabError(f"distill: {name} showed no {what} of layer {layer}, which it does not "
                           "call; give the model before torch.compile, and before exits or skips")
        trained = any(value.requires_grad for value in hook.module.parameters())
        if torch.is_grad_enabled() and trained and not output.requires_grad:
            raise LabError(f"distill: {name} runs a compared layer in torch.utils.checkpoint with "
                           "use_reentrant=True, without gradients; give use_reentrant=False there")


def _read_grids(model: nn.Module, inputs: Tensor, outputs: ModelOutputs) -> None:
    """Set `grids` and `square`; stages may have fewer patches each than the model's own grid."""
    outputs.square = inputs.shape[-2] == inputs.shape[-1]
    try:
        outputs.grids = [*outputs.grids, *timm_parts.grids(model, inputs)]
        outputs.square = outputs.square and not hasattr(model, "blocks")
    except LabError:        # a model that names no grid
        pass


def _is_grid(value: Any) -> bool:
    pair = isinstance(value, (tuple, list)) and len(value) == 2
    return pair and all(isinstance(side, int) for side in value)


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
    def outputs(self, batch: Batch, features: Sequence[int] = (), attention: Sequence[int] = (),
                values: Sequence[int] = ()) -> ModelOutputs:
        """The teacher's outputs for `batch`."""
        # float32 needs its cast too: the student may be under autocast
        with cast(self.choices["teacher_precision"], batch.inputs.device):
            inputs = as_input(self.model, batch.inputs)
            return collect_outputs(self.model, inputs, features, attention, values)


@torch.no_grad()
def _half_pays(model: nn.Module, inputs: Tensor) -> bool:
    """Whether a forward in bfloat16 gains enough; on a GPU, whether it is native there."""
    if inputs.device.type != "cpu":
        return native_bfloat16(inputs.device)

    def seconds(precision: str) -> float:
        start = time.perf_counter()
        with cast(precision, inputs.device):
            model(as_input(model, inputs))
        return time.perf_counter() - start

    return speedup(seconds, "float32", "bfloat16", rounds=4) >= GAIN
