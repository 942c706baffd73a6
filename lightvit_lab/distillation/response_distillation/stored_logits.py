"""A teacher's answers on disk: it runs once, and every student learns from the file (TinyViT's way,
arXiv 2207.10666).

Which pictures a step sees, and how they are cropped, mirrored and mixed, follows from (seed, step)
alone, so the file need not hold a view of any: the seed and a few logits are enough. Page:
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
from tqdm.auto import tqdm

from ... import storage
from ...data import Pictures
from ...errors import LabError, plain_numbers, require_choice, require_logits, require_range
from ...runtime import file_path
from ...runtime.running import on_device
from ...training import Batch
from ...training.augment import AUGMENTATIONS, Batches, batch_order
from ...training.processes import Team
from ...training.randomness import STEP, generator_for
from ...training.saving import describe_pictures, differences
from ...training.settings import require_length, require_pictures
from ..model_outputs import ModelOutputs
from ..teachers import LiveTeacher

FORMAT = "lightvit_lab stored logits 1"
ABOUT = {"pictures": str, "seed": int, "batch_size": int, "augment": list, "order": str,
         "steps": int, "teacher": str, "num_classes": int}
LOWEST = -60_000.0      # about the least that float16 holds; the probability is 0 long before


class StoredLogits:
    """What a teacher said in a run, read from `path`; `distill` takes it in the teacher's place.

    Raises LabError if the file is missing, damaged, or no such file. `made_for` says which run,
    `nbytes` the size of the file, `identity` how a checkpoint knows it.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = file_path(path)
        self.made_for, self._tensors, digest = _read(self.path)
        self.identity = f"stored logits {digest[:16]} of {self.made_for['teacher']}"
        self.num_classes, self.nbytes = self.made_for["num_classes"], self.path.stat().st_size

    def prepare(self, inputs: Tensor, data: Pictures, run: Mapping[str, Any]) -> None:
        """Raise LabError unless a run of these settings of `fit` on `data` sees the very views that
        were stored.
        """
        wanted = _describe(data, run, self.made_for["steps"])
        found = _differences(self.made_for, wanted)
        if (steps := _steps(data, run)) > self.made_for["steps"]:
            found.append(f"{self.made_for['steps']} steps are stored, and the run takes {steps}")
        if found:
            raise LabError(f"distill: {self.path} holds logits for another run: {'; '.join(found)}. Give distill the "
                           "settings they were stored for, or store_logits(teacher, data, path, ...) for this run")

    def outputs(self, batch: Batch, features: Sequence[int] = (),
            attention: Sequence[int] = ()) -> ModelOutputs:
        """What the teacher said of `batch`: log-probabilities (B, classes), which any softmax takes
        as logits.
        """
        if features or attention:
            raise LabError("distill: stored logits show no features and no attention; give the teacher itself, or "
                           "objectives on logits alone")
        rows = (batch.step - 1) * self.made_for["batch_size"] + batch.places
        values = self._tensors["values"][rows].float()
        if "indices" in self._tensors:
            indices, rest = self._tensors["indices"][rows].long(), self._tensors["rest"][rows].float()
            values = rest[:, None].repeat(1, self.num_classes).scatter_(1, indices, values)
        return ModelOutputs(values.to(batch.inputs.device))


@plain_numbers
def store_logits(teacher: nn.Module, data: Pictures, path: str | os.PathLike, *,
                 steps: int | None = None, epochs: float = 1, batch_size: int = 64, seed: int = 0,
                 augment: tuple[str, ...] = (), top_k: int | None = None, progress: bool = True,
                 teacher_precision: str = "auto") -> StoredLogits:
    """Run `teacher`, in eval mode, on every batch that `distill` will make with these settings, and
    keep what it says.

    Kept are log-probabilities in float16, finest where classes are likely: all of them, or the
    `top_k` highest with their classes and what the others have on average, so that at temperature 1
    the kept probabilities stay as they were. A file at `path` is taken as it is if it is of this
    teacher and run. Of several processes the main one works; the answers stay in memory until they
    are written, 2 bytes each. Raises LabError on what makes no run, a teacher in train mode, logits
    that are not finite, a disk without room for them, and a file of another run.
    """
    live, team = LiveTeacher(teacher, teacher_precision), Team()
    run = {"steps": steps, "epochs": epochs, "batch_size": batch_size, "seed": seed, "augment": augment}
    _require_run(data, run, top_k)
    made_for = {**_describe(data, run, _steps(data, run)), "steps": _steps(data, run), "teacher": live.identity,
                "top_k": top_k}
    if team.is_main and not _is_there(file_path(path), made_for):
        with on_device(teacher) as place:
            tensors, classes = _answers(live, data, made_for, progress, place, file_path(path))
        _write(file_path(path), {**made_for, "num_classes": classes, "precision": live.precision}, tensors)
    team.same(None)                 # the others wait for the file
    return StoredLogits(path)


def _answers(live: LiveTeacher, data: Pictures, made_for: dict[str, Any], progress: bool,
             place: torch.device, path: Path) -> tuple[dict[str, Tensor], int]:
    """What the teacher says of every batch, as tensors over all rows, and the number of classes."""
    batches = Batches(data, made_for["batch_size"], made_for["seed"], tuple(made_for["augment"]), place)
    first = batches(1)
    live.prepare(first.inputs, data, made_for)
    said, top_k = require_logits("store_logits", live.model, live.outputs(first).logits, data.labels), made_for["top_k"]
    classes = said.shape[1]
    require_range("store_logits", "top_k", 1 if top_k is None else top_k, 1, classes)
    each = sum(value.nbytes for value in _pack(said, top_k, 1).values())
    storage.require_room("store_logits", path, each * made_for["steps"])
    hidden = not progress or "LIGHTVIT_BOOK" in os.environ
    found = []
    with tqdm(total=made_for["steps"] * len(first.labels), unit=" images", unit_scale=True, disable=hidden,
              leave=False) as bar:
        for step in range(1, made_for["steps"] + 1):
            found.append(_pack(live.outputs(batches(step)).logits, top_k, step))
            bar.update(len(first.labels))
    return {name: torch.cat([one[name] for one in found]) for name in found[0]}, classes


def _pack(logits: Tensor, top_k: int | None, step: int) -> dict[str, Tensor]:
    """Logits (B, classes) -> what is kept of them, on the CPU."""
    if not torch.isfinite(logits).all():
        raise LabError(f"store_logits: the teacher's logits at step {step} are not finite, and nothing can be learnt "
                       "from them; look at its weights, and whether it was trained on inputs normalised as these are")
    values, classes = logits.log_softmax(1), logits.shape[1]
    if top_k is None or top_k == classes:
        return {"values": _half(values)}
    kept, indices = values.topk(top_k, 1)
    rest = values.scatter(1, indices, -math.inf).logsumexp(1) - math.log(classes - top_k)
    smallest = next(kind for kind in (torch.uint8, torch.int16, torch.int32) if classes - 1 <= torch.iinfo(kind).max)
    return {"values": _half(kept), "indices": indices.to("cpu", smallest), "rest": _half(rest)}


def _half(values: Tensor) -> Tensor:
    return values.clamp(min=LOWEST).to("cpu", torch.float16)


def _steps(data: Pictures, run: Mapping[str, Any]) -> int:
    return run["steps"] or math.ceil(run["epochs"] * len(data) / run["batch_size"])


def _describe(data: Pictures, run: Mapping[str, Any], steps: int) -> dict[str, Any]:
    """What decides the views of a run; `order` also notes which pictures this version of torch
    draws, and what else.
    """
    augment = (run["augment"],) if isinstance(run["augment"], str) else run["augment"]
    size, seed = run["batch_size"], run["seed"]
    drawn = [batch_order(len(data), size, step, seed).double() for step in (1, steps)]
    drawn.append(torch.rand(4, generator=generator_for(seed, STEP, 1), dtype=torch.float64))
    order = hashlib.sha256(torch.cat(drawn).numpy().tobytes()).hexdigest()
    return {"pictures": describe_pictures(data), "seed": seed, "batch_size": size, "augment": sorted(set(augment)),
            "order": order}


def _differences(there: dict[str, Any], here: dict[str, Any]) -> list[str]:
    """In words; another seed or set also gives another order, which is then not worth a word."""
    found = differences({name: there.get(name, "absent") for name in here}, here)
    return [text for text in found if not text.startswith("order ")] or found


def _require_run(data: Pictures, run: Mapping[str, Any], top_k: int | None) -> None:
    require_length(run["epochs"], run["steps"], run["batch_size"], len(data), 1)
    require_pictures(data)
    require_range("store_logits", "seed", run["seed"], 0, 2**63)
    require_range("store_logits", "top_k", 1 if top_k is None else top_k, 1)
    for name in (run["augment"],) if isinstance(run["augment"], str) else run["augment"]:
        require_choice("store_logits", "augment", name, AUGMENTATIONS)


def _is_there(path: Path, made_for: dict[str, Any]) -> bool:
    """Whether the answers to this very run lie at `path`. Raises LabError if others do, or nothing
    can be put there.
    """
    storage.require_place("store_logits", path)
    if not storage.is_file(path):
        return False
    if found := _differences(StoredLogits(path).made_for, made_for):
        raise LabError(f"store_logits: {path} holds logits for another run: {'; '.join(found)}. Give another path, or "
                       "delete the file")
    return True


def _write(path: Path, made_for: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """The whole file or none; a folder that was deleted while the teacher ran is made anew."""
    text = json.dumps(made_for)
    about = {"format": FORMAT, "made_for": text,
             "sha256": storage.digest(text, tensors, shapes=False)}
    storage.write_tensors("store_logits", path, tensors, about, make_folder=True)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor], str]:
    """The run, the tensors and the sha256 of a file. Raises LabError on anything but a whole one."""
    if not storage.is_file(path):
        raise LabError(f"StoredLogits: there is no file {storage.printable(path)!r}; "
                       f"store_logits(teacher, data, {storage.printable(path)!r}) makes it")
    with storage.refused(f"StoredLogits: {path} is no file of stored logits, or damaged",
                         "delete it and make it anew: store_logits(teacher, data, path)"):
        header, tensors = storage.read_tensors(path, _header)
        if storage.digest(header["made_for"], tensors, shapes=False) != header["sha256"]:
            raise ValueError("its content is not what was written")
        made_for = storage.parse_json(header["made_for"])
        _require_answers(made_for, tensors)
        return made_for, tensors, header["sha256"]


def _header(found: dict[str, str]) -> dict[str, str]:
    """The metadata of a file of this format. Raises ValueError on another's."""
    if found.get("format") != FORMAT:
        raise ValueError(f"its format is {found.get('format')!r}")
    return found


def _require_answers(made_for: Any, tensors: dict[str, Tensor]) -> None:
    """Raise unless the tensors are answers to every view of the run that the file names."""
    if not isinstance(made_for, dict):
        raise ValueError(f"it names a {type(made_for).__name__} in place of a run")
    storage.require_fields("its run", made_for, ABOUT, "it was put together by hand")
    rows, classes = made_for["steps"] * made_for["batch_size"], made_for["num_classes"]
    found = {name: tuple(value.shape) for name, value in tensors.items()}
    kept = (rows, found["indices"][-1]) if found.get("indices") else None      # the top_k
    whole = {"values": kept or (rows, classes)}
    if kept:
        whole |= {"indices": kept, "rest": (rows,)}
    if found != whole:
        raise ValueError(f"its tensors are {found}, not {rows} answers on {classes} classes")
    indices = tensors.get("indices", torch.zeros(1, dtype=torch.uint8))
    if indices.is_floating_point() or not 0 <= int(indices.min()) <= int(indices.max()) < classes:
        raise ValueError(f"it names classes beyond the {classes} of the run")
    if not all(value.isfinite().all() for value in tensors.values()):
        raise ValueError("its numbers are not all finite")
