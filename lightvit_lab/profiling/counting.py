"""Parameters, multiply-accumulates and bytes of a model, exact for products and convolutions.

The model runs once on one image under torch's own counter, with formulas for what that lacks
(`formulas.py`): on the meta device, where tensors have shapes and no values and nothing is
computed, or, if the model cannot go there (packed or quantized weights, decisions that hang on
values), where it is.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode, is_traceable_wrapper_subclass
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from ..errors import LabError, plain_numbers
from ..runtime.running import float_dtype, in_mode
from ..runtime.wrapped import unwrapped
from .formulas import Spared, may_multiply
from .splitting import splitting


@dataclass(frozen=True)
class Count:
    """Cost of one image. A multiply-accumulate (MAC) is two floating-point operations (FLOPs).

    macs: executed in matrix products, convolutions, attention and, in their customary equivalent,
        Fourier transforms
    dense_macs: the same had every sparse weight been dense
    bytes_by_dtype: what the weights and buffers of a checkpoint take, by type of number
    activation_bytes: results written by the forward pass, views not counted
    by_module: MACs by the module's name; "" is the whole
    moved_by_module: bytes that its operators read and write, one after the other as eager PyTorch
        runs them
    uncounted: operators that may multiply and have no formula, with their share of all bytes moved;
        empty is good
    """

    params: int
    macs: int
    dense_macs: int
    bytes_by_dtype: dict[str, int]
    activation_bytes: int
    by_module: dict[str, int]
    moved_by_module: dict[str, int]
    uncounted: dict[str, float]

    @property
    def flops(self) -> int:
        """Floating-point operations: a multiply-accumulate is two."""
        return 2 * self.macs

    @property
    def weight_bytes(self) -> int:
        """Bytes of all stored weights and buffers."""
        return sum(self.bytes_by_dtype.values())


@plain_numbers
def count(model: nn.Module, input_size: tuple[int, int, int] = (3, 224, 224)) -> Count:
    """Count `model` on one image of `input_size` = (channels, height, width), in eval mode.

    The model is left untouched. Norms, activations, softmax and additions are not counted: by
    convention, MACs are those of products. A product of complex numbers counts as the real ones
    that are carried out: four, in a convolution of torch three. What a forward computes outside of
    torch, in NumPy for example, counts as nothing, and `uncounted` does not name it. A model whose
    work depends on the image is counted on one of noise. Raises LabError if the model does not take
    such an image.
    """
    model = unwrapped(model)
    traffic = _anywhere(_run, model, lambda device: torch.rand(1, *input_size, device=device),
                        f"count: the model does not take an image of {tuple(input_size)}")
    by_module = {_short(name): sum(flops.values()) // 2
                 for name, flops in traffic.counter.get_flop_counts().items()}
    moved = {"": 0} | {_short(name): value for name, value in traffic.moved.items()}
    macs = by_module[""] = traffic.counter.get_total_flops() // 2
    return Count(_params(model), macs, macs + traffic.spared.flops // 2, bytes_by_dtype(model),
                 traffic.written, {name: by_module.get(name, 0) for name in moved}, moved,
                 traffic.unknown_shares())


class OwnCosts(NamedTuple):
    """Cost of one batch by the module's name, less its children's; "" is the model's own work."""

    macs: dict[str, int]
    moved: dict[str, int]
    uncounted: dict[str, float]


def own_costs(model: nn.Module, inputs: Tensor, caller: str) -> OwnCosts:
    """Count `model` on a whole batch, as `count` does on one image: weights are read once.

    Raises LabError, in the name of `caller`, if the model does not take such inputs.
    """
    return _anywhere(_run_split, model, inputs.to,
                     f"{caller}: the model does not take inputs of {tuple(inputs.shape)}")


def macs_until(model: nn.Module, results: Callable[[nn.Module, Tensor], Iterator[Tensor]],
               input_size: tuple[int, int, int], caller: str) -> tuple[int, ...]:
    """MACs of one image until each of the tensors that `results(model, images)` gives in turn.

    Raises LabError, in the name of `caller`, if the model does not take such an image.
    """
    def run(model: nn.Module, inputs: Tensor) -> tuple[int, ...]:
        traffic = _Traffic()
        steps = _Steps(model, results, traffic.counter.get_total_flops)
        _run(steps, inputs, traffic)
        return tuple(flops // 2 for flops in steps.flops)

    return _anywhere(run, model, lambda device: torch.rand(1, *input_size, device=device),
                     f"{caller}: the model does not take an image of {tuple(input_size)}")


class _Steps(nn.Module):
    """Goes through `results` of `model`, and notes the FLOPs so far at each."""

    def __init__(self, model: nn.Module, results: Callable[[nn.Module, Tensor], Iterator[Tensor]],
                 so_far: Callable[[], int]) -> None:
        super().__init__()
        self.model, self.results, self.so_far = model, results, so_far
        self.flops: list[int] = []

    def forward(self, inputs: Tensor) -> None:
        self.flops = [self.so_far() for _ in self.results(self.model, inputs)]


# What a model raises that cannot run so. Not AttributeError: where a name of torch is missing,
# nobody may fail to see it.
_REFUSALS = (RuntimeError, ValueError, TypeError, IndexError, AssertionError)


def _anywhere(run: Callable[..., Any], model: nn.Module, inputs: Callable[[torch.device], Tensor],
              refusal: str) -> Any:
    """`run(model, inputs)` on the meta device or, where that cannot be, on the model's own."""
    try:
        return run(_on_meta(model), inputs(torch.device("meta")))
    except _REFUSALS:      # what the meta device cannot do, the model's own can, or says why not
        try:
            return run(model, inputs(_device_of(model)))
        except _REFUSALS as error:
            raise LabError(f"{refusal}: {error}") from error


def _run(model: nn.Module, inputs: Tensor, traffic: _Traffic | None = None) -> _Traffic:
    traffic = traffic or _Traffic()
    # In inference mode fused attention arrives whole, not as two products. It leaves marks on what
    # a model keeps for the next call, so a model that is no copy runs without it.
    quiet = torch.inference_mode if inputs.device.type == "meta" else torch.no_grad
    with (quiet(), traffic, traffic.counter, _Decomposed(traffic.counter.flop_registry),
          in_mode(model)):
        model(inputs.to(float_dtype(model)))
    return traffic


def _run_split(model: nn.Module, inputs: Tensor) -> OwnCosts:
    traffic = _Traffic()
    with (splitting(model, traffic.counter.get_total_flops) as flops,
          splitting(model, traffic.moved_in_all) as moved):
        _run(model, inputs, traffic)
    return OwnCosts({name: round(value) // 2 for name, value in flops.items()},
                    {name: round(value) for name, value in moved.items()}, traffic.unknown_shares())


class _Traffic(TorchDispatchMode):
    """Adds up what its counter runs: bytes read and written, operators that have no formula."""

    def __init__(self) -> None:
        super().__init__()
        self.spared = Spared()
        self.counter = FlopCounterMode(display=False, custom_mapping=self.spared.mapping())
        self.moved: dict[str, int] = defaultdict(int)
        self.unknown: dict[str, int] = defaultdict(int)
        self.written = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func.is_view or func._opname == "_unsafe_view":
            return result
        read, written = _size((args, kwargs)), _size(result)
        for module in set(self.counter.mod_tracker.parents):
            self.moved[module] += read + written
        self.written += 0 if func._schema.is_mutable else written
        if func._overloadpacket not in self.counter.flop_registry and may_multiply(func):
            self.unknown[str(func._overloadpacket)] += read + written
        return result

    def moved_in_all(self) -> int:
        """Bytes read and written so far."""
        return self.moved["Global"]           # the counter's name of what holds every module

    def unknown_shares(self) -> dict[str, float]:
        """Operators without a formula, with their share of all bytes moved."""
        return {name: size / self.moved_in_all() for name, size in self.unknown.items()}


class _Decomposed(TorchDispatchMode):
    """Hands on the parts of an operator that has no formula: inference mode leaves `linear` whole.

    From torch 2.6 on the counter does so itself; here it is done before it, so that torch 2.5
    counts the same.
    """

    supports_higher_order_operators = True

    def __init__(self, formulas: dict[Any, Any]) -> None:
        super().__init__()
        self.formulas = formulas

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        stays_whole = func in self.formulas or func is torch.ops.prim.device.default
        if hasattr(func, "decompose") and not stays_whole:
            with self:
                result = func.decompose(*args, **(kwargs or {}))
            if result is not NotImplemented:
                return result
        return func(*args, **(kwargs or {}))


def _size(tree: Any) -> int:
    """Bytes of all tensors in nested lists, tuples and dicts."""
    return sum(value.numel() * value.element_size() for leaf in tree_leaves(tree)
               if isinstance(leaf, Tensor) for value in _plain(leaf))


def _plain(tensor: Tensor) -> Iterator[Tensor]:
    """The ordinary tensors that hold a quantized, sparse or wrapped one."""
    if is_traceable_wrapper_subclass(tensor):
        for name in tensor.__tensor_flatten__()[0]:
            yield from _plain(getattr(tensor, name))
    elif tensor.layout == torch.sparse_coo:
        yield from (tensor._indices(), tensor._values())
    elif tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        yield from (tensor.crow_indices(), tensor.col_indices(), tensor.values())
    else:
        yield tensor
        if tensor.is_quantized and tensor.qscheme() in _PER_CHANNEL:
            yield from (tensor.q_per_channel_scales(), tensor.q_per_channel_zero_points())


_PER_CHANNEL = (torch.per_channel_affine, torch.per_channel_symmetric)


def _short(name: str) -> str:
    """Name of a module below the root, whose own name is its class: `blocks.0.attn`."""
    return name.partition(".")[2]


def _on_meta(model: nn.Module) -> nn.Module:
    """A copy whose tensors have shapes and no values; no weight is copied on the way."""
    known: dict[int, Any] = {}
    for tensor in _tensors(model):
        if type(tensor) not in (Tensor, nn.Parameter, nn.Buffer) or tensor.layout != torch.strided:
            raise NotImplementedError(f"a {type(tensor).__name__} has values that matter")
        ghost = torch.empty_like(tensor, device="meta")
        if isinstance(tensor, nn.Parameter):
            ghost = nn.Parameter(ghost, requires_grad=False)
        known[id(tensor)] = ghost
    return copy.deepcopy(model, known)


def _tensors(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]


def _device_of(model: nn.Module) -> torch.device:
    return next((tensor.device for tensor in _tensors(model)), torch.device("cpu"))


def _stored(model: nn.Module) -> Iterator[tuple[Tensor, bool]]:
    """Each tensor of the state once, and whether it is a parameter or packed in place of one."""
    known = set()
    for value in model.state_dict(keep_vars=True).values():
        for leaf in tree_leaves(value):
            if isinstance(leaf, Tensor) and id(leaf) not in known:
                known.add(id(leaf))
                yield leaf, isinstance(leaf, nn.Parameter) or not isinstance(value, Tensor)


def _params(model: nn.Module) -> int:
    return sum(tensor.numel() for tensor, is_parameter in _stored(model) if is_parameter)


def bytes_by_dtype(model: nn.Module) -> dict[str, int]:
    """Bytes of weights and buffers in a checkpoint, packed ones too, by type of number."""
    sizes: dict[str, int] = defaultdict(int)
    for tensor, _ in _stored(model):
        for part in _plain(tensor):
            sizes[str(part.dtype).removeprefix("torch.")] += part.numel() * part.element_size()
    return dict(sizes)
