"""Checkpoints of a run: written whole or not at all, read without running code."""

from __future__ import annotations

import hashlib
import io
import os
import time
import warnings
import zipfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .. import storage
from ..data import Pictures
from ..errors import LabError
from ..runtime import file_path

FORMAT = "lightvit_lab training checkpoint 1"
# share of the run's time that saves may take; with the last, which is always made, still under 2 %
SHARE = 0.015
LEAST_SECONDS = 1.0    # between two saves


class Checkpoint:
    """The file from which a run resumes. `identity` describes the run: settings, data, model.

    With `every=None` a save is due as often as keeps saving under 2 % of the run. Raises LabError
    if the folder is missing or cannot be written to.
    """

    def __init__(self, path: str | os.PathLike, identity: dict[str, Any], every: int | None = None,
                 writes: bool = True):
        self.path, self.identity, self.every = file_path(path), identity, every
        self.started = self.ended = time.perf_counter()
        self.cost = self.spent = 0.0     # seconds of the last save, and of all
        if writes:
            storage.require_place("fit: checkpoint", self.path)

    def is_due(self, step: int) -> bool:
        """True if the state after `step` should be written."""
        if self.every is not None:
            return step % self.every == 0
        now = time.perf_counter()
        share = SHARE * (now - self.started)
        return now - self.ended > LEAST_SECONDS and self.spent + self.cost < share

    def write(self, state: dict[str, Any]) -> None:
        """Replace the file by `state`: all of it, or, if the system stops halfway, none.

        On a full disk, and where the state has numbers that are not finite, it warns and leaves the
        file as it was: the run in memory is worth more than its copy, and a copy from which a run
        can resume more than one from which it cannot. A folder that was deleted is made anew.
        """
        start = time.perf_counter()
        try:
            self._require_finite(state)
            buffer = io.BytesIO()
            torch.save({"format": FORMAT, "identity": self.identity, "state": state}, buffer)
            if not os.path.lexists(self.path.parent):
                _warn(f"fit: the folder {self.path.parent} is gone, and is made anew")
            storage.write("fit", self.path, buffer.getbuffer(), make_folder=True)
        except LabError as error:
            _warn(f"{error}. The run goes on and tries again at the next save; an older checkpoint "
                  "is kept as it is")
        self.ended = time.perf_counter()
        self.cost = self.ended - start
        self.spent += self.cost

    def _require_finite(self, state: dict[str, Any]) -> None:
        """Raise LabError on NaN anywhere, and on infinity in trained weights."""
        weights = self.identity.get("model", {}).items()
        masks = {"model": {name for name, about in weights if about.endswith("not trained")}}
        for part in ("model", "optimizer"):
            if problem := not_finite(state.get(part, {}), masks.get(part, ())):
                raise LabError(f"fit: {self.path} is not written, since {part} {problem}")

    def read(self) -> dict[str, Any] | None:
        """The state to resume from, None without a file; LabError if damaged or of another run."""
        if not os.path.exists(self.path):
            return None
        saved = _load(self.path)
        if problems := differences(saved["identity"], self.identity):
            raise LabError(f"fit: {self.path} is the checkpoint of another run: "
                           f"{'; '.join(problems)}. Give another path, or delete the file")
        return saved["state"]


def _warn(text: str) -> None:
    warnings.warn(text, RuntimeWarning, stacklevel=3)


def not_finite(values: dict[str, Any], masks: Collection[str] = ()) -> str:
    """Which of nested tensors has NaN, or infinity unless it is one of `masks`; "" for none."""
    for name, value in _tensors(values):
        bad = value.isnan() if name in masks else ~value.isfinite()
        if bad.any():
            return f"{name} has {int(bad.sum())} numbers that are not finite"
    return ""


def _tensors(value: Any, name: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor of floating-point numbers in nested dicts and lists, with its name."""
    if isinstance(value, torch.Tensor) and value.is_floating_point():
        yield name, value
    parts = dict(enumerate(value)) if isinstance(value, list) else value
    for key, part in parts.items() if isinstance(parts, dict) else ():
        yield from _tensors(part, f"{name}.{key}" if name else str(key))


def describe_pictures(data: Pictures | None) -> str | None:
    """sha256 of pixels, labels and moments; pictures in another order have another."""
    if data is None:
        return None
    digest = hashlib.sha256(str(tuple(data.pixels.shape)).encode())
    for tensor in (data.pixels, data.labels, data.mean, data.std):
        digest.update(tensor.contiguous().numpy())
    return digest.hexdigest()


def describe_model(model: nn.Module) -> dict[str, str]:
    """Class, and the shape of each parameter and buffer, with "not trained" after frozen ones."""
    trained = {name for name, value in model.named_parameters() if value.requires_grad}
    shapes = {name: f"{list(value.shape)}{'' if name in trained else ' not trained'}"
              for name, value in model.state_dict().items() if isinstance(value, torch.Tensor)}
    return {"class": type(model).__name__, **shapes}


def differences(there: dict[str, Any], here: dict[str, Any], name: str = "",
                most: int = 3) -> list[str]:
    """In words, where two nested dicts differ; of each inner dict the first `most`."""
    texts: list[str] = []
    for key in [*there, *(key for key in here if key not in there)]:
        one, other = there.get(key, "absent"), here.get(key, "absent")
        if isinstance(one, dict) and isinstance(other, dict):
            inner = differences(one, other, f"{key} ")
            texts += inner[:most] + [f"{len(inner) - most} more of {key}"] * (len(inner) > most)
        elif one != other:
            texts.append(f"{name}{key} is {_short(one)} there and {_short(other)} here")
    return texts


def _short(value: Any) -> str:
    text = str(value)
    return f"{text[:8]}..." if len(text) == 64 else text   # a sha256


def _load(path: Path) -> dict[str, Any]:
    """The content of a checkpoint; LabError unless it is one, whole and unchanged.

    It must be an archive as torch writes it, which unpacks to no more than its size.
    """
    with storage.refused(f"fit: {path} is no checkpoint that can be read",
                         "delete it to start anew, or give another path"):
        if not storage.is_file(path):
            raise ValueError("it is no file")
        with zipfile.ZipFile(path) as archive:
            if sum(info.file_size for info in archive.infolist()) > path.stat().st_size:
                raise ValueError("it unpacks to more than its size")
            if broken := archive.testzip():      # torch does not compare the archive's checksums
                raise ValueError(f"{broken} is damaged")
        saved = torch.load(path, map_location="cpu", weights_only=True)
        if saved["format"] != FORMAT:
            raise ValueError(f"its format is {saved['format']!r}")
        if not isinstance(saved["identity"], dict) or not isinstance(saved["state"], dict):
            raise ValueError("it does not say of which run it is")
        return saved
