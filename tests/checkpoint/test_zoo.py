import re
import shlex
import shutil
import subprocess
import sys

import pytest

from lightvit_lab import checkpoint, data, training
from lightvit_lab.checkpoint import zoo
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
    assert model.recipe == {"name": card["model"], "arguments": card["arguments"]}
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


@pytest.fixture(scope="module")
def fresh_process():
    """What a process prints that imports `checkpoint` and then runs the command on older cards with --help."""
    code = ("import runpy, sys, lightvit_lab.checkpoint\n"
            "print([name for name in sys.modules if name.startswith('lightvit_lab.experiments')])\n"
            "del sys.modules['lightvit_lab.checkpoint.zoo']\n"
            "sys.argv[1:] = ['--help']\n"
            "runpy.run_module('lightvit_lab.checkpoint.zoo', run_name='__main__', alter_sys=True)")      # as python -m does
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_the_command_that_stands_on_older_cards_still_trains(fresh_process):
    run = fresh_process
    assert run.returncode == 0 and "Train the models of the zoo" in run.stdout and "lab_cnn/shapes" in run.stdout


def test_what_finds_models_imports_nothing_that_trains_them(fresh_process):
    assert fresh_process.stdout.splitlines()[0] == "[]"
