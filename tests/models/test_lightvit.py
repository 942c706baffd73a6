import json
import math
import sys
from pathlib import Path

import numpy
import pytest
import timm
import torch
import torch.nn.functional as F
from drawn_weights import fill, pictures
from parity.cases import Case
from parity.runner import check
from torch import nn

from lightvit_lab import models
from lightvit_lab.components import relative_position_index, sort_into_windows
from lightvit_lab.errors import LabError
from lightvit_lab.explain import record_attention
from lightvit_lab.models.lightvit import BiAttn, LightViTBlock, LightViT, LightViTAttention, ResidualMergePatch

REFERENCE = json.loads((Path(__file__).parent / "lightvit_reference.json").read_text())
CASES = REFERENCE["cases"]
SMALL = dict(embed_dims=(16, 32, 64), num_layers=(1, 2, 1), num_heads=(2, 2, 4), mlp_ratios=(2, 2, 2), num_tokens=3,
             neck_dim=48, num_classes=5)


def small(**kwargs) -> LightViT:
    return fill(LightViT(**{**SMALL, **kwargs}))


@pytest.fixture(scope="module")
def literal():
    """The formulas without any rearrangement, as the benchmark times them."""
    sys.path.append(str(Path(__file__).parents[1] / "bench"))
    from bench_lightvit import LiteralLightViT

    return LiteralLightViT


@pytest.mark.parametrize("name", REFERENCE["params"])
def test_published_sizes_have_the_published_number_of_parameters(name):
    assert sum(value.numel() for value in models.create_model(name).parameters()) == REFERENCE["params"][name]


@pytest.mark.parametrize("name", CASES)
def test_logits_features_and_multiply_accumulates_are_those_of_the_authors_code(name):
    """Stored numbers, so that it is checked for everybody; `make parity` compares many more, and the single modules."""
    facts = {key: value for key, value in CASES[name].items() if key != "macs"}
    flops = {"torch_flop_counter": 2 * CASES[name]["macs"]}
    result = check(Case(name, facts | {"source": {"repo": "hunto/LightViT"}, "flops": flops}))
    assert (result.outcome, result.compared, result.lines) == ("passed", 9, [])


@pytest.mark.parametrize("height, width", [(224, 224), (448, 448), (448, 224)])
@torch.inference_mode()
def test_where_windows_are_whole_the_literal_formulas_give_the_same_logits(literal, height, width):
    model, images = small(), pictures(1, 2, 3, height, width)
    assert torch.allclose(model(images), literal(model)(images), atol=1e-5)


def naive_attention(layer: LightViTAttention, tokens: torch.Tensor, height: int, width: int, size: int) -> torch.Tensor:
    """Query by query, each looking at the tokens that are there: no window order, no empty places, no mask."""
    count, heads = layer.num_tokens, layer.num_heads
    query, key, value = (part.unflatten(-1, (heads, -1)) for part in layer.qkv(tokens).chunk(3, -1))

    def look(one, keys, values, bias=0.0):
        scores = torch.einsum("bhd,bnhd->bhn", one, keys) / math.sqrt(one.shape[-1]) + bias
        return torch.einsum("bhn,bnhd->bhd", scores.softmax(-1), values).flatten(1)

    aggregated = torch.stack([look(query[:, i], key[:, count:], value[:, count:]) for i in range(count)], 1)
    global_key, global_value = (part.unflatten(-1, (heads, -1)) for part in layer.kv_global(aggregated).chunk(2, -1))
    outputs = [aggregated]
    for row in range(height):
        for column in range(width):
            mates = [(r, c) for r in range(height) for c in range(width)
                     if (r // size, c // size) == (row // size, column // size)]
            places = [count + r * width + c for r, c in mates]
            offsets = [(row - r + size - 1) * (2 * size - 1) + column - c + size - 1 for r, c in mates]
            one = query[:, count + row * width + column]
            local = look(one, key[:, places], value[:, places], layer.relative_position_bias_table[offsets].T)
            outputs.append((local + look(one, global_key, global_value))[:, None])
    return layer.proj(torch.cat(outputs, 1))


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("grid", [(6, 6), (3, 3), (5, 3), (2, 7), (1, 1), (4, 1)])
@torch.inference_mode()
def test_empty_places_change_nothing_for_the_tokens_that_are_there(grid, fused):
    layer = fill(LightViTAttention(8, 2, num_tokens=2, window_size=3, fused=fused))
    nn.init.normal_(layer.relative_position_bias_table)
    tokens, windows = pictures(2, 2, 2 + grid[0] * grid[1], 8), sort_into_windows(grid, 3, 2)
    ours = layer(tokens[:, windows.order], windows)[:, windows.inverse]
    assert torch.allclose(ours, naive_attention(layer, tokens, *grid, 3), atol=1e-5)


@pytest.mark.parametrize("grid", [(4, 4), (5, 3), (3, 2)])
def test_window_order_puts_each_window_together_row_by_row(grid):
    windows, (height, width) = sort_into_windows(grid, 2, num_tokens=1), grid
    by_hand = sorted(((r // 2, c // 2, r, c) for r in range(height) for c in range(width)))
    assert windows.order.tolist() == [0] + [1 + r * width + c for _, _, r, c in by_hand]
    assert windows.order[windows.inverse].tolist() == list(range(1 + height * width))
    assert windows.count == len({place[:2] for place in by_hand}) and windows.padded == (grid != (4, 4))


def test_position_index_is_that_of_the_offset_by_hand():
    """A window of 2 x 2: row 4 of the 3 x 3 table is "same place", 3 is "one to the left of the key"."""
    assert relative_position_index(2).view(4, 4).tolist() == [[4, 3, 1, 0], [5, 4, 2, 1], [7, 6, 4, 3], [8, 7, 5, 4]]


@pytest.mark.parametrize("grid", [(3, 4), (3, 3), (1, 1), (4, 5)])
@torch.inference_mode()
def test_merging_odd_maps_doubles_the_last_row_and_column(grid):
    layer, (height, width) = fill(ResidualMergePatch(4, 6, num_tokens=2)), grid
    tokens = pictures(3, 2, 2 + height * width, 4)
    merged, new_grid = layer(tokens, grid)
    assert new_grid == ((height + 1) // 2, (width + 1) // 2) and merged.shape == (2, 2 + new_grid[0] * new_grid[1], 6)
    assert torch.allclose(merged[:, :2], layer.proj(layer.norm2(tokens[:, :2])), atol=1e-6)
    for row in range(new_grid[0]):
        for column in range(new_grid[1]):
            four = [tokens[:, 2 + min(2 * row + down, height - 1) * width + min(2 * column + right, width - 1)]
                    for right in (0, 1) for down in (0, 1)]
            expected = layer.reduction(layer.norm(torch.cat(four, -1))) + layer.res_proj(torch.stack(four).amax(0))
            assert torch.allclose(merged[:, 2 + row * new_grid[1] + column], expected, atol=1e-6)


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (97, 64), (150, 100)])
@torch.inference_mode()
def test_any_size_from_32_px_gives_one_answer_alone_in_a_batch_fused_or_written_out(size):
    model, written, images = small(), small(fused=False), pictures(4, 3, 3, *size)
    logits = model(images)
    assert logits.isfinite().all() and torch.allclose(logits, written(images), atol=1e-5)
    assert torch.allclose(logits[1:2], model(images[1:2]), atol=1e-5)
    grids = [grid for _, grid in model.run_stages(images)]
    assert grids == [tuple(math.ceil(side / patch) for side in size) for patch in (8, 16, 32)]


@torch.inference_mode()
def test_gates_are_those_of_the_side_by_side_form():
    layer, tokens = fill(BiAttn(8)), pictures(5, 2, 6, 8)
    normed = layer.norm(tokens)
    mean = F.gelu(layer.global_reduce(normed.mean(1, keepdim=True)))
    both = torch.cat([F.gelu(layer.local_reduce(normed)), mean.expand(-1, 6, -1)], -1)
    channel, spatial = layer.gates(tokens)
    assert torch.allclose(spatial, layer.spatial_select(both).sigmoid(), atol=1e-6) and channel.shape == (2, 1, 8)


@torch.inference_mode()
def test_features_only_gives_the_maps_of_the_stages_through_timm():
    backbone = timm.create_model("lightvit_tiny", features_only=True).eval()
    assert (backbone.feature_info.channels(), backbone.feature_info.reduction()) == ([64, 128, 256], [8, 16, 32])
    images = pictures(6, 1, 3, 64, 96)
    maps = backbone(images)
    assert [tuple(one.shape) for one in maps] == [(1, 64, 8, 12), (1, 128, 4, 6), (1, 256, 2, 3)]
    tokens, (rows, columns) = backbone.model.run_stages(images)[1]
    assert torch.equal(maps[1][0, :, 2, 5], tokens[0, 8 + 2 * columns + 5])


@torch.inference_mode()
def test_features_of_some_stages_leave_out_what_they_do_not_need():
    whole, images = models.create_model("lab_lightvit").eval(), pictures(6, 1, 3, 32, 32)
    backbone = models.create_model("lab_lightvit", features_only=True, out_indices=(-2,)).eval()
    backbone.model.load_state_dict(whole.state_dict(), strict=False)
    maps = whole.forward_intermediates(images, intermediates_only=True)
    assert all(torch.equal(one, other) for one, other in zip(backbone(images), maps[:1], strict=True))
    assert not any(name.startswith(("stages.1", "head", "neck")) for name in backbone.model.state_dict())
    tokens, last = whole.forward_intermediates(images, indices=1, norm=True)
    assert torch.equal(tokens, whole.forward_features(images))
    assert torch.equal(last[0].flatten(2).transpose(1, 2), tokens[:, 4:])


def test_another_number_of_classes_gets_a_fresh_head():
    model = models.create_model("lab_lightvit", num_classes=7)
    model.reset_classifier(3)
    assert model.get_classifier().out_features == model.num_classes == 3
    model.reset_classifier(0)
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, model.head_hidden_size)


def _gradients(model: LightViT, images: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    model(images).square().sum().backward()
    return {name: value.grad.clone() for name, value in model.named_parameters()}


def test_checkpointing_gives_the_same_gradients_and_every_parameter_has_one():
    model, images = small(), pictures(7, 2, 3, 40, 64)
    plain = _gradients(model, images)
    model.set_grad_checkpointing()
    calls = []
    handle = model.stages[0][0].register_forward_pre_hook(lambda *_: calls.append(1))
    again = _gradients(model, images)
    handle.remove()
    assert len(calls) == 2   # in the forward pass, and again in the backward pass
    for name, value in plain.items():
        assert value.any() and torch.allclose(value, again[name], rtol=1e-4, atol=1e-6)


def test_stochastic_depth_rises_to_the_last_block_and_skips_it_only_in_training():
    model = small(drop_path_rate=0.3)
    blocks = [layer for stage in model.stages for layer in stage if isinstance(layer, LightViTBlock)]
    assert [block.drop_path.drop_prob for block in blocks] == pytest.approx([0, 0.1, 0.2, 0.3])
    block, tokens = fill(LightViTBlock(8, 2, 1, window_size=2, drop_path=0.999)), pictures(8, 1, 5, 8)
    windows = sort_into_windows((2, 2), 2, 1)
    torch.manual_seed(0)
    assert torch.equal(block.train()(tokens, windows), tokens)
    assert not torch.equal(block.eval()(tokens, windows), tokens)


@pytest.mark.parametrize("cast", [True, False])
@pytest.mark.parametrize("size", [224, 72])
@torch.inference_mode()
def test_bfloat16_stays_within_its_rounding(cast, size):
    model, images = small(), pictures(9, 2, 3, size, size)
    exact = model(images)
    if cast:
        with torch.autocast("cpu", torch.bfloat16):
            half = model(images)
    else:
        half = model.bfloat16()(images.bfloat16())
    assert half.dtype == torch.bfloat16 and (half.float() - exact).abs().max() < 0.03 * exact.abs().max()


@torch.inference_mode()
def test_it_compiles_without_a_graph_break_where_windows_are_whole_and_where_they_are_not():
    """At 56 px the first stage has one whole window, the others windows with empty places."""
    model, images = small(num_layers=(1, 1, 1)), pictures(10, 2, 3, 56, 56)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    assert torch.allclose(compiled(images), model(images), atol=1e-5)


@torch.inference_mode()
def test_it_exports_for_any_batch():
    model, images = small(num_layers=(1, 1, 1)), pictures(11, 3, 3, 56, 56)
    program = torch.export.export(model, (images[:2],), dynamic_shapes=({0: torch.export.Dim("batch", max=4096)},))
    assert torch.allclose(program.module()(images), model(images), atol=1e-5)


@pytest.mark.parametrize("size", [32, 56])
@torch.inference_mode()
def test_recorded_maps_sum_to_one_and_times_the_values_give_what_the_model_computed(size):
    model, images = small(window_size=3), pictures(12, 2, 3, size, size)
    with record_attention(model) as maps:
        logits = model(images)
    assert torch.equal(logits, model(images)) and len(maps) == 4
    assert all(torch.allclose(one.sum(-1), torch.ones(())) for recorded in maps for one in recorded.values())
    layer, grid = model.stages[0][0].attn, (size // 8, size // 8)
    embedded, _ = model.patch_embed(images)
    tokens = model.stages[0][0].norm1(torch.cat([model.global_token.expand(2, -1, -1), embedded], 1))
    value = layer.qkv(tokens)[:, 3:].chunk(3, -1)[2].unflatten(-1, (2, -1)).transpose(1, 2)
    aggregated = (maps[0]["aggregation"] @ value).transpose(1, 2).flatten(2)
    assert torch.allclose(layer.proj(aggregated), naive_attention(layer, tokens, *grid, 3)[:, :3], atol=1e-5)
    global_value = layer.kv_global(aggregated).chunk(2, -1)[1].unflatten(-1, (2, -1)).transpose(1, 2)
    broadcast = (maps[0]["broadcast"] @ global_value).transpose(1, 2).flatten(2)
    windows = sort_into_windows(grid, 3, 3)
    in_windows = windows.cut(value.transpose(1, 2).flatten(2)[:, windows.order[3:] - 3])
    in_windows = in_windows.unflatten(-1, (2, -1)).transpose(1, 2)
    local = windows.join((maps[0]["window"].flatten(0, 1) @ in_windows).transpose(1, 2).flatten(2))
    image = layer.proj(local[:, windows.inverse[3:] - 3] + broadcast)
    assert torch.allclose(image, naive_attention(layer, tokens, *grid, 3)[:, 3:], atol=1e-5)


def test_lab_lightvit_fits_32_px_with_whole_windows_and_is_about_as_large_as_its_rivals():
    model = models.create_model("lab_lightvit").eval()
    outputs = model.run_stages(torch.zeros(1, 3, 32, 32))
    assert [grid for _, grid in outputs] == [(8, 8), (4, 4)]
    assert not any(sort_into_windows(grid, 4).padded for _, grid in outputs)
    sizes = {name: sum(value.numel() for value in models.create_model(name).parameters())
             for name in ("lab_lightvit", "lab_vit", "lab_cnn")}
    assert 0.8 * min(sizes["lab_vit"], sizes["lab_cnn"]) < sizes["lab_lightvit"] < 1.2 * sizes["lab_vit"]


def test_without_global_tokens_no_window_hears_of_another():
    torch.manual_seed(0)
    images, heard = torch.randn(1, 3, 32, 32), {}
    elsewhere = images.clone()
    elsewhere[..., 20:, 20:] += 1                      # far from the first window, beyond the reach of the stem's filters
    for count in (0, 3):
        model = LightViT(patch_size=4, embed_dims=(16,), num_layers=(3,), num_heads=(2,), mlp_ratios=(2,), window_size=2,
                         num_tokens=count, gates=False).eval()
        with torch.no_grad():
            (before, grid), (after, _) = (model.run_stages(x)[0] for x in (images, elsewhere))
        maps = (before - after)[0, count:].unflatten(0, grid).abs().amax(-1)
        heard[count] = maps[:2, :2].max().item()
    assert heard[0] == 0 < heard[3]


def test_without_gates_the_mlp_of_one_token_knows_of_no_other():
    layer, tokens = fill(LightViTBlock(8, 2, 1, 2, gates=False)).mlp, torch.randn(1, 5, 8)
    changed = tokens.clone()
    changed[0, 4] += 1
    assert torch.equal(layer(tokens)[0, :4], layer(changed)[0, :4])


def test_merging_by_the_mean_takes_the_mean():
    layer = fill(ResidualMergePatch(4, 6, num_tokens=0, pooling="mean"))
    maps = torch.randn(1, 2, 2, 4)
    layer.reduction.weight.data.zero_()
    merged, _ = layer(maps.flatten(1, 2), (2, 2))
    assert torch.allclose(merged[0, 0], maps.flatten(1, 2).mean(dim=1)[0] @ layer.res_proj.weight.T, atol=1e-6)


@pytest.mark.parametrize("images, words", [
    (torch.zeros(1, 3, 31, 64), "31 x 64 pixels; give 32 x 32 or more.*size=.32, 64"),
    (torch.zeros(1, 1, 32, 32), "1 channels, the model takes 3.*expand"),
    (torch.zeros(1, 3, 32, 32, dtype=torch.uint8), r"torch.uint8.*images.float\(\) / 255"),
    (torch.zeros(1, 32, 32, 3), r"permute\(0, 3, 1, 2\)"),
    (torch.zeros(3, 32, 32), "add the batch"),
    (numpy.zeros((1, 3, 32, 32)), "as_tensor"),
])
def test_wrong_pictures_end_in_a_sentence(images, words):
    with pytest.raises(LabError, match=words):
        small()(images)


@pytest.mark.parametrize("arguments, words", [
    (dict(patch_size=16), "patch_size=16 is unknown.*2, 4, 8"),
    (dict(num_layers=(1, 2)), r"num_layers=\(1, 2\) has 2 entries; give one for each of the 3 stages"),
    (dict(embed_dims=(16, 32, 66)), "66 is no multiple of 4"),
    (dict(num_heads=(3, 2, 4)), "each of 3 heads"),
    (dict(num_heads=(2, 0, 4)), "1 <= num_heads"),
    (dict(num_layers=(1, 0, 1)), "1 <= num_layers"),
    (dict(num_tokens=-1), "0 <= num_tokens"),
    (dict(pooling="average"), "Give one of: max, mean"),
    (dict(window_size=0), "1 <= window_size"),
])
def test_sizes_that_make_no_model_are_refused(arguments, words):
    with pytest.raises(LabError, match=words):
        LightViT(**{**SMALL, **arguments})


def test_maps_that_do_not_exist_are_refused():
    with pytest.raises(LabError, match="indices=3 is unknown.*0, 1, 2"):
        small().forward_intermediates(torch.zeros(1, 3, 32, 32), indices=(0, 3))
    with pytest.raises(LabError, match="output_fmt='NLC'"):
        small().forward_intermediates(torch.zeros(1, 3, 32, 32), output_fmt="NLC")
    with pytest.raises(LabError, match="lab_vit.*features_only.*lightvit_tiny"):
        models.create_model("lab_vit", features_only=True)


# What the authors' backbone of a detector gives, hunto/LightViT e2452a17, detection/lightvit.py, on filled weights: the
# first four and the last four numbers of each stage after its norm, of a picture of 100 x 136 pixels drawn by seed 1.
IN_A_DETECTOR = [([-0.913768, -0.373197, -1.737864, -0.462006], [-1.549566, -2.001539, -1.5252, -0.398186]),
                 ([-2.080209, -2.087241, -2.079865, -1.706937], [0.147429, -0.267499, -1.31864, -0.272851]),
                 ([-0.357019, -0.193126, -0.266207, -0.319082], [-0.844138, -0.653603, -0.889803, -0.187832])]


def backbone(**settings):
    """The model of `IN_A_DETECTOR`."""
    return fill(LightViT(embed_dims=(32, 64, 128), num_layers=(1, 2, 1), num_heads=(1, 2, 4), mlp_ratios=(4, 4, 4),
                         num_tokens=4, **settings)).eval()


@torch.inference_mode()
def test_stages_in_a_detector_are_those_of_the_authors_code():
    model, pixels = backbone(padding="published", drop_global_tokens=True), pictures(1, 1, 3, 100, 136)
    maps = model.forward_intermediates(pixels, intermediates_only=True)
    for stage, (found, (first, last)) in enumerate(zip(maps, IN_A_DETECTOR, strict=True)):
        norm = fill(nn.ModuleDict({f"norm{stage}": nn.LayerNorm(found.shape[1], eps=1e-6)}))[f"norm{stage}"]
        numbers = norm(found.permute(0, 2, 3, 1)).permute(0, 3, 1, 2).flatten()
        torch.testing.assert_close(numbers[:4], torch.tensor(first), atol=2e-5, rtol=0)
        torch.testing.assert_close(numbers[-4:], torch.tensor(last), atol=2e-5, rtol=0)
    assert model.forward_features(pixels).shape == (1, 4 * 5, 128) and model(pixels).shape == (1, 1000)
    other = backbone().forward_intermediates(pixels, intermediates_only=True)
    assert all((mine - theirs).abs().max() > 0.1 for mine, theirs in zip(other, maps))


@torch.inference_mode()
def test_published_padding_is_tokens_of_zeros_that_are_looked_at():
    layer, tokens = fill(LightViTAttention(8, 2, 0, window_size=2, padding="published")), torch.randn(2, 9, 8)
    zeros = F.pad(tokens.unflatten(1, (3, 3)), (0, 0, 0, 1, 0, 1)).flatten(1, 2)          # a map of 4 x 4
    odd, even = sort_into_windows((3, 3), 2), sort_into_windows((4, 4), 2)
    found = layer(tokens[:, odd.order], odd)[:, odd.inverse]
    whole = layer(zeros[:, even.order], even)[:, even.inverse].unflatten(1, (4, 4))[:, :3, :3].flatten(1, 2)
    torch.testing.assert_close(found, whole)
    weights = layer.weights(tokens[:, odd.order], odd)["window"]
    assert weights.min() > 0 and torch.allclose(weights.sum(-1), torch.ones(()))
    layer.padding = "masked"
    assert layer.weights(tokens[:, odd.order], odd)["window"].min() == 0
    assert not torch.allclose(layer(tokens[:, odd.order], odd)[:, odd.inverse], whole, atol=1e-3)


@torch.inference_mode()
def test_an_odd_map_is_followed_by_zeros_before_it_is_merged_as_published():
    merge = fill(ResidualMergePatch(4, 6, num_tokens=1, padding="published"))
    tokens = -1 - torch.rand(1, 1 + 9, 4)                  # below 0, so that the maximum tells zeros from a repeated row
    even = torch.cat([tokens[:, :1], F.pad(tokens[:, 1:].unflatten(1, (3, 3)), (0, 0, 0, 1, 0, 1)).flatten(1, 2)], dim=1)
    found, grid = merge(tokens, (3, 3))
    assert grid == (2, 2) and torch.equal(found, merge(even, (4, 4))[0])
    merge.padding = "masked"
    assert not torch.allclose(merge(tokens, (3, 3))[0], found, atol=1e-3)


@torch.inference_mode()
def test_without_its_global_tokens_the_last_mlp_sees_the_image_alone():
    whole, cut = small(), small(drop_global_tokens=True)
    cut.load_state_dict(whole.state_dict())
    images, block = pictures(4, 2, 3, 64, 64), whole.stages[-1][-1]
    seen = []
    block.norm2.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    kept, grid = whole.run_stages(images)[-1]
    (tokens, same_grid), windows = cut.run_stages(images)[-1], sort_into_windows(grid, block.attn.window_size)
    image = seen[0][:, whole.num_tokens:]
    assert same_grid == grid and tokens.shape[1] == kept.shape[1] - whole.num_tokens == grid[0] * grid[1]
    torch.testing.assert_close(tokens, (image + block.mlp(block.norm2(image)))[:, windows.inverse])
    assert cut.num_prefix_tokens == 0 and torch.allclose(cut(images), cut.forward_head(cut.norm(tokens)), atol=1e-6)


def test_another_padding_is_named():
    with pytest.raises(LabError, match='padding=.*Did you mean "masked"'):
        LightViT(padding="mask")
