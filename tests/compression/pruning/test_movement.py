"""Movement pruning: the schedule, the scores' gradients, and what is left after training."""

import pytest
import torch
from drawn_weights import fill
from torch import nn

from lightvit_lab import data, models
from lightvit_lab.compression.pruning.movement import Moving, movement_prune, scheduled
from lightvit_lab.compression.pruning.unstructured import prune_weights, sparsity
from lightvit_lab.errors import LabError

SETTINGS = {"batch_size": 8, "threads": 1, "progress": False, "precision": "float32", "attention": "fused"}


def small() -> nn.Module:
    return fill(models.create_model("lab_vit", image_size=16, depth=1, dim=32))


def shapes() -> data.Pictures:
    return data.load("shapes", image_size=16, count=32)


def test_the_share_of_zeros_grows_along_a_cubic_between_two_rests():
    assert [scheduled(0.8, done) for done in (0.0, 0.1, 0.7, 1.0)] == pytest.approx([0.0, 0.0, 0.8, 0.8])
    assert scheduled(0.8, 0.4) == pytest.approx(0.8 * (1 - 0.5**3))


def test_scores_move_with_the_product_of_weight_and_gradient_also_where_the_weight_is_masked():
    weight = torch.tensor([[1.0, -2.0], [3.0, 0.5]], requires_grad=True)
    moving = Moving(weight)
    moving.scores.data = torch.tensor([0.0, 1.0, 2.0, 3.0])
    moving.mask[0] = 0.0
    given = torch.tensor([[10.0, 20.0], [30.0, 40.0]])
    (moving(weight) * given).sum().backward()
    assert torch.equal(moving.scores.grad, (given * weight.detach()).flatten())
    assert torch.equal(weight.grad, given * torch.tensor([[0.0, 1.0], [1.0, 1.0]]))


def test_the_weights_with_the_lowest_scores_are_masked():
    moving = Moving(torch.ones(2, 2))
    moving.scores.data = torch.tensor([0.3, -1.0, 2.0, 0.1])
    for _ in range(10):
        moving.step(0.5, 10)
    assert moving.mask.tolist() == [1, 0, 1, 0]


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_the_result_is_a_plain_model_with_the_zeros_asked_for(optimizer):
    model = small()
    sparse = movement_prune(model, shapes(), 0.75, 10, optimizer=optimizer, **SETTINGS)
    assert set(sparsity(sparse).values()) == {0.75} and set(sparsity(model).values()) == {0.0}
    assert list(sparse.state_dict()) == list(model.state_dict())
    assert [type(module) for module in sparse.modules()] == [type(module) for module in model.modules()]
    smallest = prune_weights(model, 0.75).blocks[0].mlp.fc1.weight == 0
    assert not torch.equal(sparse.blocks[0].mlp.fc1.weight == 0, smallest)      # not simply the smallest
    assert sparse.recipe["plans"][0]["importance"] == "movement" and "plans" not in model.recipe


@pytest.mark.parametrize("arguments, words", [({"ratio": 0}, "0 < ratio < 1"), ({"ratio": 1.0}, "0 < ratio < 1"),
                                              ({"steps": 0}, "10 <= steps"), ({"ratio": None}, "0 < ratio < 1")])
def test_bad_arguments_are_refused_before_training(arguments, words):
    with pytest.raises(LabError, match=words):
        movement_prune(small(), shapes(), **{"ratio": 0.5, "steps": 10, **arguments})


def test_models_with_zeros_are_refused():
    with pytest.raises(LabError, match="zero already"):
        movement_prune(prune_weights(small(), 0.5), shapes(), 0.75, 10)
