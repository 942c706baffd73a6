import math

import pytest
import torch
from torch import nn

from lightvit_lab import models
from lightvit_lab.errors import LabError
from lightvit_lab.training.optimizers import create_optimizer, schedule_factor

needs_muon = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon")


def test_adamw_follows_torchs_plain_adamw():
    torch.manual_seed(0)
    ours, theirs = (nn.Linear(6, 3) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    one = create_optimizer(ours, "adamw", 1e-2, 0.1)
    other = torch.optim.AdamW([{"params": [theirs.weight], "weight_decay": 0.1},
                               {"params": [theirs.bias], "weight_decay": 0.0}], lr=1e-2, foreach=False)
    inputs = torch.randn(5, 6)
    for _ in range(5):
        other.zero_grad()
        for layer in (ours, theirs):
            layer(inputs).square().sum().backward()
        one.step(1e-2)
        other.step()
    assert torch.allclose(ours.weight, theirs.weight, atol=1e-6) and torch.allclose(ours.bias, theirs.bias, atol=1e-6)


@needs_muon
def test_muon_takes_hidden_matrices_and_leaves_the_rest_and_the_head_to_adamw():
    model = models.create_model("lab_vit_student")
    muon, adamw = create_optimizer(model, "muon", 1e-3, 0.05).parts
    names = {id(value): name for name, value in model.named_parameters()}
    taken = {names[id(value)] for group in muon.param_groups for value in group["params"]}
    left = {names[id(value)] for group in adamw.param_groups for value in group["params"]}
    assert taken == {name for name, value in model.named_parameters() if value.ndim == 2 and "blocks" in name}
    assert taken | left == set(names.values()) and not taken & left and "head.weight" in left


@needs_muon
def test_muon_turns_the_momentum_into_nearly_orthogonal_steps():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 16, bias=False), nn.Linear(16, 2))
    before = model[0].weight.detach().clone()
    optimizer = create_optimizer(model, "muon", 0.1, 0.0)
    model(torch.randn(32, 16)).square().sum().backward()
    optimizer.step(0.1)
    sizes = torch.linalg.svdvals((before - model[0].weight.detach()) / (0.1 * 0.2 * math.sqrt(16)))
    assert 0.4 < sizes[1] < 1.4 and sizes[0] < 1.4      # two logits: a gradient of rank 2


def test_muon_says_when_torch_or_the_model_has_no_use_for_it(monkeypatch):
    if hasattr(torch.optim, "Muon"):
        with pytest.raises(LabError, match="hidden matrices, and Linear has none"):
            create_optimizer(nn.Linear(4, 2), "muon", 1e-3, 0.0)
    monkeypatch.delattr(torch.optim, "Muon", raising=False)
    with pytest.raises(LabError, match="needs torch.optim.Muon"):
        create_optimizer(nn.Linear(4, 2), "muon", 1e-3, 0.0)


def test_linear_schedule_falls_in_a_straight_line_to_zero():
    rates = [schedule_factor(step, 100, 0.2, "linear") for step in range(100)]
    assert rates[19] == rates[20] == 1.0 and rates[60] == pytest.approx(0.5) and rates[99] == pytest.approx(1 / 80)
