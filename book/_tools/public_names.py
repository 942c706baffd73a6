"""What is public in `lightvit_lab`: what a room, or the folder of a method, offers on its face.

A face is an `__init__`: it offers what its `__all__` names or, where it has none, what it defines
or brings from inside its room. A room of one file is its own face. What a page takes from deeper
inside a room is public too, as readers meet it there.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

import lightvit_lab

LIBRARY = lightvit_lab.__name__
# a command; the parts of exercises, which are declared and never imported by a reader
NOT_FACES = re.compile(r"cli\b|exercises\.")
WIDTH = 88                      # of a signature
DEFAULT = 18                    # of the default of one argument
OPEN = re.compile(r"(?:\b(?:al|e\.g|i\.e|vs|cf|Fig|Eq)|\.\.)\.$")     # ends a word, no sentence
PACKAGES = r"\b(?:[a-z]\w*\.)+(?=[A-Z])"      # before the name of a class
PAGE = re.compile(r"chapters/(\w+/\w+)")


@dataclass(frozen=True, eq=False)
class Name:
    """A public name: where it is listed, what it is, and every path that leads to it.

    `face` and the paths are below `lightvit_lab`, as in `dynamic.token_merging`.
    """

    face: str
    name: str
    value: Any
    paths: tuple[str, ...]

    @property
    def path(self) -> str:
        """Face and name."""
        return f"{self.face}.{self.name}"

    @property
    def room(self) -> str:
        """The room that it is in."""
        return self.face.partition(".")[0]

    @property
    def anchor(self) -> str:
        """Its id in the page: dots would be classes to a search in it."""
        return self.path.replace(".", "-")

    @property
    def signature(self) -> str:
        """Its name with arguments and defaults, without types, cut where it gets long."""
        return self.name + (signature(self.value) if callable(self.value) else "")

    @property
    def sentence(self) -> str:
        """The first sentence of its docstring; of a constant, what it holds."""
        if inspect.isroutine(self.value) or inspect.isclass(self.value):
            return first_sentence(inspect.getdoc(self.value) or "")
        if isinstance(self.value, dict):
            return f"A table with the entries {_listed(self.value)}."
        if isinstance(self.value, (tuple, list)):
            return f"The values {_listed(self.value)}."
        if isinstance(self.value, str):
            return f"A text: {self.value}."
        kind = "A number" if isinstance(self.value, (int, float)) else "A kind of value"
        return f"{kind}, `{re.sub(PACKAGES, '', repr(self.value))}`."

    @property
    def home(self) -> str:
        """The page that its module, or its face, names in its docstring; "" where none is."""
        defined = sys_module(getattr(self.value, "__module__", "") or "")
        for module in (defined, sys_module(f"{LIBRARY}.{self.face}")):
            found = PAGE.search(module.__doc__ or "") if module else None
            if found:
                return found[1]
        return ""


def sys_module(name: str) -> ModuleType | None:
    """A module of the library; None for any other."""
    return importlib.import_module(name) if name.split(".")[0] == LIBRARY else None


def first_sentence(text: str) -> str:
    """The first sentence of a docstring, in one line."""
    words = text.partition("\n\n")[0].split()
    for place, word in enumerate(words):
        end = word.rstrip("`)*")
        if end.endswith((".", "!", "?")) and not OPEN.search(end):
            return " ".join(words[:place + 1])
    return " ".join(words)


def signature(value: Any) -> str:
    """Arguments and defaults of a function or class."""
    try:
        arguments = inspect.signature(value).parameters.values()
    except (TypeError, ValueError):
        return ""
    words, star = [], False
    for one in arguments:
        if one.kind is one.KEYWORD_ONLY and not star:
            words.append("*")
        star |= one.kind in (one.KEYWORD_ONLY, one.VAR_POSITIONAL)
        words.append(_argument(one))
    while words and len(", ".join(words)) > WIDTH:
        words = [*words[:-2 if words[-1] == "…" else -1], "…"]
    return f"({', '.join(words)})"


def _argument(one: inspect.Parameter) -> str:
    stars = {one.VAR_POSITIONAL: "*", one.VAR_KEYWORD: "**"}.get(one.kind, "")
    default = "" if one.default is one.empty else f"={short(one.default, DEFAULT)}"
    return f"{stars}{one.name}{default}"


def short(value: Any, width: int) -> str:
    """A value as code, in at most so many characters."""
    text = getattr(value, "__name__", None) or repr(value)
    return text if len(text) <= width and "<" not in text and "\n" not in text else "…"


def _listed(values: Iterable[Any]) -> str:
    return ", ".join(f"`{short(value, 30)}`" for value in values)


def givers(names: Iterable[Name]) -> dict[tuple[str, str], Name]:
    """Room and name of a class -> the first function there that returns one, by its annotation."""
    found: dict[tuple[str, str], Name] = {}
    for one in names:
        if inspect.isroutine(one.value):
            returned = str(getattr(one.value, "__annotations__", {}).get("return", ""))
            for word in re.findall(r"[A-Z]\w+", returned):
                found.setdefault((one.room, word), one)
    return found


# --- faces

def rooms() -> list[str]:
    """The rooms of the library, in alphabetical order."""
    return sorted(about.name for about in pkgutil.iter_modules(lightvit_lab.__path__)
                  if not NOT_FACES.match(about.name))


@cache
def faces() -> dict[str, ModuleType]:
    """Path below the library -> module, of each face; those of the rooms themselves come first."""
    folders = [about.name for about in pkgutil.walk_packages(lightvit_lab.__path__, f"{LIBRARY}.")
               if about.ispkg]
    names = {*rooms(), *(name.partition(".")[2] for name in folders)}
    return {name: importlib.import_module(f"{LIBRARY}.{name}")
            for name in sorted(names, key=lambda name: (name.count("."), name))
            if not NOT_FACES.match(name)}


def offered(module: ModuleType) -> list[str]:
    """The names that a face offers: those of its `__all__`, if its author wrote one."""
    names = [name for name in getattr(module, "__all__", ())
             if not _is_registered(module, name, getattr(module, name))]
    if names:
        return sorted(names)
    room = ".".join(module.__name__.split(".")[:2])
    return sorted(name for name, value in vars(module).items()
                  if not name.startswith("_") and not inspect.ismodule(value)
                  and _is_of(room, module, name, value))


def _is_of(room: str, module: ModuleType, name: str, value: Any) -> bool:
    """Whether a face without `__all__` has this name from inside its room, or is its author.

    Of a room of one file, constants are its own business.
    """
    if inspect.isroutine(value) or inspect.isclass(value):
        inside = (value.__module__ or "").startswith(room)
        return inside and not _is_registered(module, name, value)
    return name.isupper() and hasattr(module, "__path__") and not isinstance(value, bool)


def _is_registered(module: ModuleType, name: str, value: Any) -> bool:
    """Whether timm put a function there, and in `__all__`: models that it is to know by name."""
    return (getattr(value, "__module__", None) == module.__name__
            and getattr(value, "__qualname__", name) != name)


def public(used: Iterable[str] = ()) -> list[Name]:
    """Every public name once, by face and name; `used` are paths that pages take from deeper in.

    What several faces offer is listed by the shortest of those of its own room.
    """
    found: dict[Any, list[tuple[str, str, Any]]] = {}
    for path, face, name, value in (*_on_faces(), *_deeper(used)):
        found.setdefault(_identity(path, value), []).append((face, name, value))
    names = []
    for places in found.values():
        face, name, value = min(places, key=_foreign)
        paths = tuple(dict.fromkeys(f"{face}.{name}" for face, name, _ in places))
        names.append(Name(face, name, value, paths))
    return sorted(names, key=lambda one: (one.face, one.name.lower(), one.name))


def _on_faces() -> Iterator[tuple[str, str, str, Any]]:
    for face, module in faces().items():
        for name in offered(module):
            yield f"{face}.{name}", face, name, getattr(module, name)


def _deeper(used: Iterable[str]) -> Iterator[tuple[str, str, str, Any]]:
    """Functions and classes that paths lead to, or through, such as `results.load` of a result."""
    for path in sorted(used):
        face, name, value = _walk(path)
        if inspect.isroutine(value) or inspect.isclass(value):
            yield f"{face}.{name}", face, name, value


def _walk(path: str) -> tuple[str, str, Any]:
    """The module that a path leads into, and the name that it asks that module for."""
    module, parts = lightvit_lab, path.split(".")
    for place, part in enumerate(parts):
        with suppress(ImportError):
            importlib.import_module(f"{module.__name__}.{part}")
        value = getattr(module, part, None)
        if not inspect.ismodule(value):
            return ".".join(parts[:place]), part, value
        module = value
    return path, "", None


def _identity(path: str, value: Any) -> Any:
    """Functions and classes are known by what they are, constants by where they are."""
    return id(value) if inspect.isroutine(value) or inspect.isclass(value) else path


def _foreign(place: tuple[str, str, Any]) -> tuple[bool, int]:
    face, _, value = place
    own = (getattr(value, "__module__", "") or "").split(".")[1:2] == face.split(".")[:1]
    return not own, face.count(".")
