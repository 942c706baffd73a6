import dataclasses
import errno
import math
import os
import random
import shutil
import signal
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from lightvit_lab import data, storage, training
from lightvit_lab.errors import LabError
from lightvit_lab.training import saving

STEPS, EVERY = 30, 4
RUN = dict(steps=STEPS, batch_size=8, lr=1e-2, threads=1, progress=False, seed=3, precision="float32", save_every=EVERY,
           augment=("flip", "crop", "mixup", "cutmix"))
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a forked copy of this process")


def _pictures(count: int = 40) -> data.Pictures:
    pixels = torch.randint(0, 256, (count, 3, 8, 8), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    return data.Pictures("noise", "train", pixels, torch.arange(count) % 3, ("a", "b", "c"), torch.full((3,), 0.5),
                         torch.full((3,), 0.3))


def _model(seed: int = 0, width: int = 4) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.Dropout(0.3), nn.Flatten(),
                         nn.Linear(36 * width, 8), nn.Linear(8, 3))


class _Objective:
    """The plain loss with random noise from all three global generators; counts its steps, and may kill the process."""

    def __init__(self, last: int | None = None):
        self.calls, self.last = 0, last

    def __call__(self, model, batch):
        import numpy
        self.calls += 1
        if self.calls == self.last:
            os.kill(os.getpid(), signal.SIGKILL)
        noise = 1 + 0.1 * random.random() + 0.1 * numpy.random.rand()
        return training.label_loss(model(batch.inputs), batch) * noise


def _seed_all(seed: int) -> None:
    import numpy
    random.seed(seed), numpy.random.seed(seed)


def _unbroken(**changes) -> tuple[dict, training.History]:
    model = _model()
    _seed_all(0)
    history = training.fit(model, _pictures(), objective=_Objective(), **{**RUN, "save_every": None, **changes})
    return model.state_dict(), history


def _killed(path: Path, last: int | None = None, before=lambda: None, **changes) -> None:
    """Run in a forked child that dies by SIGKILL: at step `last`, or in whatever `before` prepares."""
    child = os.fork()
    if child == 0:
        try:
            before()
            model = _model()
            _seed_all(0)
            training.fit(model, _pictures(), objective=_Objective(last), checkpoint=path, **{**RUN, **changes})
        finally:
            os._exit(1)      # not reached by a child that is killed
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def _resumed(path: Path, **changes) -> tuple[dict, training.History, int]:
    """Take the run up with other weights and other random states than it had; also the number of steps it took."""
    model, objective = _model(seed=99), _Objective()
    _seed_all(99)
    history = training.fit(model, _pictures(), objective=objective, checkpoint=path, **{**RUN, **changes})
    return model.state_dict(), history, objective.calls


def _require_same(one: dict, other: dict) -> None:
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@needs_fork
def test_runs_killed_at_twenty_random_steps_end_with_the_bits_of_the_unbroken_run(tmp_path):
    weights, history = _unbroken()
    for number, step in enumerate(random.Random(0).choices(range(EVERY + 1, STEPS + 1), k=20)):
        path = tmp_path / f"{number}.pt"
        _killed(path, step)
        found, again, calls = _resumed(path)
        _require_same(found, weights)
        assert again.loss == history.loss and again.images_seen == STEPS * 8
        assert calls == STEPS - (step - 1) // EVERY * EVERY      # at most one save interval is lost


@needs_fork
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_run_killed_five_times_on_its_way_is_still_the_same_run(tmp_path, optimizer):
    weights, history = _unbroken(optimizer=optimizer)
    for _ in range(5):
        _killed(tmp_path / "run.pt", EVERY + 2, optimizer=optimizer)
    found, again, calls = _resumed(tmp_path / "run.pt", optimizer=optimizer)
    _require_same(found, weights)
    assert again.loss == history.loss and calls == STEPS - 5 * EVERY


@needs_fork
@pytest.mark.parametrize("moment", ["half written", "not yet renamed"])
def test_a_kill_during_a_save_leaves_the_save_before(tmp_path, moment):
    path, saves = tmp_path / "run.pt", []

    def prepare():
        def die(partial, path):
            saves.append(1)
            if len(saves) < 3:
                return publish(partial, path)
            os.truncate(partial, partial.stat().st_size // (2 if moment == "half written" else 1))
            os.kill(os.getpid(), signal.SIGKILL)
        publish, storage.publish = storage.publish, die
    _killed(path, before=prepare)
    found, _, calls = _resumed(path)
    _require_same(found, _unbroken()[0])
    assert calls == STEPS - 2 * EVERY and [file.name for file in tmp_path.iterdir()] == ["run.pt"]


@needs_fork
def test_validation_scores_of_a_killed_run_are_those_of_the_unbroken_one(tmp_path):
    extra = dict(validation=_pictures(9), checks=5)
    _, history = _unbroken(**extra)
    _killed(tmp_path / "run.pt", 20, **extra)
    _, again, _ = _resumed(tmp_path / "run.pt", **extra)
    assert again.scores == history.scores and len(history.scores) == 5


def test_a_finished_run_gives_its_weights_and_history_at_once(tmp_path):
    weights, history, calls = _resumed(tmp_path / "run.pt")
    again, same, none = _resumed(tmp_path / "run.pt")
    _require_same(again, weights)
    assert (calls, none) == (STEPS, 0) and same == history


def test_what_was_chosen_at_the_start_is_kept_whatever_the_probe_would_say_now(tmp_path, monkeypatch):
    training.fit(_model(), _pictures(), steps=4, batch_size=8, checkpoint=tmp_path / "run.pt", progress=False)
    monkeypatch.setattr("lightvit_lab.training.loop.choose_settings", lambda *_: pytest.fail("probed again"))
    training.fit(_model(), _pictures(), steps=4, batch_size=8, checkpoint=tmp_path / "run.pt", progress=False)


@pytest.mark.parametrize("change, words", [
    (dict(lr=2e-2), "lr is 0.01 there and 0.02 here"),
    (dict(steps=31), "steps is 30 there and 31 here"),
    (dict(augment=("flip",)), "augment is "),
    (dict(optimizer="muon", schedule="linear"), "optimizer is adamw there and muon here.*schedule is cosine"),
    (dict(validation=_pictures(5)), "validation is None there"),
])
def test_other_settings_are_refused_by_name(tmp_path, change, words):
    _resumed(tmp_path / "run.pt")
    with pytest.raises(LabError, match=f"checkpoint of another run.*{words}.*Give another path, or delete"):
        _resumed(tmp_path / "run.pt", **change)


@pytest.mark.parametrize("part", ["pixels", "labels", "mean"])
def test_other_data_are_refused(tmp_path, part):
    _resumed(tmp_path / "run.pt")
    changed = getattr(_pictures(), part).clone()
    changed[:2] = changed[:2].flip(0) if part != "mean" else 0.49
    other = dataclasses.replace(_pictures(), **{part: changed})
    with pytest.raises(LabError, match="data is ........... there"):
        training.fit(_model(), other, objective=_Objective(), checkpoint=tmp_path / "run.pt", **RUN)


def test_another_model_is_refused_with_its_shapes(tmp_path):
    _resumed(tmp_path / "run.pt")
    with pytest.raises(LabError, match=r"model 0.weight is \[4, 3, 3, 3\] there and \[5, 3, 3, 3\] here.*more of model"):
        training.fit(_model(width=5), _pictures(), objective=_Objective(), checkpoint=tmp_path / "run.pt", **RUN)


def test_an_objective_with_other_parameters_is_refused(tmp_path):
    @dataclasses.dataclass
    class Scaled:
        factor: float

        def __call__(self, model, batch):
            return self.factor * training.label_loss(model(batch.inputs), batch)

    training.fit(_model(), _pictures(), objective=Scaled(1.0), checkpoint=tmp_path / "run.pt", **RUN)
    with pytest.raises(LabError, match=r"objective.*factor=1.0.*factor=2.0"):
        training.fit(_model(), _pictures(), objective=Scaled(2.0), checkpoint=tmp_path / "run.pt", **RUN)


@pytest.mark.parametrize("damage", ["empty", "truncated", "flipped", "web page", "another torch file"])
def test_damaged_files_are_named(tmp_path, damage):
    path = tmp_path / "run.pt"
    _resumed(path)
    content = bytearray(path.read_bytes())
    place = content.find(torch.load(path, weights_only=True)["state"]["model"]["0.weight"].numpy().tobytes())
    content[place + 5] ^= 1
    files = {"empty": b"", "truncated": path.read_bytes()[:-100], "flipped": bytes(content), "web page": b"<html>"}
    if damage == "another torch file":
        torch.save({"model": torch.zeros(3)}, path)
    else:
        path.write_bytes(files[damage])
    with pytest.raises(LabError, match="run.pt is no checkpoint that can be read.*delete it"):
        _resumed(path)


def test_a_file_that_would_run_code_is_refused_unrun(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)
    torch.save({"format": saving.FORMAT, "identity": Evil()}, tmp_path / "run.pt")
    with pytest.raises(LabError, match="is no checkpoint"):
        _resumed(tmp_path / "run.pt")
    assert not (tmp_path / "ran").exists()


def test_places_that_cannot_be_written_are_refused_before_the_first_step(tmp_path, monkeypatch):
    with pytest.raises(LabError, match="does not exist; make it"):
        _resumed(tmp_path / "nowhere" / "run.pt")
    with pytest.raises(LabError, match="is a folder; give a file"):
        _resumed(tmp_path)
    def refuse(self):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))
    monkeypatch.setattr(Path, "touch", refuse)      # root may write anywhere, so permissions alone show nothing
    with pytest.raises(LabError, match="cannot be written .Read-only file system"):
        _resumed(tmp_path / "run.pt")


def test_a_full_disk_warns_with_the_size_and_the_run_goes_on(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr(os, "fsync", full)
    with pytest.warns(RuntimeWarning, match=r"No space left on device; .* MiB are free.; make room.* The run goes on"):
        weights, _, calls = _resumed(tmp_path / "run.pt")
    assert calls == STEPS and not list(tmp_path.iterdir())


def _fit(path: Path, objective, model: nn.Module, **changes) -> training.History:
    return training.fit(model, _pictures(), objective=objective, checkpoint=path, **{**RUN, **changes})


def test_a_folder_that_is_deleted_under_way_is_made_anew_and_the_run_is_saved(tmp_path):
    path = tmp_path / "runs" / "run.pt"
    path.parent.mkdir()

    class Deletes(_Objective):
        def __call__(self, model, batch):
            if self.calls == 10:
                shutil.rmtree(path.parent)
            return super().__call__(model, batch)

    model = _model()
    with pytest.warns(RuntimeWarning, match="the folder .*runs is gone, and is made anew"):
        _fit(path, Deletes(), model)
    saved = torch.load(path, weights_only=True)["state"]
    assert saved["done"] == STEPS
    _require_same(saved["model"], dict(model.state_dict()))


def test_a_folder_that_becomes_a_file_under_way_warns_and_the_run_goes_on(tmp_path):
    path = tmp_path / "runs" / "run.pt"
    path.parent.mkdir()

    class Blocks(_Objective):
        def __call__(self, model, batch):
            if self.calls == 10:
                shutil.rmtree(path.parent)
                path.parent.write_text("in the way")
            return super().__call__(model, batch)

    objective = Blocks()
    with pytest.warns(RuntimeWarning, match="run.pt cannot be written .*The run goes on"):
        _fit(path, objective, _model())
    assert objective.calls == STEPS


class _Spoils(_Objective):
    """A finite loss whose slope is not a number at one step."""

    def __init__(self, step: int):
        super().__init__()
        self.step = step

    def __call__(self, model, batch):
        loss = super().__call__(model, batch)
        if self.calls == self.step:
            loss = loss + (next(model.parameters()).sum() * 0).sqrt()        # 0, with an infinite slope times 0
        return loss


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_good_checkpoint_is_not_replaced_by_weights_that_are_not_numbers(tmp_path, optimizer):
    path = tmp_path / "run.pt"
    with pytest.warns(RuntimeWarning, match="run.pt is not written, since model 0.weight has .* not finite.*is kept as"):
        with pytest.raises(LabError, match="the loss is nan at step 9"):
            _seed_all(0)
            _fit(path, _Spoils(8), _model(), optimizer=optimizer)
    assert torch.load(path, weights_only=True)["state"]["done"] == 4
    model, objective = _model(seed=99), _Spoils(step=0)       # the run without the spoilt step
    _fit(path, objective, model, optimizer=optimizer)
    _require_same(model.state_dict(), _unbroken(optimizer=optimizer)[0])
    assert objective.calls == STEPS - 4


@pytest.mark.filterwarnings("ignore:fit. .*run.pt is not written")
@pytest.mark.parametrize("checkpointed", [True, False])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_weights_that_the_last_step_made_not_finite_are_said_as_those_of_earlier_steps_are(tmp_path, optimizer, checkpointed):
    path = tmp_path / "run.pt" if checkpointed else None
    with pytest.raises(LabError, match=f"0.weight has .* numbers that are not finite after step {STEPS}, where .*diverged. Try"):
        _fit(path, _Spoils(STEPS), _model(), optimizer=optimizer)
    if checkpointed:
        assert torch.load(path, weights_only=True)["state"]["done"] < STEPS


class _SpoilsMean(_Objective):
    """Pictures of NaN in the last step, for a part whose running mean alone sees them."""

    def __call__(self, model, batch):
        loss = super().__call__(model, batch)
        if self.calls == STEPS:
            model[1].running_mean = torch.full_like(model[1].running_mean, math.nan)
        return loss


def test_a_running_mean_that_the_last_step_made_nan_is_said_too_and_infinities_of_a_mask_are_not():
    model = _model()
    model[0].register_buffer("mask", torch.tensor([0.0, -math.inf]))
    with pytest.raises(LabError, match=f"1.running_mean has 4 numbers that are not finite after step {STEPS}"):
        _fit(None, _SpoilsMean(), model)


def test_a_mask_of_infinities_and_a_frozen_weight_are_saved_and_nan_in_a_running_mean_is_not(tmp_path):
    path, model = tmp_path / "run.pt", _model()
    model[0].register_buffer("mask", torch.tensor([0.0, -math.inf]))
    _fit(path, _Objective(), model)
    before = path.read_bytes()
    file = saving.Checkpoint(path, {"model": saving.describe_model(model)})
    spoilt = {**model.state_dict(), "1.running_mean": torch.full((4,), math.nan)}
    with pytest.warns(RuntimeWarning, match="model 1.running_mean has 4 numbers that are not finite"):
        file.write({"model": spoilt, "optimizer": {}})
    assert path.read_bytes() == before


@pytest.mark.parametrize("kind", ["pipe", "zip bomb", "no identity", "identity of another type"])
def test_what_is_no_checkpoint_is_refused_at_once(tmp_path, kind):
    path = tmp_path / "run.pt"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "zip bomb":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("run/data.pkl", bytes(2**24))
    else:
        torch.save({"format": saving.FORMAT, "state": {}} | ({"identity": 3} if "another" in kind else {}), path)
    with pytest.raises(LabError, match="run.pt is no (name that a file can get|checkpoint that can be read)"):
        _resumed(path)


def test_saving_on_its_own_measure_takes_under_two_percent(tmp_path, monkeypatch):
    clock, saves = [0.0], []

    def slow(caller, path, content, make_folder):
        clock[0] += 0.5
        saves.append(clock[0])
    monkeypatch.setattr(saving.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(storage, "write", slow)
    file = saving.Checkpoint(tmp_path / "run.pt", {})
    for step in range(1, 10_001):      # 500 s of steps
        clock[0] += 0.05
        if file.is_due(step) or step == 10_000:
            file.write({})
    assert len(saves) * 0.5 / clock[0] < 0.02 and len(saves) > 10
    assert max(later - sooner for sooner, later in zip(saves, saves[1:])) < 70
