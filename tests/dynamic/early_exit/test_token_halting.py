"""Tokens that halted are gone, and nothing else changes by it."""

import math

import pytest
import torch
from exit_models import BATCH, small

from lightvit_lab import data, models
from lightvit_lab.dynamic.early_exit.block_skipping import add_skipping
from lightvit_lab.dynamic.early_exit.token_halting import (
    HaltingObjective, Pondered, add_halting, apply_halting, train_halting)
from lightvit_lab.errors import LabError
from lightvit_lab.training import Batch


def halting(kind="lab", scale=0.3, center=0.4):
    return add_halting(small(kind), scale, center)


def constant(score):
    """Tokens that all add `score` at each block, whatever they are."""
    return add_halting(small(), scale=0, center=-math.log(score / (1 - score)))


@torch.no_grad()
@pytest.mark.parametrize("kind", ["lab", "distilled", "timm"])
def test_dropping_tokens_says_what_masking_them_says(kind):
    model = halting(kind)
    logits, kept = model.halt(BATCH)
    masked = model.masked(BATCH).logits
    assert torch.allclose(logits, masked, atol=1e-5)
    assert kept[:, 0].eq(kept[0, 0]).all() and len(kept.sum(1).unique()) > 1 and (kept.diff(dim=1) <= 0).all()
    assert kept.float().mean() < kept[0, 0] - 0.3 and ((kept > 1) & (kept < kept[0, 0])).any()


@torch.no_grad()
@pytest.mark.parametrize("kind", ["lab", "distilled", "timm"])
def test_where_scores_are_next_to_nothing_the_model_says_what_it_said(kind):
    model = small(kind)
    halted = add_halting(model, scale=0.1, center=20)
    logits, kept = halted.halt(BATCH)
    assert torch.allclose(logits, model(BATCH), atol=1e-4) and kept.unique().numel() == 1


@torch.no_grad()
def test_what_a_picture_gets_does_not_depend_on_its_batch():
    model = halting()
    together = model(BATCH)
    assert all(torch.allclose(model(BATCH[place:place + 1])[0], together[place], atol=1e-5) for place in range(7))


@torch.no_grad()
def test_blocks_see_only_as_many_tokens_as_still_run():
    model, seen = halting(), [0] * 4
    for place, block in enumerate(model.blocks):
        def look(module, given, place=place):
            seen[place] += given[0].shape[0] * given[0].shape[1]
        block.register_forward_pre_hook(look)
    kept = model.halt(BATCH).kept
    assert seen == kept.sum(0).tolist() and seen[-1] < seen[0]


@torch.no_grad()
def test_where_all_halt_at_once_later_blocks_are_not_run_and_the_ponder_is_one_block():
    model = constant(0.995)
    assert model.halt(BATCH).kept.count_nonzero(dim=1).tolist() == [1] * 7
    found = model.masked(BATCH)
    assert found.ponder.item() == pytest.approx(2.0) and found.halting.tolist() == pytest.approx([0.995, 0, 0, 0])


@torch.no_grad()
def test_constant_scores_halt_at_the_block_that_sums_say():
    model = constant(0.4)                  # 0.4, 0.8, 1.2: the third block, where 0.2 is left
    found = model.masked(BATCH)
    assert found.ponder.item() == pytest.approx(3 + 0.2, abs=1e-4)
    assert found.halting.tolist() == pytest.approx([0.4, 0.4, 0.4, 0], abs=1e-4)       # raw, as A-ViT's prior sees it
    assert (model.halt(BATCH).kept > 0).sum(1).tolist() == [3] * 7


@torch.no_grad()
def test_tokens_halt_where_their_sum_reaches_one_less_a_hundredth():
    """1 - epsilon, with the epsilon 0.01 of Graves and of A-ViT: 0.93 and 0.985 go on, 0.995 halts."""
    for start, blocks in ((0.31, 4), (0.985 / 3, 4), (0.995 / 3, 3)):
        model = constant(start)
        assert (model.halt(BATCH).kept > 0).sum(1).tolist() == [blocks] * 7, start
        ran = [start] * blocks + [0.0] * (4 - blocks)
        assert model.masked(BATCH).halting.tolist() == pytest.approx(ran, abs=1e-5)


def test_scores_are_a_sigmoid_of_the_first_channel_and_add_no_weights():
    """A-ViT's: sigmoid(scale * token[0] - center)."""
    model, halted = small(), halting(scale=2.0, center=3.0)
    tokens = torch.randn(2, 5, 24, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(halted.halting(tokens), 1 / (1 + torch.exp(3.0 - 2.0 * tokens[:, :, 0])), atol=1e-6)
    assert sum(value.numel() for value in halted.parameters()) == sum(value.numel() for value in model.parameters())


def test_the_prior_is_the_divergence_of_a_normal_distribution_from_the_normalised_scores_over_the_blocks():
    """As NVlabs/A-ViT computes it: KL(prior || scores / sum), batchmean over blocks; worked out apart."""
    scores, logits = torch.tensor([0.1, 0.3, 0.05, 0.05]), torch.zeros(7, 10)
    said = lambda inputs, ponder: Pondered(logits, torch.tensor(3.0), scores)                          # noqa: E731
    _, _, terms = HaltingObjective(depth=2, ponder=0.5, prior=0.1)(said, Batch(BATCH, torch.arange(7), torch.arange(7)))
    prior = [math.exp(-(place - 2) ** 2 / 2) for place in (1, 2, 3, 4)]
    prior = [value / sum(prior) for value in prior]
    wanted = sum(p * math.log(p / (score / 0.5)) for p, score in zip(prior, (0.1, 0.3, 0.05, 0.05))) / 4
    assert terms["prior"].item() == pytest.approx(0.1 * wanted, rel=1e-5) and terms["ponder"].item() == 1.5
    assert terms["labels"].item() == pytest.approx(math.log(10), rel=1e-5)


def test_training_moves_halting_towards_the_depth_that_the_prior_names():
    model, shapes = add_halting(small(), 0.3, 2.0), data.load("shapes", count=64)
    with torch.no_grad():
        before = model.masked(BATCH).halting
    history = train_halting(model, shapes, HaltingObjective(depth=2, prior=10), steps=10, batch_size=16, lr=3e-2,
                            threads=1, precision="float32", attention="fused", progress=False)
    with torch.no_grad():
        after = model.masked(BATCH).halting
    places = torch.arange(1, 5)
    before, after = before / before.sum(), after / after.sum()
    assert (after * places).sum() < (before * places).sum() and history.terms["prior"][-1] < history.terms["prior"][0]


@pytest.mark.parametrize("call, says", [
    (lambda: add_halting(small("mean")), "no class token"), (lambda: add_halting(small(), scale=-1), "scale"),
    (lambda: add_halting(small(), center=2000), "center"),
    (lambda: apply_halting(small(), {"transform": "token_halting", "start": 0.02}), "make it anew: add_halting"),
    (lambda: add_halting(models.create_model("lab_cnn")), "no plain ViT"),
    (lambda: train_halting(small(), None), "do not halt"), (lambda: HaltingObjective(depth=0), "depth"),
    (lambda: add_halting(add_skipping(small(), [1])), "SkipBlock"),
], ids=range(8))
def test_what_cannot_halt_is_refused_with_what_mends_it(call, says):
    with pytest.raises(LabError, match=says):
        call()
