"""Adaptive sampling: as many tokens as quantiles hit, the same answer alone, in company, grouped and padded."""

import copy
import math

import pytest
import torch
from small_vits import INPUTS, lab

from lightvit_lab import profiling
from lightvit_lab.dynamic.token_pruning.adaptive_sampling import RaggedAttention, Sample, SamplingAttention, present_tokens, unpacked
from lightvit_lab.dynamic.token_pruning.choosing import kept_patches
from lightvit_lab.dynamic.early_exit.exits import add_exits, with_rule
from lightvit_lab.dynamic.early_exit.rules import Confidence
from lightvit_lab.dynamic.token_pruning.pruning import prune_tokens
from lightvit_lab.errors import LabError
from lightvit_lab.components import Attention


def test_quantiles_hit_the_tokens_worked_out_by_hand():
    scores = torch.tensor([[0.1, 0.6, 0.1, 0.2], [1.0, 1.0, 1.0, 1.0]])
    there = torch.ones(2, 4, dtype=torch.bool)
    assert Sample()(scores, there, 0.5).tolist() == [[1, 2], [0, 2]]              # at 1/4 and 3/4
    assert Sample()(scores, there, 1.0).tolist() == [[1, 3, -1, -1], [0, 1, 2, 3]]      # at 1/8, 3/8, 5/8, 7/8
    there[1, 2:] = False                                     # K follows from what is there
    assert Sample()(scores, there, 0.5).tolist() == [[1, 2], [0, -1]]


@torch.no_grad()
def test_a_tokens_score_is_the_class_attention_times_the_length_of_its_value_added_up_over_heads():
    """By hand, two heads of two channels: attention from one channel of the tokens, values from the three others."""
    attention = Attention(4, 2)
    attention.qkv.weight.zero_(), attention.qkv.bias.zero_()
    attention.qkv.bias[:4] = torch.tensor([2.0, 0, 0, 0]) / attention.scale             # queries: of head 1, channel 0
    attention.qkv.weight[4, 0] = 0.5                                                   # its keys: half of channel 0
    attention.qkv.weight[8, 1] = attention.qkv.weight[9, 2] = attention.qkv.weight[10, 3] = 1.0            # values
    tokens = torch.tensor([[0.0, 9, 9, 9], [math.log(3), 3, 4, 0], [0, 6, 8, 8], [0, 0, 0, 2]])[None]
    # Head 1 attends to 1/6, 3/6, 1/6, 1/6, the values' lengths are 5, 10, 0; head 2 attends to 1/4 each; 0, 8, 2.
    wanted, found = [0.5 * 5, 10 / 6 + 8 / 4, 2 / 4], []
    sampling = SamplingAttention(attention, 1)

    def choose(scores, present, keep_ratio):
        found.append(scores)
        return Sample()(scores, present, keep_ratio)

    places = sampling(tokens, torch.ones(1, 4, dtype=torch.bool), choose, 2 / 3)[1]
    assert torch.allclose(found[0], torch.tensor([wanted]), atol=1e-5)
    # Shares 0.375, 0.55, 0.075: the quantiles 1/4 and 3/4 fall on the first two. By attention alone, 9/12 5/12 5/12,
    # they would fall on the first and the third.
    assert places.tolist() == [[0, 1, 2]]


def test_packed_attention_keeps_pictures_apart():
    attention = RaggedAttention(lab().blocks[0].attn)
    pictures = [torch.randn(count, 48, generator=torch.Generator().manual_seed(count)) for count in (5, 3, 5, 1)]
    present = torch.arange(5) < torch.tensor([5, 3, 5, 1])[:, None]
    wanted = torch.cat([lab().blocks[0].attn(picture[None])[0] for picture in pictures])
    packed = torch.cat(pictures)
    assert torch.allclose(attention(packed, present), wanted, atol=1e-5)
    assert torch.allclose(attention(unpacked(packed, present), present)[present], wanted, atol=1e-5)


@torch.inference_mode()
def test_grouped_padded_and_each_picture_alone_give_the_same_logits():
    grouped, padded = (prune_tokens(lab(), 0.7, (0, 1), "ats", lengths=lengths) for lengths in ("grouped", "padded"))
    counts = (kept_patches(grouped, INPUTS)[0] >= 0).sum(1)
    assert len(counts.unique()) > 1 and counts.max() <= 12, counts          # else nothing is ragged here
    alone = torch.cat([grouped(picture[None]) for picture in INPUTS])
    assert torch.allclose(grouped(INPUTS), alone, atol=1e-4) and torch.allclose(padded(INPUTS), alone, atol=1e-4)


@torch.inference_mode()
def test_sampled_tokens_are_those_of_the_whole_block_and_the_rest_is_nothing():
    whole, pruned = lab(), prune_tokens(lab(), 0.7, (0,), "ats")
    tokens = whole.embed(INPUTS)
    found, places = pruned.blocks[0](tokens), kept_patches(pruned, INPUTS)[0]
    wanted = whole.blocks[0](tokens)
    for picture, kept in enumerate(places):
        kept = torch.cat([torch.tensor([0]), 1 + kept[kept >= 0]])
        assert torch.allclose(found[picture, : len(kept)], wanted[picture, kept], atol=1e-5)
        assert present_tokens(pruned, found)[picture].tolist() == [True] * len(kept) + [False] * (len(found[0]) - len(kept))
        assert not found[picture, len(kept) :].any()


@torch.inference_mode()
@pytest.mark.parametrize("lengths", ["grouped", "padded"])
def test_a_token_that_is_zero_is_a_token_like_any_other(lengths):
    whole, pruned = lab(), prune_tokens(lab(), 0.7, (0, 1), "ats", lengths=lengths)
    tokens = whole.embed(INPUTS)
    tokens[:, 3:6] = 0                                               # a dead spot of the stem, say
    found, chosen = tokens, []
    for block in pruned.blocks[:2]:
        block.choose.register_forward_hook(lambda _module, _given, places: chosen.append(places))
    for place in range(3):
        before, there = found, present_tokens(pruned, found)
        found = pruned.blocks[place](found)
        for picture, present in enumerate(there):
            wanted = whole.blocks[place](before[picture, present][None])[0]
            if place < 2:
                kept = chosen[place][picture]
                wanted = wanted[torch.cat([torch.tensor([0]), 1 + kept[kept >= 0]])]
            assert torch.allclose(found[picture, : len(wanted)], wanted, atol=1e-5), place
            found[picture, min(1, len(wanted) - 1)] = 0              # and one more behind each block


@torch.inference_mode()
@pytest.mark.parametrize("layers, exits", [((0, 1), [0]), ((0, 1), [1]), ((1,), [0, 1]), ((2,), [0])])
def test_pictures_that_leave_in_the_middle_take_their_masks_along(layers, exits):
    model = add_exits(prune_tokens(lab(), 0.7, layers, "ats"), exits)
    sure = model(INPUTS, every=True)[0].softmax(-1).amax(-1)
    leaving = with_rule(model, Confidence(sure.sort().values[1:3].mean().item()))
    alone = torch.cat([leaving(picture[None]) for picture in INPUTS])
    for _ in range(2):                                                # also with the masks of the pass before about
        assert torch.allclose(leaving(INPUTS), alone, atol=1e-4)
    assert len(leaving.leave(INPUTS).exits.unique()) > 1
    assert torch.allclose(leaving(INPUTS[:3]), alone[:3], atol=1e-4)


@torch.inference_mode()
def test_tokens_or_pictures_lost_between_blocks_are_refused_and_a_copy_starts_afresh():
    pruned = prune_tokens(lab(), 0.7, (0,), "ats")
    tokens = pruned.blocks[0](pruned.embed(INPUTS))
    for wrong in (tokens[:2], tokens[:, 1:]):
        with pytest.raises(LabError, match="block 1 was given .* the block before gave out .4, "):
            pruned.blocks[1](wrong)
    assert torch.equal(copy.deepcopy(pruned)(INPUTS[:2]), pruned(INPUTS[:2]))
    pruned(INPUTS)
    assert copy.deepcopy(pruned).blocks[1](tokens[:2]).shape == tokens[:2].shape          # no mask: all are there


def test_a_short_picture_costs_less_and_all_is_counted():
    counted = profiling.count(prune_tokens(lab(), 0.5, (0,), "ats"), (3, 16, 16))
    whole = profiling.count(lab(), (3, 16, 16))
    assert counted.uncounted == {} and 0 < counted.by_module["blocks.2"] < 0.6 * whole.by_module["blocks.2"]


@pytest.mark.parametrize("lengths", ["grouped", "padded"])
def test_training_reaches_every_block(lengths):
    model = prune_tokens(lab(), 0.7, (1,), "ats", lengths=lengths).train()
    model(INPUTS).square().sum().backward()
    assert all(block.attn.qkv.weight.grad.abs().sum() > 0 for block in model.blocks)
