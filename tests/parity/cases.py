"""One case: what its files say, its inputs, and every number that it expects."""

import ast
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy
import torch
from drawn_weights import pictures
from torch import Tensor

# What describes a case; every other number in it is expected of the library.
DESCRIPTIONS = set(
    "source call what constructor kwargs model arch settings input inputs image seed timm note "
    "notes keepdim_note outputs arrays facts licence versions packages suggested_atol "
    "max_abs_diff_float32_vs_float64".split()
)


@dataclass
class Case:
    """A case. `name` is its path below the folder of fixtures, for people; `arrays` is what its
    .npz holds.
    """

    name: str
    facts: dict[str, Any]
    arrays: dict[str, numpy.ndarray] = field(default_factory=dict)
    given: set[str] = field(default_factory=set)  # the arrays that were read as inputs

    @property
    def source(self) -> str:
        """Whose code it was: a repository or a package."""
        source = self.facts.get("source") or ""
        if isinstance(source, dict):
            return str(source.get("repo") or source.get("package"))
        return str(source)

    @property
    def call(self) -> str:
        """What was called, in words."""
        words = (self.facts.get(name) for name in ("call", "model", "what"))
        return str(next(filter(None, words), ""))

    @property
    def kind(self) -> str:
        """A name for what a case is about, from what it says."""
        called = self.facts.get("constructor") or call_of(self.call)[0] or self.call[:40]
        return f"{self.source}: {called}" if called else self.source or "no source"

    @property
    def tolerance(self) -> tuple[float, float]:
        """How far numbers may be apart, as a share of the largest of them, and the most that this
        counts for.

        Cases that hold the statistics of many modules ask for a share of whatever is largest; all
        others stop at 1.
        """
        return self.facts.get("suggested_atol", 1e-4), math.inf if "stats" in self.facts else 1.0

    def tensor(self, name: str = "x") -> Tensor:
        """An input: as stored, or by the rule that the case gives. Raises KeyError where there
        is neither.
        """
        if name in self.arrays:
            self.given.add(name)
            return torch.from_numpy(self.arrays[name])
        rules = self.facts.get("inputs") or {}
        rule = rules.get(name) or self.facts.get("input")
        if not isinstance(rule, dict) or "shape" not in rule:
            raise KeyError(f"no array and no rule for the input {name!r}")
        return _drawn_input(rule)

    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of the pictures."""
        channels, height, width = self.tensor().shape[1:]
        return channels, height, width

    def expected(self, settings: tuple[str, ...] = ()) -> dict[str, Any]:
        """Every number expected, by its path in the .json or its name in the .npz; `settings`
        names more descriptions.
        """
        found = dict(_leaves(self.facts, DESCRIPTIONS | set(settings)))
        return found | {key: value for key, value in self.arrays.items() if key not in self.given}


def read_case(path: Path, root: Path) -> Case:
    """The case of a .json and the .npz beside it. Raises ValueError or OSError on files that are
    damaged.
    """
    facts = json.loads(path.read_text())
    if not isinstance(facts, dict):
        raise ValueError(f"a {type(facts).__name__} and no dictionary")
    arrays, stored = {}, path.with_suffix(".npz")
    if stored.exists():
        with numpy.load(stored) as opened:
            arrays = dict(opened)
    return Case(path.relative_to(root).with_suffix("").as_posix(), facts, arrays)


def call_of(text: str, name: str = r"[A-Za-z_][\w.]*") -> tuple[str, list[Any], dict[str, Any]]:
    """The first call in `text` of a function whose name matches `name`: the name, arguments,
    keywords; "" if none.

    Arguments that are no literals stay text. `dim 48`, `**{...}` and a bare `{...}` count as
    keywords.
    """
    found = re.search(rf"({name})\(", text)
    if not found:
        return "", [], {}
    arguments, keywords = [], {}
    for piece in _pieces(text[found.end() :]):
        named = re.match(r"(\w+)\s*=\s*(.+)$", piece, re.DOTALL) or re.match(
            r"(\w+) ([\d\[({].*)$", piece, re.DOTALL
        )
        value = _literal(named[2] if named else piece.removeprefix("**"))
        if named:
            keywords[named[1]] = value
        elif isinstance(value, dict):
            keywords |= value
        else:
            arguments.append(value)
    return found[1], arguments, keywords


def is_stats(value: Any) -> bool:
    """True for the statistics of a tensor that stand for all its values."""
    return isinstance(value, dict) and {"shape", "mean", "l2"} <= set(value)


def _leaves(value: Any, descriptions: set[str], path: str = "") -> Iterator[tuple[str, Any]]:
    """Path and value of each number, list of numbers or statistics that is no description."""
    if path.rpartition(".")[2] in descriptions or isinstance(value, str) and "sha256" not in path:
        return
    if isinstance(value, dict) and not is_stats(value):
        parts = value.items()
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        parts = enumerate(value)
    else:
        yield path, value
        return
    for key, part in parts:
        yield from _leaves(part, descriptions, f"{path}.{key}" if path else str(key))


def _drawn_input(rule: dict[str, Any]) -> Tensor:
    """Noise, or what the words of the rule say: whole numbers, or blocks of one colour each."""
    shape, seed, text = rule["shape"], rule["seed"], rule.get("rule", "")
    if limits := re.search(r"randint\((\d+),\s*(\d+),\s*shape\)", text):
        drawn = numpy.random.RandomState(seed).randint(int(limits[1]), int(limits[2]), shape)
        return torch.from_numpy(drawn.astype("float32"))
    if grid := re.search(r"kron.*standard_normal\(\(B,\s*3,\s*(\d+),\s*(\d+)\)", text):
        down, across = shape[2] // int(grid[1]), shape[3] // int(grid[2])
        blocks = pictures(seed, *shape[:2], int(grid[1]), int(grid[2]))
        return blocks.repeat_interleave(down, 2).repeat_interleave(across, 3)
    if text and ("kron" in text or "standard_normal" not in text):
        raise KeyError(f"no array, and a rule for the input that nobody knows: {text}")
    return pictures(seed, *shape)


def _pieces(text: str) -> list[str]:
    """What stands between the commas of `text`, up to the bracket that closes the call."""
    depth, quote, pieces = 0, "", [""]
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter in ")]}" and not depth:
            break
        else:
            depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and not depth and not quote:
            pieces.append("")
        else:
            pieces[-1] += letter
    return [piece.strip() for piece in pieces if piece.strip()]


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
