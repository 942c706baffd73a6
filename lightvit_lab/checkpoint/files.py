"""One safetensors file a model: its tensors, the recipe that builds it, and a sha256 over both. No pickle, no code."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .. import models
from ..errors import LabError, require_choice

FORMAT = "lightvit_lab model 1"
LARGEST = 2**32                        # bytes of a file that is read
PRECISIONS = ("as it is", "float16")


def save(model: nn.Module, path: str | os.PathLike, precision: str = "as it is") -> str:
    """Write `model`, made by `models.create_model`, to `path` and return the file's sha256; all of it or nothing.

    `precision="float16"` halves the file: floating-point tensors are rounded, and `load` gives them back as float32.
    Raises LabError for models whose recipe is not known, for arguments that JSON cannot hold, and where `path` cannot
    be written.
    """
    from safetensors.torch import save as encode

    require_choice("checkpoint.save", "precision", precision, PRECISIONS)
    recipe = _recipe_text(model)
    tensors = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    if precision == "float16":
        tensors = {name: value.half() if value.is_floating_point() else value for name, value in tensors.items()}
    about = json.dumps({"format": FORMAT, "recipe": recipe, "sha256": _digest(tensors, recipe)})
    content = encode(tensors, {"lightvit_lab": about})      # one entry: of several, safetensors leaves the order to chance
    path = Path(path)
    temporary = path.with_name(path.name + ".partial")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        raise LabError(f"checkpoint.save: {path} cannot be written ({error.strerror}); give a path in a folder that "
                       "exists and is yours") from error
    return hashlib.sha256(content).hexdigest()


def load(path: str | os.PathLike) -> nn.Module:
    """The model that `save` wrote, in eval mode, its weights in the type they are created with (float32).

    `path` may name a model of the zoo, "zoo:lab_vit_teacher/cifar10". Verifies the sha256 over tensors and recipe before
    anything is built. Raises LabError, naming the file and the fault, on what is damaged or was not written by `save`.
    """
    if str(path).startswith("zoo:"):
        from .zoo import find

        path = find(str(path))
    tensors, recipe = _read(Path(path))
    model = models.create_model(recipe["name"], **recipe["arguments"])
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        reason = "; ".join(line.strip() for line in str(error).splitlines()[1:3])
        raise LabError(f"checkpoint.load: the tensors in {path} are not those of {recipe['name']}: {reason[:300]}. The file is "
                       "of another version of the lab, or was put together by hand; save the model anew") from error
    return model.eval()


def _recipe_text(model: nn.Module) -> str:
    recipe = getattr(model, "recipe", None)
    if recipe is None:
        raise LabError(f"checkpoint.save: this {type(model).__name__} has no recipe to build it from; make models by "
                       "models.create_model(name, ...), which remembers name and arguments")
    try:
        return json.dumps(recipe, sort_keys=True)
    except TypeError as error:
        raise LabError(f"checkpoint.save: the arguments of {recipe['name']} are {recipe['arguments']}, which a file cannot "
                       f"hold ({error}); create the model with numbers, text, lists alone") from error


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and recipe of a file, verified. Raises LabError on any other."""
    from safetensors import safe_open

    if not path.is_file():
        raise LabError(f"checkpoint.load: there is no file {str(path)!r}; give one that checkpoint.save wrote, or "
                       '"zoo:MODEL/SET"')
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError(f"it has {path.stat().st_size:,} bytes, more than the {LARGEST:,} that are read")
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get("lightvit_lab", "{}"))
            if about.get("format") != FORMAT:
                raise ValueError(f"its format is {about.get('format')!r}, not {FORMAT!r}")
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        if _digest(tensors, about["recipe"]) != about["sha256"]:
            raise ValueError("its tensors or its recipe have changed since it was written")
        recipe = json.loads(about["recipe"])
        return tensors, {"name": str(recipe["name"]), "arguments": dict(recipe["arguments"])}
    except Exception as error:      # safetensors and json raise several kinds, and each means the same here
        reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        raise LabError(f"checkpoint.load: {path} is no model that can be read ({reason}); fetch or save it anew, or read "
                       "files of authors by checkpoint.import_official(path)") from error


def _digest(tensors: dict[str, Tensor], recipe: str) -> str:
    """sha256 over the recipe and every tensor's name, type, shape and bytes, by name."""
    digest = hashlib.sha256(recipe.encode())
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
