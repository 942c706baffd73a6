"""Stored results: one JSON file a run, in `book/results/`, with what made it and where.

A run may leave the weights of a model beside its file: float16 tensors alone, and their sha256 in
the file.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_origin, get_type_hints

from .. import runtime, storage
from ..errors import LabError, require_choice

if TYPE_CHECKING:
    from torch import nn

_MEND = "`make reference` writes it anew"
_ABOUT = Path(__file__).with_name("about.json")


@dataclass(frozen=True)
class StoredResult:
    """One stored run; `data` is what the figures draw, the rest says where it comes from."""

    name: str
    device: str
    date: str
    seeds: list[int]
    versions: dict[str, str]
    commit: str
    command: str
    seconds: float
    data: dict[str, Any]
    schema: int = 1

    @property
    def origin(self) -> str:
        """One line for the foot of a figure: the device, the day, the seeds, torch's version."""
        seeds, torch = ", ".join(map(str, self.seeds)), self.versions.get("torch", "?")
        return f"Stored run: {self.device}; {self.date[:10]}; seeds {seeds}; torch {torch}"


_TYPES = {name: get_origin(kind) or kind for name, kind in get_type_hints(StoredResult).items()}


def folder() -> Path:
    """Where stored results lie: `book/results` of a checkout, or the copy in a package."""
    return storage.book_folder("results")


def provenance() -> dict[str, Any]:
    """The device, date, versions and commit of what is made now."""
    return {"device": runtime.device_name(), "versions": runtime.versions(),
            "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "commit": runtime.commit()}


def names() -> tuple[str, ...]:
    """Names of the stored results, in alphabetical order."""
    return tuple(sorted(path.stem for path in folder().glob("*.json")))


def about(name: str) -> str:
    """What a stored run is about, in a sentence; "" for a name that `about.json` does not have."""
    return json.loads(_ABOUT.read_text(encoding="utf-8")).get(name, "")


def load(name: str) -> StoredResult:
    """Read one stored result. Raises LabError on unknown names and on broken files."""
    require_choice("results.load", "name", name, names())
    path = _file(name)
    where, fields = f"results.load: {path}", storage.read_json("results.load", path, _MEND)
    storage.require_fields(where, fields, _TYPES, _MEND)
    if unknown := sorted(set(fields) - set(_TYPES)):
        raise LabError(f"{where} has unknown fields {str(unknown)[:300]}; {_MEND}")
    if fields["schema"] != 1 or fields["name"] != name:
        raise LabError(f"{where}: schema {fields['schema']} and name {fields['name'][:100]!r} do "
                       f"not fit; schema 1 and name {name!r} are read; {_MEND}")
    return StoredResult(**fields)


def save(name: str, data: dict[str, Any], seeds: list[int], command: str, seconds: float) -> Path:
    """Write one stored result with this machine's device, date and versions; an older one goes.

    Weights that `save_weights` made for it get their name here, and not before: a kill leaves the
    old pair or the new one. Raises LabError for numbers that are not finite, and on a full disk.
    """
    result = StoredResult(name=name, seeds=seeds, command=command, seconds=round(seconds, 1),
                          data=data, **provenance())
    storage.write_json("results.save", _file(name), asdict(result))
    storage.settle("results.save", _file(name, "safetensors"), data.get("weights_sha256"))
    return _file(name)


def save_weights(name: str, model: nn.Module) -> dict[str, str]:
    """Write the weights of `model` in float16 beside the result `name`; their sha256, for `save`.

    Until `save` stores it, `load_weights` gives the weights of the result that is there. Raises
    LabError for weights that are not finite, or not in float16.
    """
    from safetensors.torch import save

    caller, path = "results.save_weights", _file(name, "safetensors")
    halves = {key: storage.portable(caller, key, value, half=True)
              for key, value in model.state_dict().items()}
    if bad := [key for key, value in halves.items() if not value.isfinite().all()]:
        raise LabError(f"{caller}: {', '.join(bad[:4])} of {name} have numbers that are not "
                       "finite; the weights stored before stay. Train the model anew")
    with suppress(LabError):        # a kill may have come before the last weights got their name
        storage.settle(caller, path, load(name).data.get("weights_sha256"))
    content = save(halves)
    storage.write(caller, storage.next_of(path), content)
    return {"weights_sha256": hashlib.sha256(content).hexdigest()}


def load_weights(name: str, model: nn.Module) -> nn.Module:
    """`model` with the weights that the run `name` left. Raises LabError where they are others."""
    path, expected = _file(name, "safetensors"), load(name).data.get("weights_sha256")
    caller = f"results.load_weights: {path}"
    mend = f"`python -m lightvit_lab.experiments.studies {name}` makes them"
    if expected is None or not any(map(storage.is_file, (path, storage.next_of(path)))):
        raise LabError(f"results.load_weights: {name!r} has no weights at {path}; {mend}")
    if (whole := storage.find_version(path, expected)) is None:
        raise LabError(f"{caller} is damaged, or of another run than {name}.json; fetch both anew, "
                       f"or {mend}")
    with storage.refused(f"{caller} has other tensors than the model given",
                         f"give the model of the run {name!r}"):
        _, halves = storage.read_tensors(whole, most=storage.LARGEST)
        model.load_state_dict(halves)     # float16 into the model's own type
    return model


def _file(name: str, ending: str = "json") -> Path:
    return folder() / f"{name}.{ending}"
