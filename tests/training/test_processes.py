import runpy
import sys
from pathlib import Path

import pytest
import torch

from launching import found_by_two
from lightvit_lab import training
from lightvit_lab.errors import LabError
from lightvit_lab.training.processes import Team

SCRIPT = Path(__file__).with_name("two_processes.py")


@pytest.fixture(scope="module")
def of_two(tmp_path_factory) -> dict:
    """What two processes on the CPU find, started as a reader would start them."""
    pytest.importorskip("accelerate")
    folder = tmp_path_factory.mktemp("two")
    return {**found_by_two(SCRIPT, folder), "half": folder / "half.pt"}


@pytest.fixture(scope="module")
def of_one() -> dict:
    script = runpy.run_path(str(SCRIPT))
    net = script["model"]()
    history = script["run"](net)
    return {"loss": history.loss, "weights": net.state_dict(),
            "scores": [(step, score.accuracy, score.count) for step, score in history.scores]}


def test_two_processes_find_the_loss_and_the_weights_of_one(of_one, of_two):
    assert of_two["processes"] == 2
    assert of_two["loss"] == pytest.approx(of_one["loss"], rel=1e-5)
    assert of_two["weights"].keys() == of_one["weights"].keys()      # no prefix of the wrapper
    for name, value in of_one["weights"].items():
        assert (of_two["weights"][name] - value).norm() <= 1e-5 * value.norm(), name


def test_two_processes_score_every_picture_once(of_one, of_two):
    assert of_two["scores"] == of_one["scores"] and of_one["scores"][0][2] == 21      # an odd number of pictures


def test_two_processes_train_a_model_of_which_each_step_leaves_a_part_out(of_two):
    script = runpy.run_path(str(SCRIPT))
    torch.manual_seed(0)
    net = script["Halved"]()
    history = script["run"](net)
    assert of_two["halved_loss"] == pytest.approx(history.loss, rel=1e-5)
    for name, value in net.state_dict().items():
        assert (of_two["halved"][name] - value).norm() <= 1e-5 * value.norm(), name


def test_a_run_of_two_processes_is_taken_up_with_the_same_bits(of_two):
    assert of_two["left"] == 100 - 15      # stopped in step 14, saved at 10, 25 in all
    assert of_two["resumed_loss"] == of_two["loss"]
    for name, value in of_two["weights"].items():
        assert torch.equal(of_two["resumed_weights"][name], value), name


def test_one_process_takes_up_the_run_of_two(of_one, of_two):
    script = runpy.run_path(str(SCRIPT))
    script["stopping"].left = 100
    net = script["model"]()
    history = script["run"](net, objective=script["stopping"], checkpoint=of_two["half"])
    assert script["stopping"].left == 100 - 15
    assert history.loss == pytest.approx(of_one["loss"], rel=1e-5)


def test_a_launch_without_accelerate_says_what_to_install(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(LabError, match="pip install accelerate"):
        Team()


def test_a_batch_that_the_processes_cannot_share_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setattr("lightvit_lab.training.processes._connect", lambda: 0)
    script = runpy.run_path(str(SCRIPT))
    with pytest.raises(LabError, match="batch_size=16 is no multiple of 3 .3 processes.*give 15 or 18"):
        training.fit(script["model"](), script["pictures"](), batch_size=16)


def test_a_slice_of_one_picture_is_refused_before_the_first_step_where_batch_norm_needs_two(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr("lightvit_lab.training.processes._connect", lambda: 0)
    monkeypatch.setattr(Team, "same", lambda _, value: value)
    script = runpy.run_path(str(SCRIPT))
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 8), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 3))
    with pytest.raises(LabError, match="cannot train on one picture at a time"):
        training.fit(net, script["pictures"](), batch_size=2)
