"""The zoo: teachers, students and LightViT that are trained already.

A model lies in `book/zoo` as float16 safetensors, next to a card: recipe, seed, accuracy, device,
seconds, sha256. `experiments.zoo` trains them; pages compress, merge and distil what lies there.
"""

from __future__ import annotations

import runpy
import shlex
from pathlib import Path
from typing import Any

from .. import storage
from ..errors import LabError, require_choice

CARD = {"name": str, "model": str, "dataset": str, "sha256": str, "validation": dict, "test": dict}


def folder() -> Path:
    """Where the zoo lies: `book/zoo` of a checkout, or the copy in an installed package."""
    return storage.book_folder("zoo")


def names() -> tuple[str, ...]:
    """The models that lie in the zoo, as "MODEL/SET", in alphabetical order."""
    return tuple(sorted(path.stem.replace("-", "/") for path in folder().glob("*.json")))


def file(name: str, ending: str) -> Path:
    """Where weights ("safetensors") and card ("json") of "MODEL/SET" lie."""
    return folder() / f"{name.replace('/', '-')}.{ending}"


def card(name: str) -> dict[str, Any]:
    """The card of one model: model, arguments, set, settings, seed, scores, device, date, sha256.

    Raises LabError on unknown names and damaged cards.
    """
    require_choice("zoo", "name", name, names())
    path, mend = file(name, "json"), _mend(name)
    about = storage.read_json("zoo", path, mend)
    storage.require_fields(f"zoo: {path}", about, CARD, mend)
    for part in ("validation", "test"):
        storage.require_fields(f"zoo: {part} of {path}", about[part], {"accuracy": float}, mend)
    return about


def find(name: str) -> Path:
    """The file of "zoo:MODEL/SET". Raises LabError on unknown names and where its card differs."""
    about = card(name.removeprefix("zoo:"))
    path = file(name.removeprefix("zoo:"), "safetensors")
    found = storage.find_version(path, about["sha256"])
    if found is None:
        raise LabError(f"checkpoint.load: {path} is missing, damaged, or of another run than its "
                       f"card; {_mend(about['name'])}")
    return found


def _mend(name: str) -> str:
    """How to get weights and card of a model back: a command that works wherever it is typed."""
    where = shlex.quote(str(folder()))
    both = " ".join(file(name, ending).name for ending in ("json", "safetensors"))
    fetch = "install lightvit-lab anew"
    if (folder().parents[1] / ".git").exists():
        fetch = f"git -C {where} checkout -- {both}"
    return f"fetch both anew ({fetch}), or train it: python -m lightvit_lab.experiments.zoo {name}"


if __name__ == "__main__":      # the command on older cards
    runpy.run_module("lightvit_lab.experiments.zoo", run_name="__main__")
