"""Formulas that torch's own counter lacks: fused attention, quantized and sparse products, FFT.

Each formula takes an operator's arguments and its result (`out_val`) and returns floating-point
operations, two for each multiply-accumulate, in real numbers: a product of complex ones counts
four. Zeros of a sparse weight are not multiplied: what they would have cost goes to `Spared`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

Formula = Callable[..., int]
aten, quantized = torch.ops.aten, torch.ops.quantized


def attention(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> int:
    """Scores and mixing of dot-product attention; masks spare nothing, as in torch's kernels."""
    *lead, queries, width = query.shape
    return 2 * math.prod(lead) * queries * key.shape[-2] * (width + value.shape[-1])


def linear_by_result(inputs: Tensor, *_: Any, out_val: Any = None, **__: Any) -> int:
    """Each number of the result is a dot product over a row of the input, however packed."""
    return 2 * out_val.numel() * inputs.shape[-1]


def multi_head_attention(query: Tensor, key: Tensor, value: Tensor, embed_dim: int, *_: Any,
                         **__: Any) -> int:
    """The fast path of nn.MultiheadAttention: four linear layers and attention among all tokens."""
    batch, queries, _ = query.shape
    keys = key.shape[1]
    return 4 * batch * embed_dim * ((queries + keys) * embed_dim + queries * keys)


def encoder_layer(inputs: Tensor, embed_dim: int, *rest: Any, **_: Any) -> int:
    """The fast path of nn.TransformerEncoderLayer; its 15th argument is the MLP's first weight."""
    batch, tokens, _ = inputs.shape
    mlp = 4 * batch * tokens * embed_dim * rest[12].shape[0]
    return multi_head_attention(inputs, inputs, inputs, embed_dim) + mlp


def fast_fourier(inputs: Tensor, dims: list[int], *_: Any, out_val: Any = None, **__: Any) -> int:
    """5 n log2 n, as is customary, for n complex numbers; half of it where one side is real."""
    full = max(inputs, out_val, key=Tensor.numel)
    length = math.prod(full.shape[dim] for dim in dims)
    share = 1 if inputs.is_complex() and out_val.is_complex() else 0.5
    return round(share * 5 * full.numel() * math.log2(max(length, 1)))


def _twice_numel(place: int) -> Formula:
    """A formula: two operations for each number of the argument at `place`."""
    return lambda *arguments, **_: 2 * arguments[place].numel()


FORMULAS: dict[Any, Formula] = {
    aten.dot: _twice_numel(0), aten.mv: _twice_numel(0), aten.addmv: _twice_numel(1),
    aten.addbmm: lambda _, left, right, *rest, **more: 2 * left.numel() * right.shape[-1],
    aten._native_multi_head_attention: multi_head_attention,
    aten._transformer_encoder_layer_fwd: encoder_layer,
    # The overload too: fused attention is then not taken apart, and the same on every device.
    **dict.fromkeys((aten.scaled_dot_product_attention, aten.scaled_dot_product_attention.default,
                     aten._scaled_dot_product_flash_attention_for_cpu), attention),
    # Some of these names came with torch 2.6.
    **{getattr(aten, name): linear_by_result
       for name in ("_int_mm", "_weight_int8pack_mm", "_weight_int4pack_mm",
                    "_weight_int4pack_mm_for_cpu") if hasattr(aten, name)},
    **dict.fromkeys((quantized.linear, quantized.linear_relu, quantized.linear_dynamic,
                     quantized.linear_relu_dynamic, quantized.linear_dynamic_fp16),
                    linear_by_result),
}
if hasattr(torch.ops.mkldnn, "_linear_pointwise"):      # by weights that oneDNN has packed
    FORMULAS[torch.ops.mkldnn._linear_pointwise] = linear_by_result


class Spared:
    """Formulas of products that may have a sparse factor, and the operations its zeros spared."""

    def __init__(self) -> None:
        self.flops = 0

    def product(self, left: Tensor, right: Tensor, *_: Any, **__: Any) -> int:
        """A matrix product, of the stored numbers of a sparse factor only."""
        dense = 2 * left.shape[0] * left.shape[1] * right.shape[1]
        done = round(dense * _stored_share(left) * _stored_share(right))
        self.flops += dense - done
        return done

    def mapping(self) -> dict[Any, Formula]:
        """For `FlopCounterMode(custom_mapping=)`: formula by operator."""
        products = {aten.mm: self.product, aten._sparse_mm: self.product}
        products |= dict.fromkeys((aten.addmm, aten._sparse_addmm),
                                  lambda _, *factors, **more: self.product(*factors))
        real = {operator: self._in_real(formula)
                for operator, formula in {**flop_registry, **FORMULAS, **products}.items()}
        fourier = dict.fromkeys((aten._fft_r2c, aten._fft_c2r, aten._fft_c2c), fast_fourier)
        return {operator: _with_arguments(formula)
                for operator, formula in {**real, **fourier}.items()}

    def _in_real(self, formula: Formula) -> Formula:
        """The formula, and four times as much where numbers are complex."""
        def counted(*arguments: Any, out_val: Any = None, **named: Any) -> int:
            before, flops = self.flops, formula(*arguments, out_val=out_val, **named)
            times = 4 if any(map(_is_complex, tree_leaves(out_val))) else 1
            self.flops = before + times * (self.flops - before)
            return times * flops
        return counted


def _is_complex(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.is_complex()


def _stored_share(factor: Tensor) -> float:
    if isinstance(factor, torch.sparse.SparseSemiStructuredTensor):     # two numbers of every four
        return 0.5
    if factor.layout == torch.strided:
        return 1.0
    values = factor._values() if factor.layout == torch.sparse_coo else factor.values()
    return values.numel() / factor.numel()


def _with_arguments(formula: Formula) -> Formula:
    """Marked as torch's counter wants it to give a formula arguments, and not only shapes."""
    def marked(*arguments: Any, **named: Any) -> int:
        return formula(*arguments, **named)
    marked._get_raw = True      # type: ignore[attr-defined]
    return marked


# Parts of the names of operators that only norm, reduce, choose, move, make or convert numbers.
_MOVES = """norm softmax logsumexp mean sum prod amin amax aminmax min max var std any all argmax
argmin sort topk kthvalue gather scatter index select slice masked where nonzero unique take cat
stack pad clone copy to_dense empty zeros ones full fill new_ arange linspace eye rand normal
uniform bernoulli dropout repeat roll flip embedding upsample grid_sampler pool shuffle im2col
col2im unfold tril triu lift_fresh local_scalar_dense scalar_tensor unsafe_view bucketize
searchsorted histc bincount equal glu quantize qparams resize device split hardswish divide
strided""".split()
_MULTIPLIES = "mm mv linear conv attention einsum rnn lstm gru dist solve bilinear".split()


def may_multiply(operator: Any) -> bool:
    """Whether an operator without a formula may hide products.

    It does not if it is a view, arithmetic number by number, a norm, a reduction, a choice, a copy
    or the creation of tensors.
    """
    if operator.is_view or torch.Tag.pointwise in operator.tags:
        return False
    name = operator._opname
    return any(word in name for word in _MULTIPLIES) or not any(word in name for word in _MOVES)
