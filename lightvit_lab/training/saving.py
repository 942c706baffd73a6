"""Checkpoints of a run: written at once or not at all, read without running code, refused by any other run."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import time
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..data import Pictures
from ..errors import LabError
from ..runtime import file_path

FORMAT = "lightvit_lab training checkpoint 1"
SHARE = 0.015          # of the run's time that saves may take; with the last one, which is always made, still under 2 %
LEAST_SECONDS = 1.0    # between two saves


class Checkpoint:
    """The file a run can be taken up from. `identity` says of which run: settings, data, model.

    With `every=None` a save is due as often as keeps saving under 2 % of the run. Raises LabError if the folder is
    missing or cannot be written to.
    """

    def __init__(self, path: str | os.PathLike, identity: dict[str, Any], every: int | None = None,
                 writes: bool = True):
        self.path, self.identity, self.every = file_path(path), identity, every
        self.partial = self.path.with_name(self.path.name + ".partial")
        self.started = self.ended = time.perf_counter()
        self.cost = self.spent = 0.0     # seconds of the last save, and of all
        if writes:
            self._require_place()

    def is_due(self, step: int) -> bool:
        """True if the state after `step` should be written."""
        if self.every is not None:
            return step % self.every == 0
        now = time.perf_counter()
        return now - self.ended > LEAST_SECONDS and self.spent + self.cost < SHARE * (now - self.started)

    def write(self, state: dict[str, Any]) -> None:
        """Replace the file by `state`: all of it, or, if the system stops halfway, none.

        On a full disk it warns and keeps the file as it was: the run in memory is worth more than its copy.
        """
        start = time.perf_counter()
        buffer = io.BytesIO()
        torch.save({"format": FORMAT, "identity": self.identity, "state": state}, buffer)
        try:
            self._replace(buffer.getbuffer())
        except OSError as error:
            self.partial.unlink(missing_ok=True)
            free = shutil.disk_usage(self.path.parent).free
            warnings.warn(f"fit: could not save {self.path} ({error.strerror}): "
                          f"it takes {buffer.tell() / 2**20:.1f} MiB, {free / 2**20:.1f} MiB are free. "
                          "The run goes on and tries again at the next save; an older checkpoint is kept as it is",
                          RuntimeWarning, stacklevel=2)
        self.ended = time.perf_counter()
        self.cost = self.ended - start
        self.spent += self.cost

    def read(self) -> dict[str, Any] | None:
        """The state to go on from; None if there is no file. Raises LabError if it is damaged or of another run."""
        if not self.path.exists():
            return None
        saved = _load(self.path)
        found = differences(saved["identity"], self.identity)
        if found:
            raise LabError(f"fit: {self.path} is the checkpoint of another run: {'; '.join(found)}. "
                           "Give another path, or delete the file to start anew")
        return saved["state"]

    def _replace(self, content: memoryview) -> None:
        with open(self.partial, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(self.partial, self.path)

    def _require_place(self) -> None:
        if self.path.is_dir():
            raise LabError(f"fit: checkpoint={str(self.path)!r} is a folder; "
                           f"give a file, {str(self.path / 'run.pt')!r}")
        if not self.path.parent.is_dir():
            raise LabError(f"fit: the folder of checkpoint={str(self.path)!r} does not exist; "
                           f"make it: Path({str(self.path.parent)!r}).mkdir(parents=True)")
        try:
            self.partial.touch()
            self.partial.unlink()
        except OSError as error:
            raise LabError(f"fit: checkpoint={str(self.path)!r} cannot be written ({error.strerror}); "
                           "give a path in a folder of yours") from error


def describe_pictures(data: Pictures | None) -> str | None:
    """sha256 of pixels, labels and moments: other pictures, or the same in another order, give another."""
    if data is None:
        return None
    digest = hashlib.sha256(str(tuple(data.pixels.shape)).encode())
    for tensor in (data.pixels, data.labels, data.mean, data.std):
        digest.update(tensor.contiguous().numpy())
    return digest.hexdigest()


def describe_model(model: nn.Module) -> dict[str, str]:
    """Class, and the shape of each parameter and buffer; a frozen parameter is told from a trained one."""
    trained = {name for name, value in model.named_parameters() if value.requires_grad}
    shapes = {name: f"{list(value.shape)}{'' if name in trained else ' not trained'}"
              for name, value in model.state_dict().items() if isinstance(value, torch.Tensor)}
    return {"class": type(model).__name__, **shapes}


def differences(there: dict[str, Any], here: dict[str, Any], name: str = "", most: int = 3) -> list[str]:
    """In words, where two nested dicts differ; of each inner dict the first `most`."""
    found: list[str] = []
    for key in [*there, *(key for key in here if key not in there)]:
        one, other = there.get(key, "absent"), here.get(key, "absent")
        if isinstance(one, dict) and isinstance(other, dict):
            inner = differences(one, other, f"{key} ")
            found += inner[:most] + [f"{len(inner) - most} more of {key}"] * (len(inner) > most)
        elif one != other:
            found.append(f"{name}{key} is {_short(one)} there and {_short(other)} here")
    return found


def _load(path: Path) -> dict[str, Any]:
    """The content of a checkpoint. Raises LabError on anything that is not one, whole and unchanged."""
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()   # torch does not compare the checksums that the archive holds
        if broken:
            raise ValueError(f"{broken} is damaged")
        saved = torch.load(path, map_location="cpu", weights_only=True)
        if saved["format"] != FORMAT:
            raise ValueError(f"its format is {saved['format']!r}")
        return saved
    except Exception as error:   # zipfile and torch raise a dozen kinds, and each means the same here
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise LabError(f"fit: {path} is no checkpoint that can be read ({reason}); delete it to start anew, "
                       "or give another path") from error


def _short(value: Any) -> str:
    text = str(value)
    return f"{text[:8]}..." if len(text) == 64 else text   # a sha256
