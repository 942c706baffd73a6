"""Files as somebody could put them together by hand: another recipe, its sha256 honestly made anew."""

import json

from safetensors import safe_open
from safetensors.torch import save as encode

from lightvit_lab import storage


def parts(path):
    """What stands in a file: {"format", "recipe", "sha256"}, and the tensors."""
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()["lightvit_lab"]), {name: file.get_tensor(name) for name in file.keys()}


def forged(about, tensors, recipe):
    """The bytes of a file with `recipe`, an object or the text itself, in place of its own."""
    text = recipe if isinstance(recipe, str) else json.dumps(recipe)
    about = {**about, "recipe": text, "sha256": storage.digest(text, tensors)}
    return encode(tensors, {"lightvit_lab": json.dumps(about)})
