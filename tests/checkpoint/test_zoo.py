import json
import re
import shlex
import shutil
import subprocess

import pytest
import torch

from lightvit_lab import checkpoint, data, training
from lightvit_lab.checkpoint import zoo
from lightvit_lab.distillation import distill
from lightvit_lab.errors import LabError

CARD = {"name": str, "model": str, "dataset": str, "arguments": dict, "settings": dict, "teacher": str, "seed": int, "params": int,
        "validation": dict, "test": dict, "device": str, "choices": dict, "seconds": float, "cpu_seconds": float,
        "date": str, "versions": dict, "commit": str, "command": str, "sha256": str}


def test_the_zoo_is_there_and_takes_at_most_12_megabytes():
    files = sorted(zoo.folder().glob("*.safetensors"))
    assert len(files) == len(zoo.names()) and sum(path.stat().st_size for path in files) <= 12e6


@pytest.mark.parametrize("name", zoo.names())
def test_every_model_fits_its_card(name):
    card = zoo.card(name)
    assert {key: type(value) for key, value in card.items()} == CARD and card["name"] == name and name in card["command"]
    model = checkpoint.load(f"zoo:{name}")
    assert model.recipe == {"name": card["model"], "arguments": zoo.RECIPES[name].arguments}
    assert card["arguments"] == zoo.RECIPES[name].arguments
    assert {**card["settings"], "augment": tuple(card["settings"]["augment"])} == zoo.RECIPES[name].settings
    assert card["teacher"].split()[:1] == zoo.RECIPES[name].teacher.split()
    assert card["params"] == sum(value.numel() for value in model.parameters()) and len(card["commit"]) == 40
    score = card["test"]
    right = round(score["accuracy"] * score["count"])
    assert (score["low"], score["high"]) == pytest.approx(training.wilson_interval(right, score["count"]))


@pytest.mark.parametrize("name", [name for name in zoo.names() if name.endswith("/shapes")])
def test_models_of_shapes_classify_as_their_cards_say(name):
    count = 1000
    score = training.evaluate(checkpoint.load(f"zoo:{name}"), data.load("shapes", "test", count=count))
    said = zoo.card(name)["test"]["accuracy"]
    assert score.low - 0.01 <= said <= score.high + 0.01


def test_unknown_models_are_refused_with_the_closest_suggested():
    with pytest.raises(LabError, match='Did you mean "lab_cnn/shapes"'):
        checkpoint.load("zoo:lab_cnn/shape")


@pytest.fixture
def small_zoo(tmp_path, monkeypatch):
    """A zoo of one model that trains in a second, in a folder of its own."""
    # Not narrower: torch 2.5 itself crashes where a 1 x 1 convolution with a stride has less than 8 input channels.
    recipe = zoo.Recipe({"widths": [8, 16]}, {"steps": 6, "batch_size": 32, "lr": 1e-2})
    monkeypatch.setattr(zoo, "RECIPES", {"lab_cnn/digits": recipe})
    monkeypatch.setattr(zoo, "folder", lambda: tmp_path)
    return tmp_path


def test_training_leaves_file_and_card_and_repeats_to_the_bit(small_zoo):
    how = {"threads": 1, "precision": "float32", "attention": "fused"}
    first = zoo.train("lab_cnn/digits", **how)
    card = json.loads((small_zoo / "lab_cnn-digits.json").read_text())
    assert card["sha256"] == first["sha256"] and card["settings"]["steps"] == 6 and zoo.names() == ("lab_cnn/digits",)
    (small_zoo / "lab_cnn-digits.json").unlink()
    assert zoo.train("lab_cnn/digits", **how)["sha256"] == first["sha256"]


def test_a_model_is_replaced_only_by_one_that_is_better_on_validation(small_zoo, capsys):
    path = small_zoo / "lab_cnn-digits.json"
    kept = zoo.train("lab_cnn/digits", threads=1)
    card = json.loads(path.read_text())
    card["validation"]["accuracy"] = 1.0
    path.write_text(json.dumps(card))
    zoo.train("lab_cnn/digits", seed=1, threads=1)
    assert "stays" in capsys.readouterr().out and json.loads(path.read_text())["sha256"] == kept["sha256"]
    card["validation"]["accuracy"] = 0.0
    path.write_text(json.dumps(card))
    assert zoo.train("lab_cnn/digits", seed=1, threads=1)["seed"] == 1
    assert json.loads(path.read_text())["sha256"] != kept["sha256"]


def test_a_file_of_another_run_than_its_card_is_refused(small_zoo):
    zoo.train("lab_cnn/digits", threads=1)
    path = small_zoo / "lab_cnn-digits.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    with pytest.raises(LabError, match="another run than its card.*checkpoint.zoo lab_cnn/digits"):
        checkpoint.load("zoo:lab_cnn/digits")
    path.unlink()
    with pytest.raises(LabError, match="is missing"):
        checkpoint.load("zoo:lab_cnn/digits")


@pytest.mark.parametrize("lost", ["safetensors", "damaged"])
def test_the_command_that_the_message_names_brings_a_lost_model_back(tmp_path, monkeypatch, lost):
    folder = tmp_path / "a checkout" / "book" / "zoo"
    folder.mkdir(parents=True)
    for path in zoo.folder().glob("lab_vit_student-shapes.*"):
        shutil.copy(path, folder)
    monkeypatch.setattr(zoo, "folder", lambda: folder)
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "models"]):
        subprocess.run(["git", "-C", folder.parents[1], *command], check=True)
    path = folder / "lab_vit_student-shapes.safetensors"
    path.write_bytes(b"half") if lost == "damaged" else path.unlink()
    with pytest.raises(LabError) as refused:
        checkpoint.load("zoo:lab_vit_student/shapes")
    command = re.search(r"fetch both anew \((.*)\), or train it", str(refused.value)).group(1)
    subprocess.run(shlex.split(command), check=True, cwd=tmp_path)                          # typed somewhere else
    assert checkpoint.load("zoo:lab_vit_student/shapes").recipe["name"] == "lab_vit_student"


def test_where_there_is_no_checkout_the_message_says_to_install_the_package_anew(tmp_path, monkeypatch):
    shutil.copy(zoo.folder() / "lab_vit_student-shapes.json", tmp_path)
    monkeypatch.setattr(zoo, "folder", lambda: tmp_path)
    with pytest.raises(LabError, match="fetch both anew .install lightvit-lab anew."):
        checkpoint.load("zoo:lab_vit_student/shapes")


@pytest.mark.parametrize("spoil", [
    lambda text: "", lambda text: text[: len(text) // 2], lambda text: "[]", lambda text: "null", lambda text: "{}",
    lambda text: "[" * 10**5, lambda text: "\x00", lambda text: text.replace('"sha256": "', '"sha256": 3, "old": "'),
    lambda text: text.replace('"accuracy": 0', '"accuracy": NaN, "old": 0'),
    lambda text: text.replace('"accuracy": 0', '"accuracy": "0", "old": 0'),
    lambda text: text.replace('"validation": {', '"validation": 3, "old": {'),
], ids=range(11))
def test_a_damaged_card_is_refused_with_the_command_that_mends_it_and_training_replaces_it(small_zoo, spoil):
    zoo.train("lab_cnn/digits", threads=1)
    path = small_zoo / "lab_cnn-digits.json"
    path.write_text(spoil(path.read_text()))
    for read in (zoo.card, lambda name: checkpoint.load(f"zoo:{name}")):
        with pytest.raises(LabError, match="lab_cnn-digits.json.*checkpoint.zoo lab_cnn/digits"):
            read("lab_cnn/digits")
    zoo.train("lab_cnn/digits", threads=1)
    assert checkpoint.load("zoo:lab_cnn/digits") and zoo.card("lab_cnn/digits")["seed"] == 0


def test_models_of_the_zoo_come_in_float32_and_in_eval_mode(small_zoo):
    zoo.train("lab_cnn/digits", threads=1)
    model = checkpoint.load("zoo:lab_cnn/digits")
    assert not model.training and {value.dtype for value in model.parameters()} == {torch.float32}


def test_a_recipe_with_a_teacher_distils_from_it_and_the_card_says_from_which(small_zoo, monkeypatch):
    about = zoo.train("lab_cnn/digits", threads=1)
    settings = {"steps": 4, "batch_size": 32, "lr": 1e-3, "label_smoothing": 0.1}
    recipes = {**zoo.RECIPES, "lab_vit_student/digits": zoo.Recipe({}, settings, teacher="lab_cnn/digits")}
    monkeypatch.setattr(zoo, "RECIPES", recipes)
    heard = []
    monkeypatch.setattr(zoo, "distill", lambda *given, **how: heard.append(given) or distill(*given, **how))
    card = zoo.train("lab_vit_student/digits", threads=1)
    assert card["teacher"] == f"lab_cnn/digits {about['sha256']}" and list(heard[0][3]) == ["labels", "soft targets", "hints"]
