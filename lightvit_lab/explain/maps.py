"""Maps over the picture made of attention: (model, inputs, target) -> (batch, rows, columns)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ..errors import plain_numbers
from ..models import timm_parts
from ..runtime.running import as_input, on_device
from ..runtime.wrapped import unwrapped
from .passes import Target
from .recording import record_attention
from .relevance import relevance
from .rollout import require_square_maps, rollout


@plain_numbers
def class_attention(model: nn.Module, inputs: Tensor, target: Target = None,
                    block: int = -1) -> Tensor:
    """The attention to each patch, in one block, of the tokens that the head reads.

    The mean of all heads, (batch, rows, columns), float32, on the device of `inputs`; `target` is
    not used. The head reads the class token, with the distillation token where there is one, or the
    mean of image tokens.
    """
    maps = recorded(model, inputs)[0]
    require_square_maps("class_attention", maps)
    return image_part(model, inputs, maps[block].mean(dim=1)).to(inputs.device)


def rollout_map(model: nn.Module, inputs: Tensor, target: Target = None, **settings: Any) -> Tensor:
    """How much of each patch is in the tokens that the head reads, by `rollout(**settings)`.

    (batch, rows, columns), float32, on the device of `inputs`; `target` is not used.
    """
    flow = rollout(recorded(model, inputs)[0], **settings)
    return image_part(model, inputs, flow).to(inputs.device)


def relevance_map(model: nn.Module, inputs: Tensor, target: Target = None,
                  rule: str = "attention") -> Tensor:
    """The relevance of each patch to the class `target`, by `relevance`: (batch, rows, columns).

    Float32, on the device of `inputs`.
    """
    return image_part(model, inputs, relevance(model, inputs, target, rule))


def image_part(model: nn.Module, inputs: Tensor, token_map: Tensor) -> Tensor:
    """Maps (batch, rows, columns) of patches: what `token_map` has for the tokens the head reads.

    Of `token_map` (batch, N, N) the mean of their rows, without the columns of tokens that are no
    patches. Raises LabError if the patches form no grid.
    """
    prefix, rows, columns = timm_parts.layout(model, inputs, token_map.shape[-1])
    return timm_parts.read_by_head(model, token_map)[:, prefix:].unflatten(1, (rows, columns))


def recorded(model: nn.Module, inputs: Tensor) -> tuple[list[Any], Any]:
    """What `record_attention` records of `inputs`, and the model's output, where the model runs."""
    model = unwrapped(model)
    with on_device(model, precision="float32") as place, record_attention(model) as maps:
        output = model(as_input(model, inputs).to(place))
    return maps, output
