"""Maps over the picture out of attention: one call each, (model, inputs, target) -> (batch, rows,
columns).
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ..errors import plain_numbers
from ..models import timm_parts
from ..runtime.running import as_input, on_device
from ..runtime.wrapped import unwrapped
from .recording import record_attention
from .relevance import Target, relevance
from .rollout import require_square_maps, rollout


@plain_numbers
def class_attention(model: nn.Module, inputs: Tensor, target: Target = None,
                    block: int = -1) -> Tensor:
    """The attention to each patch, in one block, of what the head reads, heads averaged: (batch,
    rows, columns).

    That is the class token's, with the distillation token's where there is one; the mean over image
    tokens where the head reads their mean. Float32, on the device of `inputs`; `target` is not
    used.
    """
    maps = recorded(model, inputs)[0]
    require_square_maps("class_attention", maps)
    return image_part(model, inputs, maps[block].mean(dim=1)).to(inputs.device)


def rollout_map(model: nn.Module, inputs: Tensor, target: Target = None, **settings: Any) -> Tensor:
    """Of which patches what the head reads is made, by `rollout(**settings)`: (batch, rows,
    columns).

    Float32, on the device of `inputs`; `target` is not used.
    """
    return image_part(model, inputs, rollout(recorded(model, inputs)[0], **settings)).to(inputs.device)


def relevance_map(model: nn.Module, inputs: Tensor, target: Target = None,
                  rule: str = "attention") -> Tensor:
    """The relevance of each patch to the class `target`, by `relevance`: (batch, rows, columns).

    Float32, on the device of `inputs`.
    """
    return image_part(model, inputs, relevance(model, inputs, target, rule))


def image_part(model: nn.Module, inputs: Tensor, token_map: Tensor) -> Tensor:
    """What `token_map` (batch, N, N) has in the rows of the tokens that the head reads, laid over
    the picture.

    (batch, rows, columns), the mean of those rows; what they have for tokens in front is left out.
    Raises LabError if the tokens form no grid.
    """
    prefix, rows, columns = timm_parts.layout(model, inputs, token_map.shape[-1])
    return timm_parts.read_by_head(model, token_map)[:, prefix:].unflatten(1, (rows, columns))


def recorded(model: nn.Module, inputs: Tensor) -> tuple[list[Any], Any]:
    """What `record_attention` records of `inputs`, and the model's output, both where the model
    runs.
    """
    model = unwrapped(model)
    with on_device(model, precision="float32") as place, record_attention(model) as maps:
        output = model(as_input(model, inputs).to(place))
    return maps, output
