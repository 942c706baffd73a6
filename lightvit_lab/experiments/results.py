"""Stored results: one JSON file a run, in `book/results/`, with the device, date, seeds, versions and command that made it.

A run may leave the weights of a model beside its file: float16 tensors alone, and their sha256 in the file.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import runtime
from ..errors import LabError, require_choice

if TYPE_CHECKING:
    from torch import nn

_TYPES: dict[str, type | tuple[type, ...]] = {
    "schema": int, "name": str, "device": str, "date": str, "seeds": list, "versions": dict,
    "commit": str, "command": str, "seconds": (int, float), "data": dict,
}


@dataclass(frozen=True)
class StoredResult:
    """One stored run; `data` is what the figures draw, the rest says where it comes from. `seconds` is wall time."""

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
        """One line to stand beside a figure: the device, the day, the seeds, torch's version."""
        seeds = ", ".join(str(seed) for seed in self.seeds)
        return f"Stored run: {self.device}; {self.date[:10]}; seeds {seeds}; torch {self.versions.get('torch', '?')}"


def folder() -> Path:
    """Where stored results lie: `book/results` of a checkout, or the copy that an installed package carries."""
    package = Path(__file__).resolve().parents[1]
    checkout = package.parent / "book" / "results"
    return checkout if checkout.is_dir() else package / "stored_results"


def names() -> tuple[str, ...]:
    """Names of the stored results, in alphabetical order."""
    return tuple(sorted(path.stem for path in folder().glob("*.json")))


def load(name: str) -> StoredResult:
    """Read one stored result. Raises LabError on unknown names, and names file and field of a broken one."""
    require_choice("results.load", "name", name, names())
    path = folder() / f"{name}.json"
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise LabError(f"results.load: {path} is no JSON ({error}); `make reference` writes it anew") from error
    _require_fields(path, fields)
    return StoredResult(**fields)


def save(name: str, data: dict[str, Any], seeds: list[int], command: str, seconds: float) -> Path:
    """Write one stored result with this machine's device, date and versions; an older one of that name is replaced."""
    result = StoredResult(name, runtime.device_name(), datetime.now(timezone.utc).isoformat(timespec="seconds"), seeds,
                          runtime.versions(), runtime.commit(), command, round(seconds, 1), data)
    path = folder() / f"{name}.json"
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(asdict(result), indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)
    return path


def save_weights(name: str, model: nn.Module) -> dict[str, str]:
    """Write the weights of `model` in float16 beside the result `name`; their sha256, to be stored with it."""
    from safetensors.torch import save

    halves = {key: (value.half() if value.is_floating_point() else value).contiguous().cpu()
              for key, value in model.state_dict().items()}
    content = save(halves)
    (folder() / f"{name}.safetensors").write_bytes(content)
    return {"weights_sha256": hashlib.sha256(content).hexdigest()}


def load_weights(name: str, model: nn.Module) -> nn.Module:
    """`model` with the weights beside the stored result `name`. Raises LabError if they are not those the run left."""
    from safetensors.torch import load as read

    path = folder() / f"{name}.safetensors"
    expected = load(name).data.get("weights_sha256")
    if expected is None or not path.is_file():
        raise LabError(f"results.load_weights: the result {name!r} has no weights at {path}; "
                       f"`python -m lightvit_lab.experiments.studies {name}` makes them")
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != expected:
        raise LabError(f"results.load_weights: {path} is damaged, or of another run than {name}.json; fetch both anew, or run "
                       f"`python -m lightvit_lab.experiments.studies {name}`")
    model.load_state_dict(read(content))     # float16 into the model's own type
    return model


def _require_fields(path: Path, fields: Any) -> None:
    mend = "; `make reference` writes it anew"
    if not isinstance(fields, dict):
        raise LabError(f"results.load: {path} holds a {type(fields).__name__}, not an object{mend}")
    for field, kind in _TYPES.items():
        if field not in fields:
            raise LabError(f"results.load: {path} lacks the field {field!r}{mend}")
        if not isinstance(fields[field], kind) or isinstance(fields[field], bool):
            raise LabError(f"results.load: {path}: {field!r} is {fields[field]!r}, which is of the wrong type{mend}")
    if unknown := sorted(set(fields) - set(_TYPES)):
        raise LabError(f"results.load: {path} has unknown fields {unknown}{mend}")
    if fields["schema"] != 1 or fields["name"] != path.stem:
        raise LabError(f"results.load: {path}: schema {fields['schema']} and name {fields['name']!r} do not fit; "
                       f"schema 1 and name {path.stem!r} are read{mend}")
