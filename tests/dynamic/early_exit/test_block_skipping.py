"""Pictures that skip a block are not computed there, and the others are not changed by it."""

import pytest
import torch
from exit_models import BATCH, small

from lightvit_lab import data
from lightvit_lab.dynamic.early_exit.block_skipping import (
    SkipObjective, add_skipping, apply_skipping, train_skipping)
from lightvit_lab.dynamic.early_exit.exits import add_exits
from lightvit_lab.dynamic.early_exit.rules import Confidence
from lightvit_lab.errors import LabError


@torch.no_grad()
def choosy(kind="lab", gates=2):
    """Gates that let about half of the pictures in."""
    model = add_skipping(small(kind), [1, 3], 1e-3, gates)
    for place in (1, 3):
        score, said = model.blocks[place].gate.score, []
        torch.nn.init.normal_(score.weight, generator=torch.Generator().manual_seed(place))
        handle = score.register_forward_hook(lambda module, given, result: said.append(result.detach()))
        model(BATCH)
        handle.remove()
        score.bias.data -= said[0].sort(0).values[3:5].mean(0)
    return model


@torch.no_grad()
@pytest.mark.parametrize("kind", ["lab", "timm", "mean"])
def test_at_first_all_go_through_and_logits_stay_to_the_bit(kind):
    model = small(kind)
    assert torch.equal(add_skipping(model, [0, 2])(BATCH), model(BATCH))


@torch.no_grad()
@pytest.mark.parametrize("kind", ["lab", "timm"])
def test_gates_that_are_shut_leave_the_model_without_those_blocks(kind):
    model = small(kind)
    shut = add_skipping(model, [1, 3], start=-1.0)
    del model.blocks[3], model.blocks[1]
    assert torch.allclose(shut(BATCH), model(BATCH), atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("gates", [1, 2])
@pytest.mark.parametrize("kind", ["lab", "timm", "mean"])
def test_only_pictures_that_go_through_are_computed_each_as_if_alone(kind, gates):
    model, sizes = choosy(kind, gates), []
    alone = torch.cat([model(BATCH[place:place + 1]) for place in range(7)])
    for place in (1, 3):
        for part in (model.blocks[place].attn, model.blocks[place].mlp):
            part.register_forward_pre_hook(lambda module, given: sizes.append(len(given[0])))
    together = model(BATCH)
    assert torch.allclose(together, alone, atol=1e-5)
    assert sizes == [3, 3, 3, 3]


@torch.no_grad()
@pytest.mark.parametrize("kind, shut, other", [("lab", "attn", "mlp"), ("timm", "mlp", "attn"), ("mean", "attn", "mlp")])
def test_a_gate_shuts_attention_or_the_mlp_and_leaves_the_other(kind, shut, other):
    """AdaViT's two gates: a block without attention is what a block is whose attention adds nothing."""
    model, names = small(kind), ("attn", "mlp")
    gated = add_skipping(model, [1], start=1.0)
    gated.blocks[1].gate.score.bias[names.index(shut)] = -1.0
    last = {"attn": "proj", "mlp": "fc2"}[shut]
    for value in getattr(getattr(model.blocks[1], shut), last).parameters():
        value.zero_()
    assert torch.allclose(gated(BATCH), model(BATCH), atol=1e-5)


@torch.no_grad()
def test_a_plan_without_gates_which_old_files_hold_has_one_for_both_parts():
    model = apply_skipping(small(), {"layers": [1, 3], "start": 2.0}).eval()
    assert [tuple(model.blocks[place].gate.score.weight.shape) for place in (1, 3)] == [(1, 24)] * 2
    for place in (1, 3):
        model.blocks[place].gate.score.bias.fill_(-1.0)
    assert torch.allclose(model(BATCH), add_skipping(small(), [1, 3], -1.0)(BATCH), atol=1e-5)


@torch.no_grad()
def test_skipping_and_exits_work_in_one_model():
    model = add_exits(choosy(), [0, 1], Confidence(0.3))
    alone = [model.leave(BATCH[place:place + 1]) for place in range(7)]
    together = model.leave(BATCH)
    assert torch.equal(together.exits, torch.cat([one.exits for one in alone]))
    assert torch.allclose(together.logits, torch.cat([one.logits for one in alone]), atol=1e-5)


def test_in_train_mode_a_choice_is_all_or_nothing_and_gradients_reach_the_gate():
    model = add_skipping(small(), [0], start=0.5).train()
    gate, drawn = model.blocks[0].gate, []
    gate.register_forward_hook(lambda module, given, result: drawn.append(result.detach()))
    torch.manual_seed(0)
    for _ in range(30):
        model(BATCH)
    values = torch.cat(drawn)
    assert values.shape == (210, 2)
    assert torch.isclose(values, values.round(), atol=1e-6).all()
    assert values.mean().item() == pytest.approx(torch.tensor(0.5).sigmoid().item(), abs=0.12)     # 0.62 of 210 draws
    model(BATCH).square().sum().backward()
    assert gate.score.weight.grad.abs().sum() > 0


def test_training_brings_the_share_that_goes_through_to_what_is_wanted():
    model, shapes = add_skipping(small(), [1, 2], start=1.0), data.load("shapes", count=64)
    model.requires_grad_(False)
    for place in (1, 2):
        model.blocks[place].gate.requires_grad_(True)
    history = train_skipping(model, shapes, SkipObjective(share=0.0, weight=20), steps=12, batch_size=16, lr=0.5,
                             threads=1, precision="float32", attention="fused", progress=False)
    assert sum(history.terms["use"][-3:]) < sum(history.terms["use"][:3])


@pytest.mark.parametrize("call, says", [
    (lambda: add_skipping(small(), [4]), "0 to 3"), (lambda: add_skipping(small(), []), "each once"),
    (lambda: add_skipping(small(), [1, 1]), "each once"), (lambda: add_skipping(choosy(), [1]), "blocks.1 is SkipBlock"),
    (lambda: add_skipping(small(), [1], start=50), "start"),
    (lambda: add_skipping(small(), [1], gates=3), "gates=3"), (lambda: train_skipping(small(), None), "has no gates"),
    (lambda: SkipObjective(share=2), "share"), (lambda: add_skipping(add_exits(small(), [1]).model, [1]), "ExitBlock"),
], ids=range(9))
def test_gates_that_fit_nowhere_are_refused_with_what_mends_it(call, says):
    with pytest.raises(LabError, match=says):
        call()
