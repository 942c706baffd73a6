"""Counts against closed forms written here, formula by formula, from the architectures and not from the code."""

import copy
import math
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules import module as hooks_of_all_modules
from torch.utils._python_dispatch import TorchDispatchMode

from lightvit_lab import models, profiling
from lightvit_lab.errors import LabError
from lightvit_lab.profiling import counting

PUBLISHED_PARAMS = {"deit_tiny_patch16_224": 5_717_416, "deit_small_patch16_224": 22_050_664,
                    "lightvit_tiny": 9_377_698, "lightvit_small": 19_200_248, "lightvit_base": 35_195_653}
WIDTH_OF = {"tiny": 192, "small": 384}


def vit_macs(size, patch, dim, depth, classes, ratio=4, kept=None):
    """`kept[block]` tokens leave the attention of a block; all of them where it is None."""
    patches = (size // patch) ** 2
    tokens, total = patches + 1, patches * 3 * patch**2 * dim
    for block in range(depth):
        total += 4 * tokens * dim**2 + 2 * tokens**2 * dim
        tokens = kept[block] if kept else tokens
        total += 2 * ratio * tokens * dim**2
    return total + dim * classes


def lightvit_macs(size, dims, layers, ratios, count, neck=1280, window=7):
    side, half = size // 2, dims[0] // 2
    total = side**2 * 9 * half * (3 + 1 + 1) + (side // 2) ** 2 * 9 * half + (side // 4) ** 2 * 9 * half * dims[0]
    side //= 4
    for stage, (dim, depth, ratio) in enumerate(zip(dims, layers, ratios)):
        if stage:
            before, side = dims[stage - 1], side // 2
            total += side**2 * (4 * before * dim + before * dim) + count * before * dim
        image, tokens, reduced = side**2, side**2 + count, dim // 4
        attention = 4 * tokens * dim**2 + 2 * count * dim**2 + 2 * image * window**2 * dim + 4 * image * count * dim
        mlp = 2 * ratio * tokens * dim**2
        gates = dim * reduced + tokens * dim * reduced + reduced * dim + tokens * reduced + reduced
        total += depth * (attention + mlp + gates)
    return total + (side**2 + count) * dims[-1] * neck + neck * 1000


LIGHTVITS = {"lightvit_tiny": ((64, 128, 256), (2, 6, 6), (8, 4, 4), 8),
             "lightvit_small": ((96, 192, 384), (2, 6, 6), (8, 4, 4), 16),
             "lightvit_base": ((128, 256, 512), (3, 8, 6), (8, 4, 4), 24)}


def swin_macs(size, dim, layers, window=7):
    side = size // 4
    total = side**2 * 48 * dim
    for stage, depth in enumerate(layers):
        total += depth * side**2 * (12 * dim**2 + 2 * window**2 * dim)
        if stage + 1 < len(layers):
            side, dim = side // 2, 2 * dim
            total += side**2 * 2 * dim * dim
    return total + dim * 1000


def pvt_v2_macs(size, dims, layers, ratios, shrinks):
    side, before, total = size, 3, 0
    for stage, (dim, depth, ratio, shrink) in enumerate(zip(dims, layers, ratios, shrinks)):
        side, kernel = (side // 4, 7) if stage == 0 else (side // 2, 3)
        tokens, keys = side**2, (side // shrink) ** 2
        total += tokens * kernel**2 * before * dim
        attention = 2 * tokens * dim**2 + 2 * keys * dim**2 + 2 * tokens * keys * dim
        shrinking = keys * shrink**2 * dim**2 if shrink > 1 else 0
        mlp = 2 * ratio * tokens * dim**2 + 9 * tokens * ratio * dim
        total, before = total + depth * (attention + shrinking + mlp), dim
    return total + dims[-1] * 1000


class Calls(nn.Module):
    """A function of an image as a module, with what it needs beside it."""

    def __init__(self, function, **parts):
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self.function = function

    def forward(self, images):
        return self.function(self, images)


def tokens_of(images):
    """(1, channels, height, width) -> (1, height, channels * width): rows are tokens."""
    return images.transpose(1, 2).flatten(2)


def linear_attention(parts, images):
    query, key, value = parts.qkv(tokens_of(images)).chunk(3, dim=-1)
    return query.sigmoid() @ (key.sigmoid().transpose(1, 2) @ value)


def window_attention(parts, images):
    windows = tokens_of(images).unflatten(1, (4, 8)).flatten(0, 1)
    return F.scaled_dot_product_attention(windows, windows, windows)


def einsum_attention(parts, images):
    tokens = tokens_of(images)
    return torch.einsum("bnm,bmd->bnd", torch.einsum("bnd,bmd->bnm", tokens, tokens).softmax(-1), tokens)


def grouped_queries(parts, images):
    heads = tokens_of(images).unflatten(2, (6, 16)).transpose(1, 2)
    return F.scaled_dot_product_attention(heads, heads[:, :2], heads[:, :2], enable_gqa=True)


def lab(size, patch, dim, depth, fused):
    return (lambda: models.create_model("lab_vit", image_size=size, patch_size=patch, dim=dim, depth=depth,
                                        embedding="patch", fused=fused), size, vit_macs(size, patch, dim, depth, 10))


def from_timm(name, size, macs, **arguments):
    return lambda: models.create_model(name, **arguments), size, macs


def written_out(name):
    model = models.create_model(name)
    for module in model.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = False
    return model


def call(function, macs, **parts):
    return lambda: Calls(function, **parts), 32, macs


CONFIGURATIONS = {
    **{f"lab ViT {size} {patch} {fused}": lab(size, patch, dim, depth, fused) for fused in (True, False)
       for size, patch, dim, depth in [(32, 4, 64, 2), (32, 8, 64, 4), (64, 8, 48, 3)]},
    **{name: from_timm(name, 224, lightvit_macs(224, *sizes)) for name, sizes in LIGHTVITS.items()},
    **{f"{name} 448": from_timm(name, 448, lightvit_macs(448, *LIGHTVITS[name])) for name in ("lightvit_tiny", "lightvit_small")},
    **{f"timm {name} {size}": from_timm(f"vit_{name}_patch16_224", size, vit_macs(size, 16, dim, 12, 1000), img_size=size)
       for name, dim in WIDTH_OF.items() for size in (224, 384)},
    "DeiT-T": from_timm("deit_tiny_patch16_224", 224, vit_macs(224, 16, 192, 12, 1000)),
    "DeiT-T written out": (lambda: written_out("deit_tiny_patch16_224"), 224, vit_macs(224, 16, 192, 12, 1000)),
    "DeiT-S": from_timm("deit_small_patch16_224", 224, vit_macs(224, 16, 384, 12, 1000)),
    "Swin-T, windows": from_timm("swin_tiny_patch4_window7_224", 224, swin_macs(224, 96, (2, 2, 6, 2))),
    "Swin-S, windows": from_timm("swin_small_patch4_window7_224", 224, swin_macs(224, 96, (2, 2, 18, 2))),
    "PVTv2-B0, pyramid": from_timm("pvt_v2_b0", 224, pvt_v2_macs(224, (32, 64, 160, 256), (2, 2, 2, 2), (8, 8, 4, 4), (8, 4, 2, 1))),
    "PVTv2-B1, pyramid": from_timm("pvt_v2_b1", 224, pvt_v2_macs(224, (64, 128, 320, 512), (2, 2, 2, 2), (8, 8, 4, 4), (8, 4, 2, 1))),
    "nn.MultiheadAttention": call(lambda self, x: self.attend(tokens_of(x), tokens_of(x), tokens_of(x), need_weights=False),
                                  4 * 32 * 96**2 + 2 * 32**2 * 96, attend=nn.MultiheadAttention(96, 3, batch_first=True)),
    "nn.MultiheadAttention with weights": call(lambda self, x: self.attend(tokens_of(x), tokens_of(x), tokens_of(x)),
                                               4 * 32 * 96**2 + 2 * 32**2 * 96, attend=nn.MultiheadAttention(96, 3, batch_first=True)),
    **{f"nn.TransformerEncoderLayer, norm first {first}": call(
        lambda self, x: self.layer(tokens_of(x)), 4 * 32 * 96**2 + 2 * 32**2 * 96 + 2 * 32 * 96 * hidden,
        layer=nn.TransformerEncoderLayer(96, 3, hidden, batch_first=True, norm_first=first))
       for first, hidden in ((True, 288), (False, 160))},
    "linear attention": call(linear_attention, 3 * 32 * 96**2 + 2 * 32 * 96**2, qkv=nn.Linear(96, 288)),
    "window attention": call(window_attention, 2 * 32 * 8 * 96),
    "attention by einsum": call(einsum_attention, 2 * 32**2 * 96),
    "grouped queries": call(grouped_queries, 2 * 6 * 32**2 * 16),
    "convolutions": call(lambda self, x: self.layers(x), 16 * 16 * 8 * 27 + 16 * 16 * 8 * 9 + 14 * 14 * 4 * 8 * 9,
                         layers=nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.Conv2d(8, 8, 3, padding=1, groups=8),
                                              nn.BatchNorm2d(8), nn.Conv2d(8, 4, 3))),
    "transposed convolution": call(lambda self, x: self.layer(x), 32 * 32 * 3 * 5 * 4, layer=nn.ConvTranspose2d(3, 5, 2, stride=2)),
    "dilated convolution": call(lambda self, x: self.layer(x), 28 * 28 * 27 * 5, layer=nn.Conv2d(3, 5, 3, dilation=2)),
    "small products": call(lambda self, x: (torch.dot(x[0, 0, 0], x[0, 0, 1]), torch.mv(x[0, 0], x[0, 0, 0]),
                                            torch.addbmm(x[0, 0], x[0], x[0])), 32 + 32**2 + 3 * 32**3),
    "bfloat16": (lambda: models.create_model("lab_vit", embedding="patch", patch_size=8, dim=64, depth=2).bfloat16(), 32,
                 vit_macs(32, 8, 64, 2, 10)),
}


@pytest.mark.parametrize("label", CONFIGURATIONS)
def test_dense_models_are_counted_exactly(label):
    build, size, macs = CONFIGURATIONS[label]
    with torch.device("meta") if size > 64 else torch.device("cpu"):
        model = build()
    cost = profiling.count(model, (3, size, size))
    assert cost.macs == cost.dense_macs == cost.by_module[""] == macs
    assert cost.uncounted == {}


def test_there_are_at_least_thirty_configurations():
    assert len(CONFIGURATIONS) >= 30


@pytest.mark.parametrize("name", PUBLISHED_PARAMS)
def test_parameters_are_those_published(name):
    with torch.device("meta"):
        cost = profiling.count(models.create_model(name))
    assert cost.params == PUBLISHED_PARAMS[name] and cost.flops == 2 * cost.macs
    floats = cost.bytes_by_dtype["float32"] // 4
    assert cost.params <= floats < 1.01 * cost.params          # and the running statistics of norms
    assert cost.weight_bytes == sum(cost.bytes_by_dtype.values())


@pytest.mark.skipif(not hasattr(torch.ops.mkldnn, "_linear_pointwise"), reason="a torch without oneDNN")
def test_a_linear_layer_whose_weights_onednn_has_packed_counts_as_before():
    class Packed(nn.Linear):
        def forward(self, inputs):
            weight, = packed
            return torch.ops.mkldnn._linear_pointwise(inputs, weight, self.bias, "gelu", [], "none")

    layer = Packed(24, 40).requires_grad_(False)
    packed = [torch.ops.mkldnn._reorder_linear_weight(layer.weight)]
    cost = profiling.count(layer, (5, 24))
    assert cost.macs == 5 * 24 * 40 and cost.uncounted == {}


SIZES = {"image_size": 32, "patch_size": 4, "dim": 64, "depth": 3, "embedding": "patch"}
TRUE = vit_macs(32, 4, 64, 3, 10)


def small(**changes):
    torch.manual_seed(0)
    return models.create_model("lab_vit", **SIZES | changes).eval()


def test_dynamic_int8_costs_what_the_float_model_costs_and_takes_a_quarter_of_the_bytes():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = torch.ao.quantization.quantize_dynamic(small(), {nn.Linear}, dtype=torch.qint8)
    cost, dense = profiling.count(model, (3, 32, 32)), profiling.count(small(), (3, 32, 32))
    assert (cost.macs, cost.params, cost.uncounted) == (TRUE, dense.params, {})
    assert cost.bytes_by_dtype["qint8"] > 0.9 * dense.params and cost.weight_bytes < 0.35 * dense.weight_bytes


@pytest.mark.parametrize("configuration", ["Int8WeightOnlyConfig", "Int8DynamicActivationInt8WeightConfig"])
def test_torchao_models_are_counted_and_weighed(configuration):
    quantization = pytest.importorskip("torchao.quantization", reason="torchao is not installed")
    model = small()
    quantization.quantize_(model, getattr(quantization, configuration)())
    cost, dense = profiling.count(model, (3, 32, 32)), profiling.count(small(), (3, 32, 32))
    assert (cost.macs, cost.params, cost.uncounted) == (TRUE, dense.params, {})
    assert cost.weight_bytes < 0.35 * dense.weight_bytes


def test_a_name_that_torch_lacks_is_an_error_and_not_a_slower_count(monkeypatch):
    """As `nn.Buffer` does before torch 2.5: a count on the model's own device would hide it."""
    monkeypatch.delattr(nn, "Buffer")
    with pytest.raises(AttributeError, match="Buffer"):
        profiling.count(small(), (3, 32, 32))


def test_a_factorized_layer_costs_its_two_thin_ones():
    model, rank = small(), 8
    for block in model.blocks:
        wide = block.mlp.fc1
        block.mlp.fc1 = nn.Sequential(nn.Linear(wide.in_features, rank, bias=False), nn.Linear(rank, wide.out_features))
    less = 3 * 65 * (64 * 256 - rank * (64 + 256))
    assert profiling.count(model, (3, 32, 32)).macs == TRUE - less


def test_a_model_rebuilt_smaller_costs_less():
    assert profiling.count(small(mlp_ratio=2), (3, 32, 32)).macs == vit_macs(32, 4, 64, 3, 10, ratio=2)


def test_tokens_that_leave_cost_nothing_more():
    model, kept = small(), [40, 20, 20]

    class Dropping(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, images):
            tokens, _ = self.model.patch_embed(images)
            tokens = torch.cat([tokens.mean(1, keepdim=True), tokens], dim=1)
            for block, count in zip(self.model.blocks, kept):
                tokens = tokens + block.attn(block.norm1(tokens))
                best = tokens[..., 0].topk(count, dim=1).indices
                tokens = tokens.gather(1, best[..., None].expand(-1, -1, tokens.shape[-1]))
                tokens = tokens + block.mlp(block.norm2(tokens))
            return self.model.head(tokens.mean(dim=1))

    assert profiling.count(Dropping(), (3, 32, 32)).macs == vit_macs(32, 4, 64, 3, 10, kept=kept)


@pytest.mark.parametrize("make_sparse", [torch.Tensor.to_sparse_csr, torch.Tensor.to_sparse])
def test_zeros_of_a_sparse_weight_are_not_executed_but_stand_in_the_dense_equivalent(make_sparse):
    weight = torch.zeros(10, 96)
    weight[:, :24] = 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = Calls(lambda self, x: torch.sparse.mm(self.weight, tokens_of(x)[0].T))
        model.register_buffer("weight", make_sparse(weight))
        cost = profiling.count(model, (3, 32, 32))
    assert (cost.macs, cost.dense_macs) == (32 * 240, 32 * 960)
    assert cost.bytes_by_dtype["float32"] == 4 * 240 and cost.bytes_by_dtype["int64"] >= 8 * 240


def test_zeros_in_a_dense_weight_are_multiplied_like_any_number():
    model = small()
    for block in model.blocks:
        nn.init.zeros_(block.mlp.fc1.weight)
    assert profiling.count(model, (3, 32, 32)).macs == TRUE


def test_a_fourier_transform_counts_with_its_customary_operations():
    model = Calls(lambda self, x: torch.fft.ifft2(torch.fft.fft2(x + 0j)))
    assert profiling.count(model, (3, 32, 32)).flops == 2 * 5 * 3 * 32**2 * math.log2(32**2)


def test_a_recurrent_layer_is_counted_gate_by_gate():
    model = Calls(lambda self, x: self.rnn(tokens_of(x))[0], rnn=nn.LSTM(96, 32, batch_first=True))
    assert profiling.count(model, (3, 32, 32)).macs == 32 * 4 * 32 * (96 + 32)


def test_distances_are_listed_as_uncounted():
    cost = profiling.count(Calls(lambda self, x: torch.cdist(tokens_of(x), tokens_of(x), compute_mode="donot_use_mm_for_euclid_dist")),
                           (3, 32, 32))
    assert list(cost.uncounted) == ["aten._cdist_forward"] and 0 < cost.uncounted["aten._cdist_forward"] < 1


def test_modules_sum_to_the_whole_and_every_module_has_a_row():
    model = models.create_model("lab_vit_student")
    cost = profiling.count(model, (3, 32, 32))
    parts = ["patch_embed", *(f"blocks.{number}" for number in range(len(model.blocks))), "head"]
    assert sum(cost.by_module[name] for name in parts) == cost.by_module[""] == cost.macs
    assert cost.by_module["blocks.0"] == cost.by_module["blocks.0.attn"] + cost.by_module["blocks.0.mlp"]
    assert set(cost.by_module) - {""} <= {name for name, _ in model.named_modules()}
    assert cost.moved_by_module[""] >= sum(cost.moved_by_module[name] for name in parts)


def test_what_is_counted_on_the_way_is_what_each_result_took_until_then():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten(), nn.Linear(4 * 6, 5), nn.Linear(5, 2))

    def results(model, images):
        for part in model:
            images = part(images)
            yield images

    for kept in (model, torch.ao.quantization.quantize_dynamic(model, {nn.Linear})):   # on the meta device, and not
        assert counting.macs_until(kept, results, (3, 2, 3), "count") == (72, 72, 72 + 120, 72 + 120 + 10)
    with pytest.raises(LabError, match=r"twice: the model does not take an image of \(1, 2, 3\)"):
        counting.macs_until(model, results, (1, 2, 3), "twice")


def test_bytes_are_those_of_a_layer_by_hand():
    cost = profiling.count(Calls(lambda self, x: self.layer(tokens_of(x)).relu(), layer=nn.Linear(96, 10)), (3, 32, 32))
    assert cost.bytes_by_dtype == {"float32": 4 * (96 * 10 + 10)}
    copied, products, chosen = 4 * 3072, 4 * 320, 4 * 320       # rows side by side, linear layer, relu
    assert cost.activation_bytes == copied + products + chosen
    assert cost.moved_by_module["layer"] == 4 * (3072 + 960 + 10 + 320)


def test_fused_attention_writes_no_scores():
    fused, written = (profiling.count(small(fused=value), (3, 32, 32)).activation_bytes for value in (True, False))
    assert written - fused >= 3 * 4 * 65**2 * small().blocks[0].attn.num_heads


def test_weights_that_are_shared_count_once():
    one = nn.Linear(96, 96)
    cost = profiling.count(Calls(lambda self, x: self.second(self.first(tokens_of(x))), first=one, second=one), (3, 32, 32))
    assert (cost.params, cost.macs) == (96 * 97, 2 * 32 * 96**2)


def test_a_compiled_model_is_counted_as_what_it_was():
    model = small()
    assert profiling.count(torch.compile(model), (3, 32, 32)).macs == TRUE


def test_the_model_is_left_untouched():
    model = models.create_model("lab_vit_student").train()
    model.blocks[0].eval()
    model.head.weight.grad = torch.ones_like(model.head.weight)
    seen = []
    model.register_forward_hook(lambda *_: seen.append(1))
    before, modes = copy.deepcopy(model.state_dict()), [module.training for module in model.modules()]
    profiling.count(model, (3, 32, 32))
    assert modes == [module.training for module in model.modules()]
    assert all(parameter.requires_grad for parameter in model.parameters()) and model.head.weight.grad.sum() > 0
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert len(model._forward_hooks) == 1 and not hooks_of_all_modules._global_forward_pre_hooks


def test_a_picture_the_model_does_not_take_is_named_and_nothing_stays_behind():
    model = models.create_model("lab_vit_student").train()
    for size in ((3, 28, 28), (1, 32, 32), (3, 0, 0)):
        with pytest.raises(LabError, match=r"does not take an image of \({}, {}, {}\)".format(*size)):
            profiling.count(model, size)
    assert model.training and not hooks_of_all_modules._global_forward_pre_hooks
    assert profiling.count(model, (3, 32, 32)).macs > 0


def test_a_model_without_parameters_costs_nothing():
    cost = profiling.count(nn.Flatten(), (3, 32, 32))
    assert (cost.params, cost.macs, cost.weight_bytes, cost.uncounted) == (0, 0, 0, {})


def test_a_model_whose_path_hangs_on_values_is_counted_on_noise():
    model = Calls(lambda self, x: self.one(x) if x.sum() > 0 else self.two(x), one=nn.Conv2d(3, 2, 1), two=nn.Conv2d(3, 4, 1))
    assert profiling.count(model, (3, 32, 32)).macs == 32 * 32 * 3 * 2


class Complex(nn.Module):
    """(3, 32, 32) real -> what `step` makes of it as complex numbers."""

    def __init__(self, step, *weights):
        super().__init__()
        self.step, self.weights = step, nn.ParameterList(nn.Parameter(torch.randn(*size, dtype=torch.cfloat)) for size in weights)

    def forward(self, x):
        return self.step(x.to(torch.cfloat), *self.weights).abs()


@pytest.mark.parametrize("step, sizes, products, times", [
    (lambda x, w: x @ w, [(32, 32)], 3 * 32 * 32 * 32, 4),
    (lambda x, w: x[0] @ w.expand(3, -1, -1), [(32, 8)], 3 * 32 * 32 * 8, 4),                        # in a batch
    (lambda x, w, b: nn.functional.linear(x, w, b), [(5, 32), (5,)], 3 * 32 * 32 * 5, 4),
    (lambda x, w: torch.einsum("bchw,wk->bchk", x, w), [(32, 4)], 3 * 32 * 32 * 4, 4),
    (lambda x, w: nn.functional.conv2d(x, w), [(6, 3, 3, 3)], 6 * 3 * 9 * 30 * 30, 3),               # as torch does it
    (lambda x, w: nn.functional.conv2d(x, w, groups=3, padding=1), [(3, 1, 3, 3)], 3 * 9 * 32 * 32, 3),
    (lambda x, w: nn.functional.conv_transpose2d(x, w), [(3, 6, 2, 2)], 3 * 6 * 4 * 32 * 32, 3),
    (lambda x, w: nn.functional.conv1d(x[0], w), [(6, 32, 3)], 3 * 6 * 32 * 3 * 30, 3),
])
def test_a_complex_product_counts_as_the_real_ones_that_are_carried_out(step, sizes, products, times):
    found = profiling.count(Complex(step, *sizes), (3, 32, 32))
    assert found.macs == times * products and not found.uncounted


def test_fourier_transforms_stay_in_real_operations_beside_complex_products():
    alone = profiling.count(Complex(lambda x: torch.fft.fft(x)), (3, 32, 32)).macs
    both = profiling.count(Complex(lambda x, w: torch.fft.fft(x) @ w, (32, 32)), (3, 32, 32)).macs
    assert alone == round(5 * 3 * 32 * 32 * 5 / 2) and both == alone + 4 * 3 * 32 * 32 * 32     # 5 n log2 n operations


class OnRealNumbers(nn.Module):
    """Reads a value, which the meta device cannot, so that what it holds runs as it is, by its fast path."""

    def __init__(self, part):
        super().__init__()
        self.part = part

    def forward(self, inputs):
        assert inputs.max().item() >= 0
        tokens = inputs.flatten(2).transpose(1, 2).contiguous()
        return self.part(tokens)


class AttendsToItself(nn.MultiheadAttention):
    def forward(self, tokens):
        return super().forward(tokens, tokens, tokens, need_weights=False)


def operators(model, inputs):
    """Names of the operators that torch runs."""
    found = set()

    class Names(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            found.add(func._opname)
            return func(*args, **(kwargs or {}))

    with torch.no_grad(), Names():
        model(inputs)
    return found


@pytest.mark.parametrize("part, operator, macs", [
    # queries, keys, values and the projection of 35 tokens of 24 channels; scores, and the mixing of values
    (AttendsToItself(24, 4, batch_first=True), "_native_multi_head_attention", 4 * 35 * 24**2 + 2 * 35**2 * 24),
    # besides, an MLP of 40 neurons
    (nn.TransformerEncoderLayer(24, 4, 40, batch_first=True), "_transformer_encoder_layer_fwd",
     4 * 35 * 24**2 + 2 * 35**2 * 24 + 2 * 35 * 24 * 40)])
def test_fast_paths_on_real_numbers_cost_what_their_parts_cost(part, operator, macs):
    model = OnRealNumbers(part).eval()
    found = profiling.count(model, (24, 5, 7))
    assert operator in operators(model, torch.rand(1, 24, 5, 7))
    assert (found.macs, found.uncounted) == (macs, {})
