"""Exits learn what they are to learn, and nothing else moves."""

import pytest
import torch
import torch.nn.functional as F
from exit_models import BATCH, small

from lightvit_lab import data
from lightvit_lab.dynamic.early_exit.exits import ExitObjective, add_exits, train_exits
from lightvit_lab.errors import LabError
from lightvit_lab.training import Batch

QUIET = {"steps": 4, "batch_size": 16, "lr": 1e-2, "threads": 1, "precision": "float32", "attention": "fused",
         "progress": False}
LABELS = torch.tensor([0, 1, 2, 3, 4, 5, 6])


@pytest.fixture(scope="module")
def shapes():
    return data.load("shapes", count=64)


class Fixed(torch.nn.Module):
    def __init__(self, *logits):
        super().__init__()
        self.logits = torch.nn.ParameterList(logits)

    def forward(self, inputs, every=False):
        return tuple(self.logits)


def test_the_loss_is_the_mean_of_labels_losses_and_the_divergence_from_the_end_worked_out_apart():
    early, end = torch.randn(7, 10, generator=torch.Generator().manual_seed(0)), torch.eye(7, 10) * 3
    model = Fixed(early.clone(), end.clone())
    loss, logits, terms = ExitObjective(teach=0.5, temperature=2.0)(model, Batch(BATCH, LABELS, LABELS))
    labels = (F.cross_entropy(early, LABELS) + F.cross_entropy(end, LABELS)) / 2
    said, taught = (early / 2).softmax(1), (end / 2).softmax(1)
    divergence = (taught * (taught.log() - said.log())).sum(1).mean()
    assert terms["labels"].item() == pytest.approx(labels.item(), rel=1e-5)
    assert loss.item() == pytest.approx((labels + 0.5 * 4 * divergence).item(), rel=1e-5) and torch.equal(logits, end)
    terms["end teaches"].backward()
    assert model.logits[0].grad.abs().sum() > 0 and model.logits[1].grad is None     # nothing draws the end


def test_training_the_exits_alone_leaves_what_the_model_says_to_the_bit(shapes):
    model = add_exits(small(), [0, 2])
    with torch.no_grad():
        before, exit_before = model(BATCH), model(BATCH, every=True)[0]
    history = train_exits(model, shapes, whole=False, **QUIET)
    with torch.no_grad():
        assert torch.equal(model(BATCH), before) and not torch.equal(model(BATCH, every=True)[0], exit_before)
    assert len(history.loss) == 4 and set(history.terms) == {"labels", "end teaches"}
    assert all(value.requires_grad for value in model.parameters())


def test_training_the_whole_changes_the_blocks_and_makes_the_loss_smaller(shapes):
    model = add_exits(small(), [1])
    before = model.blocks[0].mlp.fc1.weight.clone()
    history = train_exits(model, shapes, **{**QUIET, "steps": 12})
    assert not torch.equal(model.blocks[0].mlp.fc1.weight, before)
    assert sum(history.loss[-3:]) < sum(history.loss[:3]) and not model.training


@pytest.mark.parametrize("call", [
    lambda shapes: train_exits(small(), shapes, **QUIET),
    lambda shapes: train_exits(add_exits(small(), [0]), shapes, label_smoothing=0.1, **QUIET),
    lambda shapes: ExitObjective(temperature=0), lambda shapes: ExitObjective(teach=-1)])
def test_training_refuses_what_makes_no_run(shapes, call):
    with pytest.raises(LabError):
        call(shapes)
