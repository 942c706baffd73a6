"""EViT and top-k: the official numbers, tokens that are really gone, and refusals that say what would do."""

import copy
import json

import pytest
import torch
from drawn_weights import fill, pictures
from small_vits import INPUTS, deit, lab, reference

from lightvit_lab import checkpoint, models, profiling
from lightvit_lab.compression.low_rank.factors import factorize
from lightvit_lab.compression.pruning.pruners import prune_heads, prune_mlp
from lightvit_lab.dynamic.token_pruning.choosing import kept_count, kept_patches
from lightvit_lab.dynamic.token_pruning.pruning import PruningBlock, apply_token_pruning, prune_tokens, select_tokens
from lightvit_lab.errors import LabError
from lightvit_lab.explain import record_attention
from lightvit_lab.models.vision_transformer import Block

METHODS = ("evit", "topk", "dynamicvit", "ats")


def token_counts(model, inputs):
    """Tokens after each block."""
    counts = []
    handles = [block.register_forward_hook(lambda _m, _i, tokens: counts.append(tokens.shape[1]))
               for block in model.blocks]
    model(inputs)
    for handle in handles:
        handle.remove()
    return counts


@pytest.mark.parametrize("case", ["deit_tiny_keep0.7_fuse", "deit_tiny_keep0.5_nofuse"])
@torch.inference_mode()
def test_deit_tiny_says_what_the_official_evit_says(case):
    wanted = reference("evit")[case]
    inputs = pictures(wanted["input"]["seed"], *wanted["input"]["shape"])
    model = prune_tokens(fill(models.create_model("deit_tiny_patch16_224")), wanted["keep_ratio"], wanted["layers"],
                         fuse=wanted["fuse"])
    assert torch.allclose(model(inputs)[:, :10], torch.tensor(wanted["logits_first10"]), atol=1e-4)
    assert [count - 1 for count in token_counts(model, inputs[:1])] == wanted["patch_tokens_after_block"]
    assert kept_patches(model, inputs)[0][:, :5].tolist() == wanted["kept_first5"]


@pytest.mark.parametrize("case", ["block_keep0.7_fuse", "block_keep0.5_nofuse"])
@pytest.mark.parametrize("fused", [True, False])
@torch.inference_mode()
def test_a_block_keeps_the_official_tokens_in_the_official_order(case, fused):
    wanted = reference("evit")[case]
    tokens = pictures(wanted["input"]["seed"], *wanted["input"]["shape"])
    block = PruningBlock(fill(Block(48, 3, fused=fused)), 1, wanted["keep_ratio"], wanted["fuse"])
    chosen = []
    block.choose.register_forward_hook(lambda _m, _i, places: chosen.append(places.tolist()))
    assert torch.allclose(block(tokens)[..., :3], torch.tensor(wanted["output_first3"]), atol=1e-4)
    assert chosen == [wanted["kept"]]


def test_selection_is_as_worked_out_by_hand():
    tokens, scores = torch.tensor([[[9.0], [1.0], [2.0], [4.0], [8.0]]]), torch.tensor([[0.1, 0.5, 0.2, 0.4]])
    kept = torch.tensor([[1, 3]])
    assert select_tokens(tokens, scores, kept).flatten().tolist() == [9, 2, 8]
    fused = select_tokens(tokens, scores, kept, fuse=True).flatten().tolist()
    assert fused == pytest.approx([9, 2, 8, 0.1 * 1 + 0.2 * 4])
    assert select_tokens(tokens, scores[:, 1:], kept - 1, prefix=2).flatten().tolist() == [9, 1, 2, 8]


def test_counts_are_rounded_up_but_not_by_the_noise_of_floats():
    assert [kept_count(0.7, 196), kept_count(0.55, 100), kept_count(1.0, 7), kept_count(0.001, 7)] == [138, 55, 7, 1]


@pytest.mark.parametrize("make", [lab, lambda: lab(distilled=True), deit, lambda: deit(init_values=0.5, qk_norm=True),
                                  lambda: deit("deit_tiny_distilled_patch16_224")])
@pytest.mark.parametrize("method", METHODS)
@torch.inference_mode()
def test_all_tokens_kept_is_the_old_model_and_half_is_another(make, method):
    model = make()
    if method != "ats":     # which draws among all, so that even a share of 1 drops some
        kept = prune_tokens(model, 1.0, (1, 2), method)
        assert torch.allclose(kept(INPUTS), model(INPUTS), atol=1e-5)
    half = prune_tokens(model, 0.5, (1, 2), method, fuse=False)
    assert (half(INPUTS) - model(INPUTS)).abs().max() > 1e-3
    prefix, counts = model.num_prefix_tokens, token_counts(half, INPUTS)
    limits = [16 + prefix, 8 + prefix, 4 + prefix]
    assert counts == limits if method != "ats" else all(count <= most for count, most in zip(counts, limits))
    assert torch.allclose(half(INPUTS[:1]), half(INPUTS)[:1], atol=1e-5)          # a batch of one


def test_topk_is_evit_without_the_fused_token():
    model = deit()
    best, plain, fused = (prune_tokens(model, 0.5, (1,), **how)(INPUTS)
                          for how in ({"method": "topk"}, {"fuse": False}, {"fuse": True}))
    assert torch.equal(best, plain) and not torch.equal(best, fused)


def test_shares_may_differ_by_layer_and_the_fused_token_counts_as_one():
    assert token_counts(prune_tokens(lab(), [0.5, 0.25], (0, 2)), INPUTS) == [1 + 8 + 1, 1 + 8 + 1, 1 + 3 + 1]


def test_what_is_left_is_named_by_the_patches_of_the_picture():
    model = prune_tokens(lab(), 0.5, (0, 1)).train()
    first, second = kept_patches(model, INPUTS)
    assert model.training and first.shape == (4, 8) and second.shape == (4, 5)      # of 8 and the fused token
    for early, late in zip(first.tolist(), second.tolist()):
        assert len(set(early)) == 8 and set(late) <= {*early, -1} and len(set(late)) == 5
    with pytest.raises(LabError, match="drops no tokens"):
        kept_patches(lab(), INPUTS)


def test_dropped_patches_no_longer_touch_the_answer():
    """Features of a dropped patch may be anything after its block; here what enters the next block is compared."""
    model = prune_tokens(lab(), 0.5, (0,), fuse=False)
    tokens = model.embed(INPUTS)
    rows = lab().blocks[0](tokens)                                                # the same block, all tokens kept
    kept = kept_patches(model, INPUTS)[0]
    wanted = torch.cat([rows[:, :1], rows[:, 1:].gather(1, kept[..., None].expand(-1, -1, 48))], dim=1)
    assert torch.allclose(model.blocks[0](tokens), wanted, atol=1e-5)


def test_macs_are_those_worked_out_by_hand():
    dim, before, after = 48, 17, 10                     # a class token, 8 of 16 patches, the fused token
    attention = before * 4 * dim * dim + 2 * before * before * dim
    row, fusing = before * dim, 16 * dim
    mlp = 2 * after * 4 * dim * dim
    counted = profiling.count(prune_tokens(lab(), 0.5, (1,)), (3, 16, 16))
    assert counted.by_module["blocks.1"] == attention + row + fusing + mlp and counted.uncounted == {}
    assert counted.by_module["blocks.2"] == after * 12 * dim * dim + 2 * after * after * dim


@pytest.mark.parametrize("method", METHODS)
def test_the_old_model_is_untouched_and_the_new_one_follows_from_its_plan(method, tmp_path):
    model = lab()
    before = copy.deepcopy(model.state_dict())
    pruned = prune_tokens(model, 0.5, (1, 2), method)
    with torch.no_grad():
        for value in pruned.parameters():
            value.add_(1)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [type(block) for block in model.blocks] == [Block] * 3
    kept_keys = [name for name in pruned.state_dict() if ".predictor." not in name]
    assert kept_keys == list(before)
    plan = json.loads(json.dumps(pruned.recipe["plans"]))[0]
    built = apply_token_pruning(lab().to("meta"), plan)
    assert {k: v.shape for k, v in built.state_dict().items()} == {k: v.shape for k, v in pruned.state_dict().items()}
    checkpoint.save(pruned, tmp_path / "pruned.safetensors")
    assert torch.equal(checkpoint.load(tmp_path / "pruned.safetensors")(INPUTS), pruned(INPUTS))


@pytest.mark.parametrize("method", METHODS)
@torch.inference_mode()
def test_bfloat16_stays_bfloat16_and_near(method):
    pruned = prune_tokens(lab(), 0.75, (1,), method)
    half = copy.deepcopy(pruned).bfloat16()(INPUTS.bfloat16())
    assert half.dtype == torch.bfloat16 and half.isfinite().all()
    if method in ("evit", "topk"):     # rounding makes others choose other tokens, where scores are as close as here
        assert (half.float() - pruned(INPUTS)).abs().max() < 0.1 * pruned(INPUTS).abs().max()


@pytest.mark.parametrize("method", METHODS)
def test_it_composes_with_compression_and_gradients_flow(method):
    small = factorize(prune_heads(prune_mlp(lab(), 0.5), 0.25), 8)
    pruned = prune_tokens(small, 0.5, (1,), method)
    assert torch.isfinite(factorize(prune_mlp(prune_tokens(lab(), 0.5, (1,), method), 0.5), 8)(INPUTS)).all()
    pruned(INPUTS).square().sum().backward()
    assert pruned.patch_embed.proj[0].weight.grad.abs().sum() > 0


@pytest.mark.parametrize("method", ["evit", "dynamicvit"])
def test_blocks_compile_whole_one_by_one(method):
    """With the backend that only traces: a graph that breaks raises."""
    pruned = prune_tokens(lab(), 0.5, (1, 2), method)
    wanted = pruned(INPUTS).detach()
    torch._dynamo.reset()
    for place, block in enumerate(pruned.blocks):
        pruned.blocks[place] = torch.compile(block, backend="eager", fullgraph=True)
    with torch.no_grad():
        assert torch.allclose(pruned(INPUTS), wanted, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
@torch.no_grad()
def test_attention_can_be_read_and_rows_sum_to_one(method):
    pruned = prune_tokens(lab(), 0.5, (0, 2), method)
    with record_attention(pruned) as maps:
        pruned(INPUTS)
    assert len(maps) >= 2 and all(torch.allclose(one.sum(-1), torch.ones(())) for one in maps)


@pytest.mark.parametrize("given, words", [
    ({"keep_ratio": 0}, "0 < keep_ratio <= 1"), ({"keep_ratio": 1.1}, "keep_ratio=1.1"),
    ({"keep_ratio": True}, "0 < keep_ratio <= 1"), ({"keep_ratio": "0.5"}, "keep_ratio='0.5'; give .* 0 < keep_ratio <= 1"),
    ({"keep_ratio": float("nan")}, "0 < keep_ratio <= 1"), ({"keep_ratio": [0.5, 0.5]}, "keep_ratio has 2 entries for 1 layers"),
    ({"layers": (3,)}, "blocks 0 to 2"), ({"layers": (-1,)}, "blocks 0 to 2"), ({"layers": ()}, "blocks 0 to 2"),
    ({"layers": (1, 1)}, "rising, each once"), ({"layers": 1}, "layers=1"), ({"layers": (1.5,)}, "whole number"),
    ({"method": "evitt"}, 'Did you mean "evit"'), ({"fuse": "yes"}, "fuse='yes'"), ({"lengths": "pad"}, "padded"),
])
def test_bad_arguments_are_refused_with_what_is_allowed(given, words):
    with pytest.raises(LabError, match=words):
        prune_tokens(lab(), **{"keep_ratio": 0.5, "layers": (1,), **given})


@pytest.mark.parametrize("method", ["evit", "topk", "ats"])
def test_a_missing_class_token_is_refused_where_it_is_needed(method):
    model = deit(class_token=False, global_pool="avg")
    with pytest.raises(LabError, match='this model has none; give one that has, or method="dynamicvit"'):
        prune_tokens(model, 0.5, (1,), method)
    assert prune_tokens(model, 0.5, (1,), "dynamicvit")(INPUTS).shape == (4, 1000)


def test_models_that_do_not_fit_are_refused():
    with pytest.raises(LabError, match="head reads their mean"):
        prune_tokens(deit(global_pool="avg", class_token=True), 0.5, (1,), "ats")
    with pytest.raises(LabError, match="before its blocks were replaced"):
        prune_tokens(prune_tokens(lab(), 0.5, (1,)), 0.5, (2,))
    with pytest.raises(LabError, match="prune_tokens"):
        prune_tokens(models.create_model("lab_lightvit"), 0.5, (1,))
    with pytest.raises(LabError):
        prune_tokens(models.create_model("lab_cnn"), 0.5, (1,))
