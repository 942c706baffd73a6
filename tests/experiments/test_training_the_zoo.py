"""What trains the zoo: recipes as on the cards, better models alone, whole pairs of weights and card."""

import json

import pytest
import torch

from lightvit_lab import checkpoint
from lightvit_lab.checkpoint import zoo as there
from lightvit_lab.errors import LabError
from lightvit_lab.experiments import zoo

HOW = {"threads": 1, "precision": "float32", "attention": "fused"}     # what is given is not tried out


@pytest.mark.parametrize("name", there.names())
def test_the_recipe_of_every_model_is_the_one_on_its_card(name):
    card, recipe = there.card(name), zoo.RECIPES[name]
    assert {"arguments": card["arguments"], "settings": card["settings"]} == recipe and card["teacher"] == ""


def test_every_recipe_has_its_model():
    assert set(zoo.RECIPES) == set(there.names())


@pytest.fixture
def small_zoo(tmp_path, monkeypatch):
    """A zoo of one model that trains in a second, in a folder of its own."""
    # Not narrower: torch 2.5 itself crashes where a 1 x 1 convolution with a stride has less than 8 input channels.
    recipe = {"arguments": {"widths": [8, 16]}, "settings": {"steps": 6, "batch_size": 32, "lr": 1e-2}}
    monkeypatch.setattr(zoo, "RECIPES", {"lab_cnn/digits": recipe})
    monkeypatch.setattr(there, "folder", lambda: tmp_path)
    return tmp_path


def test_training_leaves_file_and_card_and_repeats_to_the_bit(small_zoo):
    first = zoo.train("lab_cnn/digits", **HOW)
    card = json.loads((small_zoo / "lab_cnn-digits.json").read_text())
    assert card["sha256"] == first["sha256"] and card["settings"]["steps"] == 6 and there.names() == ("lab_cnn/digits",)
    (small_zoo / "lab_cnn-digits.json").unlink()
    assert zoo.train("lab_cnn/digits", **HOW)["sha256"] == first["sha256"]


def test_a_model_is_replaced_only_by_one_that_is_better_on_validation(small_zoo, capsys):
    path = small_zoo / "lab_cnn-digits.json"
    kept = zoo.train("lab_cnn/digits", **HOW)
    card = json.loads(path.read_text())
    card["validation"]["accuracy"] = 1.0
    path.write_text(json.dumps(card))
    zoo.train("lab_cnn/digits", seed=1, **HOW)
    assert "stays" in capsys.readouterr().out and json.loads(path.read_text())["sha256"] == kept["sha256"]
    card["validation"]["accuracy"] = 0.0
    path.write_text(json.dumps(card))
    assert zoo.train("lab_cnn/digits", seed=1, **HOW)["seed"] == 1
    assert json.loads(path.read_text())["sha256"] != kept["sha256"]


def test_a_file_of_another_run_than_its_card_is_refused(small_zoo):
    zoo.train("lab_cnn/digits", **HOW)
    path = small_zoo / "lab_cnn-digits.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    with pytest.raises(LabError, match="another run than its card.*experiments.zoo lab_cnn/digits"):
        checkpoint.load("zoo:lab_cnn/digits")
    path.unlink()
    with pytest.raises(LabError, match="is missing"):
        checkpoint.load("zoo:lab_cnn/digits")


@pytest.mark.parametrize("spoil", [
    lambda text: "", lambda text: text[: len(text) // 2], lambda text: "[]", lambda text: "null", lambda text: "{}",
    lambda text: "[" * 10**5, lambda text: "\x00", lambda text: text.replace('"sha256": "', '"sha256": 3, "old": "'),
    lambda text: text.replace('"accuracy": 0', '"accuracy": NaN, "old": 0'),
    lambda text: text.replace('"accuracy": 0', '"accuracy": "0", "old": 0'),
    lambda text: text.replace('"validation": {', '"validation": 3, "old": {'),
], ids=range(11))
def test_a_damaged_card_is_refused_with_the_command_that_mends_it_and_training_replaces_it(small_zoo, spoil):
    zoo.train("lab_cnn/digits", **HOW)
    path = small_zoo / "lab_cnn-digits.json"
    path.write_text(spoil(path.read_text()))
    for read in (there.card, lambda name: checkpoint.load(f"zoo:{name}")):
        with pytest.raises(LabError, match="lab_cnn-digits.json.*experiments.zoo lab_cnn/digits"):
            read("lab_cnn/digits")
    zoo.train("lab_cnn/digits", **HOW)
    assert checkpoint.load("zoo:lab_cnn/digits") and there.card("lab_cnn/digits")["seed"] == 0


def test_models_of_the_zoo_come_in_float32_and_in_eval_mode(small_zoo):
    zoo.train("lab_cnn/digits", **HOW)
    model = checkpoint.load("zoo:lab_cnn/digits")
    assert not model.training and {value.dtype for value in model.parameters()} == {torch.float32}


def test_the_command_trains_the_models_that_are_named(small_zoo, capsys):
    zoo.main(["lab_cnn/digits", "--threads", "1", "--precision", "float32"])
    card = there.card("lab_cnn/digits")
    assert f"lab_cnn/digits: test {100 * card['test']['accuracy']:.1f} %" in capsys.readouterr().out
    assert card["command"] == "python -m lightvit_lab.experiments.zoo lab_cnn/digits"
