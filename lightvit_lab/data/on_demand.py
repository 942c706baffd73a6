"""`OnDemand`: a tensor of floats that are made of stored bytes when they are used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy
import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from ..errors import LabError

# What is answered without making a float: sizes, type and place, and whether there are gradients.
_ABOUT = {Tensor.size, Tensor.dim, Tensor.numel, Tensor.nelement, Tensor.__len__,
          Tensor.element_size, Tensor.is_floating_point, Tensor.is_complex}
_ABOUT |= {getattr(Tensor, name).__get__ for name in (
    "shape", "ndim", "dtype", "device", "layout", "is_cuda", "is_sparse", "requires_grad",
    "is_leaf", "grad", "nbytes", "itemsize")}


class OnDemand(Tensor):
    """`make(stored)`, floats with as many rows as `stored` (N, ...), made when they are used.

    `x[:8]`, `x[3]`, `x[[1, 2]]` and `x[:8, 0]` make only the rows asked for, as a tensor of their
    own: writing into it changes nothing here. Any other use makes all rows, once, and is then what
    it would be of any tensor.
    """

    _stored: Tensor
    _make: Callable[[Tensor], Tensor]
    _made: Tensor | None

    @staticmethod
    def __new__(cls, stored: Tensor, make: Callable[[Tensor], Tensor]) -> OnDemand:
        like = make(stored[:0])
        shape = (len(stored), *like.shape[1:])
        tensor = Tensor._make_wrapper_subclass(cls, shape, dtype=like.dtype, device=like.device)
        tensor._stored, tensor._make, tensor._made = stored, make, None
        return tensor

    def made(self) -> Tensor:
        """All rows, as an ordinary tensor, the same at each call."""
        if self._made is not None:
            return self._made
        # what is made now would become a constant of the traced model
        if torch.jit.is_tracing():
            raise LabError("torch.jit.trace: the inputs of a whole split are made too late for a "
                           "trace; give some of them, pictures.inputs[:8]")
        made = self._rows(self._stored)
        # while a model is exported they are only shapes, which are of no use later
        if type(made) is Tensor:
            self._made = made
        return made

    def _rows(self, stored: Tensor) -> Tensor:
        # made in inference mode, they could not be trained on afterwards
        with torch.inference_mode(False), torch.no_grad():
            return self._make(stored)

    def _item(self, index: Any) -> Tensor:
        """`self[index]`; only the rows that the index names are made, where it names rows."""
        if self._made is not None:
            return self._made[index]
        first, *rest = index if isinstance(index, tuple) and index else (index,)
        if _is_number(first):
            return self._rows(self._stored[int(first)][None])[(0, *rest)]
        if isinstance(first, slice) or (not rest and _is_list(first)):
            return self._rows(self._stored[first])[(slice(None), *rest)]
        return self.made()[index]

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.__getitem__ and isinstance(args[0], cls):
            return args[0]._item(tree_map_only(cls, cls.made, args[1]))
        if func in _ABOUT and args[0]._made is None:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **(kwargs or {}))
        return cls.__torch_dispatch__(func, types, args, kwargs)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """What comes here by another way than from Python, such as `torch.as_tensor`."""
        args, kwargs = tree_map_only(cls, cls.made, (args, kwargs or {}))
        return func(*args, **kwargs)


def _is_number(index: Any) -> bool:
    """Whether an index names one row."""
    if isinstance(index, Tensor):
        return not index.ndim and not index.is_floating_point() and index.dtype != torch.bool
    return isinstance(index, int | numpy.integer) and not isinstance(index, bool)


def _is_list(index: Any) -> bool:
    """Whether an index names rows one by one: numbers, or one truth value for each row."""
    if isinstance(index, Tensor | numpy.ndarray):
        return index.ndim == 1
    is_list = isinstance(index, list | range)
    return is_list and all(isinstance(one, int | numpy.integer) for one in index)
