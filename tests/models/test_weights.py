"""A model for the reader's own machine: no download unless it is asked for, and no error where there is no network."""

import pytest
import torch

from lightvit_lab import models
from lightvit_lab.errors import LabError

NAME = "deit_tiny_patch16_224"


@pytest.fixture
def network(monkeypatch):
    """What was fetched, in place of timm's download; raises where `reason` says so."""
    asked, made = {"reason": None, "names": [], "fresh": 0}, models.create_model

    def create(name, pretrained=False, **kwargs):
        asked["fresh"] += not pretrained
        if not pretrained:
            return made(name, **kwargs)
        asked["names"].append(name)
        if asked["reason"]:
            raise asked["reason"]
        model = made(name, **kwargs)
        torch.nn.init.constant_(model.head.bias, 7.0)
        return model

    monkeypatch.setattr(models, "create_model", create)
    return asked


def test_nothing_is_fetched_unless_the_cell_says_so(network, capsys):
    model = models.pretrained(NAME, depth=1)
    assert network["names"] == [] and not model.training and len(model.blocks) == 1
    assert "fresh weights" in capsys.readouterr().out


def test_trained_weights_come_where_they_are_asked_for(network, capsys):
    model = models.pretrained(NAME, True, depth=1, num_classes=3)
    assert network["names"] == [NAME] and network["fresh"] == 0       # no second model is built only to be thrown away
    assert model.head.bias.tolist() == [7.0] * 3 and not model.training
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("reason", [ConnectionError("no route\nto host"), OSError("disk full"), RuntimeError()])
def test_without_a_network_one_line_says_why_and_the_cells_go_on(network, capsys, reason):
    network["reason"] = reason
    model = models.pretrained(NAME, True, depth=1)
    said = capsys.readouterr().out
    assert type(reason).__name__ in said and said.count("\n") == 1 and model(torch.zeros(1, 3, 224, 224)).shape == (1, 1000)


def test_an_unknown_name_is_an_error_all_the_same():
    with pytest.raises(LabError, match="Did you mean"):
        models.pretrained("deit_tiny_patch16_225", True)
