"""Weights and pictures by a rule of names, seeds and shapes alone, so that any implementation
can be compared.
"""

import math
import zlib
from collections.abc import Callable

import numpy
import torch
from torch import nn


def drawn(key: str, shape: tuple[int, ...]) -> torch.Tensor:
    """The float32 values that the rule gives the weight of this name and shape."""
    z = numpy.random.RandomState(zlib.crc32(key.encode())).standard_normal(shape)
    leaf = key.rsplit(".", 1)[-1]
    if leaf == "running_var":
        z = 1 + abs(0.1 * z)
    elif leaf == "weight" and len(shape) == 1:
        z = 1 + 0.1 * z
    elif leaf == "weight":
        z = z * math.sqrt(2 / math.prod(shape[1:]))
    else:
        z = 0.1 * z
    return torch.from_numpy(numpy.asarray(z)).float()


def fill(model: nn.Module, published: Callable[[str], str] = str) -> nn.Module:
    """Load `model` with what the names and shapes of its weights say, and put it into eval mode.

    `published` gives the name that a weight has in the reference, where that is another.
    """
    model.load_state_dict(
        {
            key: drawn(published(key), value.shape) if value.is_floating_point() else value
            for key, value in model.state_dict().items()
        }
    )
    return model.eval()


def pictures(seed: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(numpy.random.RandomState(seed).standard_normal(shape).astype("float32"))
