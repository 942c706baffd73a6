"""Token merging: the official numbers, the same logits however attention is computed, and merges worked by hand."""

import json
import warnings
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from drawn_weights import fill, pictures

from lightvit_lab import models, profiling
from lightvit_lab.compression.low_rank.factors import factorize
from lightvit_lab.compression.pruning.pruners import prune_blocks, prune_heads, prune_mlp
from lightvit_lab.dynamic.token_merging import bipartite_soft_matching, merging as token_merging
from lightvit_lab.dynamic.token_merging.merging import merge_tokens, source_map, spread_r
from lightvit_lab.errors import LabError
from lightvit_lab.explain import record_attention

REFERENCE = json.loads((Path(__file__).parent / "tome_reference.json").read_text())
INPUTS = pictures(1, 3, 3, 32, 32)
SMALL = {"img_size": 32, "patch_size": 4, "depth": 3, "embed_dim": 24}
KINDS = {
    "lab": ("lab_vit", {"dim": 24, "depth": 3, "num_heads": 3, "patch_size": 4}),
    "lab distilled": ("lab_vit", {"dim": 24, "depth": 3, "num_heads": 3, "patch_size": 4, "distilled": True}),
    "lab without class token": ("lab_cct", {"widths": (32, 32), "depth": 3}),
    "timm": ("deit_tiny_patch16_224", SMALL),
    "timm distilled": ("deit_tiny_distilled_patch16_224", SMALL),
    "timm, registers, layer scale, mean": ("vit_tiny_patch16_224", {
        **SMALL, "init_values": 0.5, "reg_tokens": 2, "qk_norm": True, "global_pool": "avg"}),
}


def small(kind="lab", **changes):
    name, arguments = KINDS[kind]
    return fill(models.create_model(name, **{**arguments, **changes}))


@torch.inference_mode()
def logits(model, inputs=INPUTS):
    return model(inputs)


def largest(one, two):
    return (one - two).abs().max().item()


def written_out(model):
    for module in model.modules():
        for name in ("fused", "fused_attn"):
            if isinstance(getattr(module, name, None), bool):
                setattr(module, name, False)
    return model


@pytest.fixture(scope="module")
def deit():
    return fill(models.create_model("deit_tiny_patch16_224"))


def test_a_deit_that_merges_has_the_official_tokens_flops_and_logits(deit):
    wanted = REFERENCE["deit_tiny_r8"]
    inputs = pictures(*wanted["input"])
    for proportional, name in ((True, "logits_first10"), (False, "noprop_logits_first10")):
        merged = merge_tokens(deit, 8, proportional)
        assert largest(logits(merged, inputs)[:, :10], torch.tensor(wanted[name])) < 1e-4
    assert merged.tokens_per_block == wanted["tokens_after_block"] and merged.r_per_block == [8] * 12
    counted = profiling.count(merged)
    assert counted.flops == wanted["flops"] and not counted.uncounted


@pytest.mark.parametrize("kind", KINDS)
def test_fused_attention_with_a_mask_is_the_softmax_written_out(kind):
    merged = merge_tokens(small(kind), 6)
    assert largest(logits(written_out(merged)), logits(merge_tokens(small(kind), 6))) < 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_model_merges_a_batch_as_it_merges_each_picture(kind):
    model = small(kind)
    before = logits(model)
    merged = merge_tokens(model, 6)
    together = logits(merged)
    assert largest(together, torch.cat([logits(merged, one) for one in INPUTS.split(1)])) < 1e-5
    assert largest(together, before) > 1e-4 and torch.equal(logits(model), before)
    assert [*merged.state_dict()] == [*model.state_dict()] and type(merged) is type(model)


@pytest.mark.parametrize("kind", KINDS)
def test_merging_nothing_changes_nothing(kind):
    model = small(kind)
    merged = merge_tokens(model, 0)
    assert torch.equal(logits(merged), logits(model))
    assert [type(block) for block in merged.blocks] == [type(block) for block in model.blocks]
    late = merge_tokens(model, [0, 0, 5], restore=False)
    states = {}
    for name, one in (("whole", model), ("late", late)):
        one.blocks[1].register_forward_hook(lambda _, __, out, name=name: states.update({name: out}))
        logits(one)
    assert largest(states["whole"], states["late"]) < 1e-5


def test_pictures_of_equal_patches_keep_their_logits_whatever_is_merged():
    # Where all patches are the same, a merged token with its size in attention is what its patches were.
    model = small("timm")
    model.pos_embed.data[:, 1:] = 0
    flat = torch.ones(2, 3, 32, 32) * torch.tensor([0.3, -0.7, 1.1])[:, None, None]
    merged = merge_tokens(model, [32, 16, 8])
    assert merged.tokens_per_block == [33, 17, 9] and largest(logits(merged, flat), logits(model, flat)) < 1e-5
    assert largest(logits(merge_tokens(model, [32, 16, 8], False), flat), logits(model, flat)) > 1e-4


@pytest.mark.parametrize("kind", ["lab without class token", "timm, registers, layer scale, mean"])
def test_means_over_tokens_weigh_merged_ones_by_their_patches(kind):
    model = small(kind)
    ends = {}
    for name, restore in (("few", False), ("all", None)):
        merged = merge_tokens(model, 6, restore=restore)
        merged.blocks[-1].register_forward_hook(lambda _, __, out, name=name: ends.update({name: out}))
        logits(merged)
    index = source_map(merged)[..., None].expand(-1, -1, ends["few"].shape[-1])
    assert torch.equal(ends["all"], ends["few"].gather(1, index)) and ends["all"].shape[1] > ends["few"].shape[1]


def test_restored_tokens_stand_where_their_patches_stood():
    merged = merge_tokens(small(), 8, restore=True)
    with torch.inference_mode():
        tokens = merged.forward_features(INPUTS)
    assert tokens.shape == (3, 65, 24)
    distinct = [len(one.unique(dim=0)) for one in tokens]
    assert distinct == [65 - 3 * 8] * 3


def test_in_bfloat16_pictures_keep_their_class():
    model = small("timm")
    merged = merge_tokens(model, 8)
    half = logits(merge_tokens(model, 8).bfloat16(), INPUTS.bfloat16())
    assert half.dtype == torch.bfloat16 and torch.isfinite(half).all()
    assert torch.corrcoef(torch.stack([half.float().flatten(), logits(merged).flatten()]))[0, 1] > 0.9


def test_attention_that_is_recorded_counts_a_merged_token_as_often_as_its_patches():
    merged = merge_tokens(small(), [8, 4, 0])
    with record_attention(merged) as maps:
        logits(merged)
    assert [one.shape[-1] for one in maps] == [65, 57, 53]
    assert all(torch.allclose(one.sum(-1), torch.ones(1)) for one in maps)
    plain = merge_tokens(small(), [8, 4, 0], proportional_attention=False)
    with record_attention(plain) as others:
        logits(plain)
    size = F.one_hot(bipartite_soft_matching(keys(small()), 8).places()).sum(1).float()
    scaled = others[1] * size[:, None, None]
    assert torch.allclose(maps[1], scaled / scaled.sum(-1, keepdim=True), atol=1e-5)


@torch.inference_mode()
def keys(model):
    """The mean over heads of the first block's keys, by the lab's own attention."""
    return model.blocks[0].attn.split_heads(model.blocks[0].norm1(model.embed(INPUTS)))[1].mean(1)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_every_weight_learns_through_merges(checkpointing):
    for mode in ("weighted", "mlerp", "max"):
        merged = merge_tokens(small("timm"), 6, mode=mode).train()
        merged.set_grad_checkpointing(checkpointing)
        merged(INPUTS).square().mean().backward()
        assert all(value.grad is not None and value.grad.isfinite().all() and value.grad.any()
                   for value in merged.parameters())


def test_gradients_through_checkpoints_are_those_without():
    found = []
    for checkpointing in (False, True):
        merged = merge_tokens(small("timm"), 6).train()
        merged.set_grad_checkpointing(checkpointing)
        merged(INPUTS).square().mean().backward()
        found.append(torch.cat([value.grad.flatten() for value in merged.parameters()]))
    assert torch.equal(*found)


def test_training_wins_back_what_merging_costs():
    torch.manual_seed(0)
    model, inputs = small(), pictures(5, 16, 3, 32, 32)
    wanted = logits(model, inputs).clone()
    merged = merge_tokens(model, 16).train()
    step = torch.optim.Adam(merged.parameters(), 1e-3)
    losses = []
    for _ in range(20):
        loss = F.mse_loss(merged(inputs), wanted)
        losses.append(loss.item())
        step.zero_grad()
        loss.backward()
        step.step()
    assert losses[-1] < 0.5 * losses[0]


def test_blocks_compiled_one_by_one_give_the_same_logits():
    merged, eager = (merge_tokens(small(depth=2), [8, 4]) for _ in range(2))
    torch._dynamo.reset()
    compiled = []

    def backend(graph, example_inputs):
        compiled.append(len(graph.graph.nodes))
        return graph.forward

    for block in merged.blocks:
        block.compile(backend=backend, dynamic=True)
    assert largest(logits(merged), logits(eager)) < 1e-5 and sum(compiled) > 50
    assert [*merged.state_dict()] == [*eager.state_dict()]


@pytest.mark.parametrize("kind", ["lab", "timm"])
def test_compression_composes_before_and_after(kind):
    model = small(kind, dim=32, num_heads=4) if kind == "lab" else small(kind, embed_dim=36)
    first = merge_tokens(factorize(prune_heads(prune_mlp(model, 0.5), 0.25), rank=8), 6)
    after = factorize(prune_mlp(merge_tokens(prune_heads(model, 0.25), 6), 0.5), rank=8)
    assert largest(logits(first), logits(after)) < 1e-5 and torch.isfinite(logits(first)).all()
    assert [one["transform"] for one in after.recipe["plans"]] == ["prune", "merge_tokens", "prune", "factorize"]
    with pytest.raises(LabError, match="prune before attention is replaced"):
        prune_heads(after, 0.25)


@pytest.mark.parametrize("gone", [0, 1])
def test_a_block_taken_out_later_takes_its_merges_along(gone):
    name = f"blocks.{gone}"
    after = prune_blocks(merge_tokens(small("timm"), 6), {name: 1})
    assert largest(logits(after), logits(merge_tokens(prune_blocks(small("timm"), {name: 1}), 6))) < 1e-5
    assert source_map(after).max() == 65 - 2 * 6 - 1


def test_schedules_spread_r_as_published():
    assert spread_r(8, 12) == [8] * 12
    assert spread_r(8, 12, "decreasing") == [16, 14, 13, 11, 10, 8, 7, 5, 4, 2, 1, 0]
    assert spread_r(5, 1, "decreasing") == [5] and spread_r([3, 0], 2) == [3, 0]
    assert merge_tokens(small(), 8, schedule="decreasing").tokens_per_block == [49, 41, 41]


def test_deeper_blocks_clamp_r_to_half_and_say_so():
    merged = merge_tokens(small(), 30)
    assert merged.r_per_block == [30, 17, 8] and merged.tokens_per_block == [35, 18, 10]
    logits(merged)
    assert source_map(merged).max() == 9
    assert merge_tokens(small(), [0, 32, 30]).r_per_block == [0, 32, 16]


def test_tofu_drops_in_the_first_half_and_merges_in_the_second():
    model = small("timm", depth=4)
    merged = merge_tokens(model, 6, mode="tofu")
    assert merged.recipe["plans"][-1]["mode"] == ["prune", "prune", "mlerp", "mlerp"]
    by_hand = merge_tokens(model, 6, mode=["prune", "prune", "mlerp", "mlerp"])
    assert torch.equal(logits(merged), logits(by_hand))
    assert largest(logits(merged), logits(merge_tokens(model, 6))) > 1e-4


def test_clusters_merge_a_model_too():
    merged = merge_tokens(small(), 16, matching="clusters")
    assert torch.isfinite(logits(merged)).all() and merged.tokens_per_block == [49, 33, 17]
    assert source_map(merged).shape == (3, 65) and (source_map(merged)[:, 0] == 0).all()


class Times:
    """What a measurement says, with a ratio given by hand."""

    def __init__(self, ratio):
        self.found = ratio

    def ratio(self, numerator, denominator):
        assert (numerator, denominator) == ("merged", "whole")
        return self.found


def test_merging_that_does_not_pay_is_said_and_left_out(monkeypatch):
    for ratio, pays in ((profiling.Ratio(0.8, 0.7, 0.9), True), (profiling.Ratio(0.98, 0.9, 1.1), False),
                        (profiling.Ratio(None, 0.5, 2.0), False)):
        monkeypatch.setattr(token_merging, "measure", lambda *_, ratio=ratio, **__: Times(ratio))
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            merged = merge_tokens(small(), 8, faster_on=INPUTS)
        assert merged.r_per_block == ([8, 8, 8] if pays else [0, 0, 0]) and bool(said) != pays
        assert pays or "does not pay for inputs of (3, 3, 32, 32)" in str(said[0].message)
        assert pays or said[0].filename == __file__


def test_both_models_are_timed_where_the_faster_one_is_wanted(monkeypatch):
    timed = []
    monkeypatch.setattr(token_merging, "measure", lambda *given, **settings: timed.append(profiling.measure(*given, **settings)) or timed[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        merge_tokens(small(), 8, faster_on=INPUTS[:1], budget_s=0.05)
    ratio = timed[0].ratio("merged", "whole")
    assert 0 < ratio.low <= ratio.high


BAD = [
    (lambda m: merge_tokens(m, 120), r"r=120 is more than half of the 65 tokens entering block 0; give 0 <= r <= 32"),
    (lambda m: merge_tokens(m, [0, 33, 0]), r"r=33 is more than half of the 65 tokens entering block 1"),
    (lambda m: merge_tokens(m, 20, schedule="decreasing"), r"r=40 is more than half of the 65 tokens entering block 0"),
    (lambda m: merge_tokens(m, -1), r"r=-1; give a number with 0 <= r"),
    (lambda m: merge_tokens(m, [4, -4, 4]), r"r\[1\]=-4; give a number with 0 <= r\[1\]"),
    (lambda m: merge_tokens(m, 2.5), r"r=2.5; give a whole number"),
    (lambda m: merge_tokens(m, True), r"r=True; give a whole number"),
    (lambda m: merge_tokens(m, "8"), r"r='8'; give a whole number"),
    (lambda m: merge_tokens(m, [8, 8]), r"r has 2 entries for 3 layers"),
    (lambda m: merge_tokens(m, [8, 8, 8], schedule="decreasing"), r"schedule='decreasing' and an r for each block"),
    (lambda m: merge_tokens(m, 8, schedule="rising"), r"schedule='rising' is unknown"),
    (lambda m: merge_tokens(m, 8, mode="median"), r"mode='median' is unknown"),
    (lambda m: merge_tokens(m, 8, mode=["tofu"] * 3), r"mode='tofu' is unknown"),
    (lambda m: merge_tokens(m, 8, mode=[["mean"]] * 3), r"mode=\['mean'\] is unknown"),
    (lambda m: merge_tokens(m, 8, mode=["mean"]), r"mode has 1 entries for 3 layers"),
    (lambda m: merge_tokens(m, 8, matching="random"), r"matching='random' is unknown"),
    (lambda m: merge_tokens(merge_tokens(m, 8), 8), r"blocks.0 is MergingBlock, no plain block"),
    (lambda m: merge_tokens(models.create_model("lab_lightvit"), 8), r"LightViT has no `blocks` in one row"),
    (lambda m: merge_tokens(models.create_model("lab_cnn"), 8), r"merge_tokens: ResidualNetwork"),
    (lambda m: token_merging.apply_merging(m, {"r": [1, 1, 1]}), r"mode=None is unknown"),
    (lambda m: token_merging.apply_merging(m, {"r": [1, 1, 1], "mode": 5}), r"mode=5 is unknown"),
    (lambda m: source_map(m), r"no tokens were merged"),
    (lambda m: source_map(merge_tokens(m, 8)), r"no tokens were merged"),
]


@pytest.mark.parametrize("call, message", BAD)
def test_bad_input_is_refused_with_what_is_allowed(call, message):
    with pytest.raises(LabError, match=message):
        call(small())


def test_tokens_or_pictures_that_leave_between_blocks_are_refused():
    merged = merge_tokens(small(), 8)
    tokens = merged.blocks[0](merged.embed(INPUTS))
    with pytest.raises(LabError, match="given 50 tokens, and no block before it gave out as many"):
        merged.blocks[1](tokens[:, :50])
    with pytest.raises(LabError, match="given 2 pictures, the block before gave out 3"):
        merged.blocks[1](tokens[:2])
    with pytest.raises(LabError, match="masks are for pairs of tokens"):
        merged.blocks[1](tokens, attn_mask=torch.zeros(57, 57))
