"""Exits: what an exit says is what the first blocks say; pictures that leave are gone; bad input is refused."""

import copy

import pytest
import torch
from exit_models import BATCH, EVERY, small

from lightvit_lab import models, profiling
from lightvit_lab.compression.low_rank import factors as low_rank
from lightvit_lab.compression.pruning import pruners as pruning
from lightvit_lab.dynamic.early_exit.exits import EarlyExitViT, add_exits, with_rule
from lightvit_lab.dynamic.early_exit.report import exit_macs
from lightvit_lab.dynamic.early_exit.rules import Confidence, Entropy, Patience, confidence, entropy, exits_taken
from lightvit_lab.dynamic.token_pruning.pruning import prune_tokens
from lightvit_lab.errors import LabError


class Keep:
    """A rule by hand: picture i leaves at exit `at[i]`."""

    def __init__(self, at):
        self.at = torch.tensor(at)

    def leaves(self, seen):
        here = self.at[self.at >= len(seen) - 1]
        return here == len(seen) - 1


@torch.no_grad()
@pytest.mark.parametrize("kind", EVERY)
def test_without_a_rule_logits_are_those_of_the_model_to_the_bit_and_the_model_is_left_untouched(kind):
    model = small(kind)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    exits = add_exits(model, [0, 2])
    assert torch.equal(exits(BATCH), model(BATCH))
    assert torch.allclose(exits(BATCH, every=True)[-1], model(BATCH), atol=1e-5)
    after = model.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    exits.exits[0].head.weight.zero_()
    assert after["head.weight"].abs().sum() > 0


@torch.no_grad()
@pytest.mark.parametrize("kind", ["lab", "timm"])
def test_an_untrained_exit_says_what_the_model_cut_off_there_would_say(kind):
    model = small(kind)
    for layer, logits in zip((0, 2), add_exits(model, [0, 2])(BATCH, every=True)):
        cut = copy.deepcopy(model)
        del cut.blocks[layer + 1:]
        assert torch.allclose(logits, cut(BATCH), atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("kind", EVERY)
def test_each_picture_gets_the_logits_of_its_own_exit_in_its_own_place(kind):
    exits, at = add_exits(small(kind), [0, 1, 2]), [3, 0, 2, 2, 0, 1, 3]
    every = torch.stack(exits(BATCH, every=True))
    exits.rule = Keep(at)
    logits, taken = exits.leave(BATCH)
    assert taken.tolist() == at
    assert torch.allclose(logits, every[at, range(7)], atol=1e-5)


@torch.no_grad()
def test_pictures_that_left_are_seen_by_no_later_block():
    exits, sizes = add_exits(small(), [0, 1]), []
    exits.rule = Keep([0, 2, 1, 0, 0, 2, 1])
    for block in exits.blocks:
        block.register_forward_pre_hook(lambda module, given: sizes.append(len(given[0])))
    exits(BATCH)
    assert sizes == [7, 4, 2, 2]
    sizes.clear()
    exits.rule = Keep([1] * 7)
    exits(BATCH)
    assert sizes == [7, 7]                # nobody is left for the rest


@torch.no_grad()
def test_a_batch_of_one_leaves_or_stays_alone():
    exits = add_exits(small(), [1], Confidence(0.0))
    assert exits.leave(BATCH[:1]).exits.tolist() == [0] and exits(BATCH[:1]).shape == (1, 10)
    assert with_rule(exits, Confidence(1.0)).leave(BATCH[:1]).exits.tolist() == [1]


def test_confidence_and_patience_on_logits_worked_by_hand():
    sure, unsure = torch.tensor([[4.0, 0, 0]]), torch.tensor([[0.0, 0.2, 0]])
    assert confidence(sure).item() == pytest.approx(0.9647, abs=1e-3)            # e^4 / (e^4 + 2) = 54.6 / 56.6
    assert Confidence(0.9).leaves([unsure, sure]).item() and not Confidence(0.9).leaves([sure, unsure]).item()
    assert Patience(1).leaves([unsure]).item() and not Patience(2).leaves([sure]).item()
    assert not Patience(2).leaves([sure, unsure]).item() and Patience(2).leaves([sure, unsure, unsure]).item()
    assert exits_taken(Patience(2), torch.stack([sure, unsure, unsure, sure])).tolist() == [2]
    assert exits_taken(Confidence(0.99), torch.stack([sure, unsure])).tolist() == [1]
    assert entropy(sure).item() == pytest.approx(0.1615, abs=2e-4)      # 0.0347 + 2 * 0.0713 of the largest, log 3 = 1.0986
    assert entropy(torch.zeros(1, 7)).item() == pytest.approx(1) and entropy(torch.tensor([[200.0, 0, 0]])).item() == 0
    assert Entropy(0.17).leaves([unsure, sure]).item() and not Entropy(0.15).leaves([sure]).item()
    assert exits_taken(None, torch.stack([sure, unsure])).tolist() == [1]


@torch.no_grad()
@pytest.mark.parametrize("kind", ["confidence", "entropy", "patience"])
def test_the_running_model_leaves_where_the_stored_logits_say(kind):
    exits = add_exits(small(), [0, 1, 2])
    every = torch.stack(exits(BATCH, every=True))
    middle = confidence(every[0]).sort().values[3:5].mean().item()
    low = entropy(every[0]).sort().values[3:5].mean().item()
    rule = {"confidence": Confidence(middle), "entropy": Entropy(low), "patience": Patience(2)}[kind]
    taken = with_rule(exits, rule).leave(BATCH).exits
    assert torch.equal(taken, exits_taken(rule, every))
    assert len(taken.unique()) > 1


@torch.no_grad()
def test_a_threshold_that_nothing_reaches_lets_all_pass_to_the_end():
    exits = add_exits(small(), [0, 1], Confidence(1.0))
    assert exits.leave(BATCH).exits.tolist() == [2] * 7
    assert torch.allclose(exits(BATCH), small()(BATCH), atol=1e-5)


@torch.no_grad()
def test_exits_follow_a_model_that_was_pruned_and_are_pruned_with_it():
    model = small()
    light = add_exits(pruning.prune_heads(pruning.prune_mlp(model, 0.5), 0.3), [1], Confidence(0.0))
    later = low_rank.factorize(pruning.prune_mlp(add_exits(model, [1, 2], Confidence(0.0)), 0.5), rank=2)
    assert light(BATCH).shape == later(BATCH).shape == (7, 10)
    assert [plan["transform"] for plan in later.recipe["plans"]] == ["early_exit", "prune", "factorize"]
    fewer = pruning.prune_blocks(add_exits(model, [0, 2]), {"model.blocks.0": 1})
    assert fewer.exit_layers == (1,) and len(fewer.blocks) == 3
    cut = copy.deepcopy(model)
    del cut.blocks[3], cut.blocks[0]
    assert torch.allclose(fewer(BATCH, every=True)[0], cut(BATCH), atol=1e-5)


@torch.no_grad()
def test_blocks_compiled_one_by_one_say_the_same():
    exits = add_exits(small(), [0, 1], Confidence(0.3))
    expected = exits.leave(BATCH)
    for block in exits.blocks:
        block.compile(backend="eager", dynamic=True)
    found = exits.leave(BATCH)
    assert torch.equal(found.exits, expected.exits) and torch.allclose(found.logits, expected.logits, atol=1e-5)


@torch.no_grad()
def test_bfloat16_leaves_the_batch_too():
    exits = add_exits(small(), [0, 1], Confidence(0.0)).bfloat16()
    assert exits(BATCH.bfloat16()).dtype == torch.bfloat16 and exits.leave(BATCH.bfloat16()).exits.tolist() == [0] * 7


def test_macs_are_counted_for_the_exit_that_is_taken():
    model = small()
    whole, exits = profiling.count(model, (3, 32, 32)).macs, add_exits(model, [1], Patience(1))
    head, blocks = 24 * 10, profiling.count(model, (3, 32, 32)).by_module
    assert profiling.count(with_rule(exits, None), (3, 32, 32)).macs == whole
    assert profiling.count(exits, (3, 32, 32)).macs == whole - blocks["blocks.2"] - blocks["blocks.3"]
    assert blocks["head"] == head
    early = whole - blocks["blocks.2"] - blocks["blocks.3"]
    assert exit_macs(exits, (3, 32, 32)) == (early, whole + head)     # who stays pays for the exit's head, too


REFUSED = [
    (lambda model: add_exits(model, [3]), "the last of the 4 blocks"), (lambda model: add_exits(model, [-1]), "0 to 2"),
    (lambda model: add_exits(model, []), "give 0-based blocks"), (lambda model: add_exits(model, [1, 1]), "each once"),
    (lambda model: add_exits(model, 1), "give 0-based blocks"), (lambda model: add_exits(model, [1.5]), "layers.0.=1.5; give a whole number"),
    (lambda model: add_exits(add_exits(model, [1]), [0]), "has exits behind blocks"),
    (lambda model: add_exits(models.create_model("lab_cnn"), [0]), "no plain ViT"),
    (lambda model: add_exits(model, [1], Patience(2)), "no picture leaves early"),
    (lambda model: add_exits(model, [1], 0.9), "give Confidence"),
    (lambda model: with_rule(model, None), "has no exits"),
    (lambda model: Confidence(1.1), "reached by no picture"), (lambda model: Confidence(-0.1), "0 <= threshold"),
    (lambda model: Entropy(1.5), "threshold=1.5"), (lambda model: add_exits(model, [1], head="conv"), "Give one of: linear, lgvit"),
    (lambda model: add_exits(small("mean"), [1], head="lgvit"), "adds to a class token"),
    (lambda model: add_exits(prune_tokens(model, 0.5, (0,)), [1], head="lgvit")(BATCH, every=True), "too few for the grid of 4 x 4"),
    (lambda model: Patience(0), "1 <= agree"), (lambda model: Patience(1.5), "whole number"),
]


@pytest.mark.parametrize("call, says", REFUSED, ids=[says for _, says in REFUSED])
def test_what_makes_no_exit_is_refused_with_what_mends_it(call, says):
    with pytest.raises(LabError, match=says):
        call(small())


def test_train_mode_returns_the_logits_of_the_end_so_that_any_objective_works():
    exits = add_exits(small(), [0], Confidence(0.0)).train()
    assert isinstance(exits, EarlyExitViT)
    every = exits(BATCH, every=True)
    exits(BATCH).sum().backward()
    assert exits.exits[0].head.weight.grad is None and len(every) == 2
