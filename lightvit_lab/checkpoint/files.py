"""One safetensors file a model: tensors, the recipe that makes it, and a sha256 over both."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from .. import storage
from ..errors import LabError, require_choice
from ..models.transforming import shared_weights
from ..runtime import file_path
from ..runtime.wrapped import plain_name, unwrapped
from ..storage import LARGEST, LARGEST_HEADER
from . import recipes, zoo

# 2: with plans, which a reader of 1 would ignore
FORMATS = {1: "lightvit_lab model 1", 2: "lightvit_lab model 2"}
PRECISIONS = ("as it is", "float16")


def save(model: nn.Module, path: str | os.PathLike, precision: str = "as it is") -> str:
    """Write `model` to `path` and return the file's sha256; all of it or nothing.

    `model` comes from `models.create_model` and any number of the lab's transforms, on whatever
    device; what its modules share they share again when it is loaded, and parts inside torch's
    wrappers (a compiled block) come plain. `precision="float16"` halves the file: floating-point
    tensors are rounded, and `load` gives them back as float32. Raises LabError for models whose
    recipe is not known or no longer fits, for arguments that JSON cannot hold, for numbers that
    float16 cannot hold, and where `path` cannot be written.
    """
    from safetensors.torch import save as encode

    require_choice("checkpoint.save", "precision", precision, PRECISIONS)
    model = unwrapped(model)
    recipe, plans = _recipe_text(model)
    tensors = {name: storage.portable("checkpoint.save", name, value, precision == "float16")
               for name, value in _plain(model.state_dict()).items()}
    about = json.dumps({"format": FORMATS[2 if plans else 1], "recipe": recipe,
                        "sha256": storage.digest(recipe, tensors)})
    # one entry: of several, their order is left to chance
    content = encode(tensors, {"lightvit_lab": about})
    if (header := int.from_bytes(content[:8], "little")) > LARGEST_HEADER:
        raise LabError(f"checkpoint.save: names and recipe take {header:,} bytes, and load reads "
                       f"{LARGEST_HEADER:,} of them; save a model of fewer plans")
    storage.write("checkpoint.save", file_path(path), content)
    return hashlib.sha256(content).hexdigest()


def load(path: str | os.PathLike) -> nn.Module:
    """The model that `save` wrote, in eval mode, in the types that models are made with (float32).

    `path` may name a model of the zoo, "zoo:lab_vit_teacher/cifar10". Verifies the sha256 over
    tensors and recipe before anything is built, and that the recipe makes what the tensors are
    before memory is taken for it; whoever wrote the file, nothing in it is executed. Raises
    LabError, naming the file and the fault, on what is damaged, was not written by `save`, or is of
    a newer version of the lab.
    """
    if str(path).startswith("zoo:"):
        path = zoo.find(str(path))
    tensors, text = _read(file_path(path))
    try:
        return recipes.rebuild(recipes.parse(text), _plain(tensors))
    except (ValueError, RecursionError) as error:       # LabError and json's own are ValueErrors
        raise LabError(f"checkpoint.load: {path} has no model that can be made: "
                       f"{str(error)[:600]}. The file is of another version of the lab, or was put "
                       "together by hand; save the model anew") from error


def _recipe_text(model: nn.Module) -> tuple[str, bool]:
    """The recipe of `model` as JSON, and whether it has plans.

    Raises LabError unless it makes what `model` is.
    """
    recipe = getattr(model, "recipe", None)
    if recipe is None:
        raise LabError(f"checkpoint.save: this {type(model).__name__} has no recipe to build it "
                       "from; make it by models.create_model, which remembers name and arguments")
    if shared := shared_weights(model, of_shared_modules=True):
        plan = {"transform": "share_weights",
                "names": [list(map(plain_name, names)) for names in shared]}
        others = [other for other in recipe.get("plans", []) if other != plan]
        recipe = {**recipe, "plans": [*others, plan]}
    try:
        text = json.dumps(recipe, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise LabError(f"checkpoint.save: the arguments of {recipe['name']} are "
                       f"{recipe['arguments']}, which a file cannot hold ({error}); create it with "
                       "numbers, text, lists alone") from error
    try:
        recipes.require_fit(recipes.parse(text), _plain(model.state_dict()))
    except LabError as error:
        raise LabError(f"checkpoint.save: load could not make this model anew: {error}. Change it "
                       "by arguments of create_model or by transforms alone") from error
    return text, bool(recipe.get("plans"))


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under the names that they have without wrappers."""
    return {plain_name(name): value for name, value in tensors.items()}


def _read(path: Path) -> tuple[dict[str, Tensor], str]:
    """Tensors and recipe of a file, verified. Raises LabError on any other."""
    if not storage.is_file(path):
        raise LabError(f"checkpoint.load: there is no file {storage.printable(path)!r}; give one "
                       'that checkpoint.save wrote, or "zoo:MODEL/SET"')
    with storage.refused(f"checkpoint.load: {path} is no model that can be read", "fetch or save "
                         "it anew; checkpoint.import_official(path) reads files of authors"):
        about, tensors = storage.read_tensors(path, _about, LARGEST)
        if storage.digest(about["recipe"], tensors) != about["sha256"]:
            raise ValueError("its tensors or its recipe have changed since it was written")
        return tensors, about["recipe"]


def _about(header: dict[str, str]) -> dict[str, Any]:
    """The lab's entry in the metadata of a file. Raises ValueError on another format."""
    about = storage.parse_json(header.get("lightvit_lab", "{}"))
    given = about.get("format")
    if given not in FORMATS.values():
        number = re.fullmatch(r"lightvit_lab model (\d{1,4})", str(given))
        if number and int(number[1]) > max(FORMATS):
            raise ValueError(f"its format is {given!r}, of a newer version of the lab than this "
                             "one; update the lab")
        raise ValueError(f"its format is {given!r}, not one of {', '.join(FORMATS.values())}")
    return about
