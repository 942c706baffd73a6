"""A teacher's logits in a file, for any number of students (TinyViT, arXiv 2207.10666).

Which pictures a step takes, and how they are cropped, mirrored and mixed, follows from (seed, step)
alone, so the file need not contain pictures: the seed and a few logits are enough. Page:
chapters/distillation/response_distillation.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ... import storage
from ...data import Pictures
from ...errors import LabError, plain_numbers, require_logits, require_range
from ...runtime import file_path
from ...runtime.running import on_device
from ...training import Batch
from ...training.augment import Batches, batch_order, require_augment
from ...training.loop import progress_bar
from ...training.processes import Team
from ...training.randomness import STEP, generator_for
from ...training.saving import describe_pictures, differences
from ...training.settings import require_length, require_pictures
from ..model_outputs import LiveTeacher, ModelOutputs

FORMAT = "lightvit_lab stored logits 1"
ABOUT = {"pictures": str, "seed": int, "batch_size": int, "augment": list, "order": str,
         "steps": int, "teacher": str, "num_classes": int}
LOWEST = -60_000.0      # about the least that float16 holds; the probability is 0 long before


class StoredLogits:
    """A teacher's logits for a run, read from `path`; `distill` takes it in the teacher's place.

    Raises LabError if the file is missing, damaged, or no such file. `made_for` describes the run,
    `nbytes` is the size of the file, by `identity` a checkpoint knows it.
    """

    models: tuple[nn.Module, ...] = ()

    def __init__(self, path: str | os.PathLike):
        self.path = file_path(path)
        self.made_for, self._tensors, digest = _read(self.path)
        self.identity = f"stored logits {digest[:16]} of {self.made_for['teacher']}"
        self.num_classes, self.nbytes = self.made_for["num_classes"], self.path.stat().st_size
        self.choices: dict[str, Any] = {}       # nothing is tried before a run

    def prepare(self, inputs: Tensor, data: Pictures, run: Mapping[str, Any]) -> None:
        """Raise LabError unless a run of these settings of `fit` takes the very stored views."""
        stored = self.made_for["steps"]
        problems = _differences(self.made_for, _describe(data, {**run, "steps": stored}))
        if run["steps"] > stored:
            problems.append(f"{stored} steps are stored, and the run takes {run['steps']}")
        if problems:
            raise _another_run("distill", self.path, problems, "Give distill the settings that "
                               "store_logits had, or call store_logits for this run")

    def outputs(self, batch: Batch, features: Sequence[int] = (), attention: Sequence[int] = (),
                values: Sequence[int] = ()) -> ModelOutputs:
        """Log-probabilities (B, classes) for `batch`, which any softmax takes as logits."""
        if features or attention or values:
            raise LabError("distill: stored logits show no features and no attention; give the "
                           "teacher itself, or objectives on logits alone")
        rows = (batch.step - 1) * self.made_for["batch_size"] + batch.places
        stored = {name: values[rows] for name, values in self._tensors.items()}
        logits = stored["values"].float()
        if "indices" in stored:
            rest = stored["rest"].float()[:, None].repeat(1, self.num_classes)
            logits = rest.scatter_(1, stored["indices"].long(), logits)
        return ModelOutputs(logits.to(batch.inputs.device))


@plain_numbers
def store_logits(teacher: nn.Module, data: Pictures, path: str | os.PathLike, *,
                 steps: int | None = None, epochs: float = 1, batch_size: int = 64, seed: int = 0,
                 augment: tuple[str, ...] = (), top_k: int | None = None, progress: bool = True,
                 teacher_precision: str = "auto") -> StoredLogits:
    """Run `teacher`, in eval mode, on every batch of a run of `distill`, and store its logits.

    Stored are log-probabilities in float16, finest where classes are likely: all of them, or the
    `top_k` highest with their classes and the mean of the others, so that at temperature 1 the
    highest probabilities stay as they were. A file at `path` is taken as it is if it is of this
    teacher and run. Of several processes the main one works; logits stay in memory until they are
    written, 2 bytes each. Raises LabError on what makes no run, a teacher in train mode, logits
    that are not finite, a disk without room for them, and a file of another run.
    """
    live, team, path = LiveTeacher(teacher, teacher_precision), Team(), file_path(path)
    steps = require_length(epochs, steps, batch_size, len(data), 1)
    require_pictures(data)
    require_range("store_logits", "seed", seed, 0, 2**63)
    run = {"steps": steps, "batch_size": batch_size, "seed": seed, "augment": augment}
    made_for = {**_describe(data, run), "steps": steps, "teacher": live.identity, "top_k": top_k}
    if team.is_main and not _is_stored(path, made_for):
        with on_device(teacher) as place:
            tensors, classes = _run_teacher(live, data, made_for, progress, place, path)
        precision = live.choices["teacher_precision"]
        _write(path, {**made_for, "num_classes": classes, "precision": precision}, tensors)
    team.same(None)                 # the others wait for the file
    return StoredLogits(path)


def _run_teacher(live: LiveTeacher, data: Pictures, made_for: dict[str, Any], progress: bool,
                 place: torch.device, path: Path) -> tuple[dict[str, Tensor], int]:
    """The teacher's logits for every batch, as tensors over all rows, and the number of classes."""
    steps, size, top_k = made_for["steps"], made_for["batch_size"], made_for["top_k"]
    batches = Batches(data, size, made_for["seed"], tuple(made_for["augment"]), place)
    first = batches(1)
    live.prepare(first.inputs, data, made_for)
    logits = require_logits("store_logits", live.model, live.outputs(first).logits, data.labels)
    require_range("store_logits", "top_k", 1 if top_k is None else top_k, 1, logits.shape[1])
    each = sum(value.nbytes for value in _pack(logits, top_k, 1).values())
    storage.require_room("store_logits", path, each * steps)
    packed = []
    with progress_bar(steps * size, progress) as bar:
        for step in range(1, steps + 1):
            packed.append(_pack(live.outputs(batches(step)).logits, top_k, step))
            bar.update(size)
    views = zip(*(one.values() for one in packed))
    return dict(zip(packed[0], map(torch.cat, views))), logits.shape[1]


def _pack(logits: Tensor, top_k: int | None, step: int) -> dict[str, Tensor]:
    """Logits (B, classes) as they are stored: on the CPU, of the `top_k` likeliest classes."""
    if not torch.isfinite(logits).all():
        raise LabError(f"store_logits: the teacher's logits at step {step} are not finite; check "
                       "its weights, and whether it was trained on inputs normalised as these are")
    values, classes = logits.log_softmax(1), logits.shape[1]
    if top_k is None or top_k == classes:
        return {"values": _half(values)}
    highest, indices = values.topk(top_k, 1)
    rest = values.scatter(1, indices, -math.inf).logsumexp(1) - math.log(classes - top_k)
    kinds = torch.uint8, torch.int16, torch.int32
    smallest = next(kind for kind in kinds if classes - 1 <= torch.iinfo(kind).max)
    return {"values": _half(highest), "indices": indices.to("cpu", smallest), "rest": _half(rest)}


def _half(values: Tensor) -> Tensor:
    return values.clamp(min=LOWEST).to("cpu", torch.float16)


def _describe(data: Pictures, run: Mapping[str, Any]) -> dict[str, Any]:
    """What decides the views of a run.

    `order` is a digest of which pictures this version of torch draws, and other random numbers.
    """
    size, seed, augment = run["batch_size"], run["seed"], require_augment("distill", run["augment"])
    drawn = [batch_order(len(data), size, step, seed).double() for step in (1, run["steps"])]
    drawn.append(torch.rand(4, generator=generator_for(seed, STEP, 1), dtype=torch.float64))
    order = hashlib.sha256(torch.cat(drawn).numpy().tobytes()).hexdigest()
    return {"pictures": describe_pictures(data), "seed": seed, "batch_size": size,
            "augment": sorted(set(augment)), "order": order}


def _differences(there: dict[str, Any], here: dict[str, Any]) -> list[str]:
    """In words; another order is left out if another seed or set explains it."""
    texts = differences({name: there.get(name, "absent") for name in here}, here)
    return [text for text in texts if not text.startswith("order ")] or texts


def _is_stored(path: Path, made_for: dict[str, Any]) -> bool:
    """Whether the logits of this very run are at `path`; LabError if others are, or none can be."""
    storage.require_place("store_logits", path)
    if not storage.is_file(path):
        return False
    if problems := _differences(StoredLogits(path).made_for, made_for):
        raise _another_run("store_logits", path, problems, "Give another path, or delete the file")
    return True


def _another_run(caller: str, path: Path, problems: list[str], mend: str) -> LabError:
    return LabError(f"{caller}: {path} holds logits for another run: {'; '.join(problems)}. {mend}")


def _write(path: Path, made_for: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """The whole file or none; a folder that was deleted while the teacher ran is made anew."""
    text = json.dumps(made_for)
    sha256 = storage.digest(text, tensors, shapes=False)
    about = {"format": FORMAT, "made_for": text, "sha256": sha256}
    storage.write_tensors("store_logits", path, tensors, about, make_folder=True)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor], str]:
    """The run, the tensors and the sha256 of a file; LabError unless it is a whole one."""
    if not storage.is_file(path):
        raise LabError(f"StoredLogits: there is no file {storage.printable(path)!r}; "
                       f"store_logits(teacher, data, {storage.printable(path)!r}) makes it")
    with storage.refused(f"StoredLogits: {path} is no file of stored logits, or damaged",
                         "delete it and make it anew: store_logits(teacher, data, path)"):
        header, tensors = storage.read_tensors(path)
        if header.get("format") != FORMAT:
            raise ValueError(f"its format is {header.get('format')!r}")
        if storage.digest(header["made_for"], tensors, shapes=False) != header["sha256"]:
            raise ValueError("its content is not what was written")
        made_for = storage.parse_json(header["made_for"])
        _require_whole_run(made_for, tensors)
        return made_for, tensors, header["sha256"]


def _require_whole_run(made_for: Any, tensors: dict[str, Tensor]) -> None:
    """Raise unless the tensors have logits for every view of the run that the file describes."""
    if not isinstance(made_for, dict):
        raise ValueError(f"it names a {type(made_for).__name__} in place of a run")
    storage.require_fields("its run", made_for, ABOUT, "it was put together by hand")
    rows, classes = made_for["steps"] * made_for["batch_size"], made_for["num_classes"]
    shapes = {name: tuple(value.shape) for name, value in tensors.items()}
    whole = {"values": (rows, classes)}
    if shapes.get("indices"):                                      # top_k
        stored = rows, shapes["indices"][-1]
        whole = {"values": stored, "indices": stored, "rest": (rows,)}
    if shapes != whole:
        raise ValueError(f"its tensors are {shapes}, not {rows} answers on {classes} classes")
    indices = tensors.get("indices", torch.zeros(1, dtype=torch.uint8))
    if indices.is_floating_point() or not 0 <= int(indices.min()) <= int(indices.max()) < classes:
        raise ValueError(f"it names classes beyond the {classes} of the run")
    if not all(value.isfinite().all() for value in tensors.values()):
        raise ValueError("its numbers are not all finite")
