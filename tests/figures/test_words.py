"""Every figure of the library brings its words: all that a public function returns was `described`."""

import ast
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "lightvit_lab" / "figures"
MAKERS = {f"{path.stem}.{node.name}": node for path in sorted(FOLDER.glob("*.py"))
          for node in ast.parse(path.read_text(encoding="utf-8")).body
          if isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and node.returns
          and ast.unparse(node.returns) == "go.Figure" and path.stem != "display"}


def returned(function):
    """What a function gives back, as source; functions inside it aside."""
    inner = {node for one in ast.walk(function) if isinstance(one, ast.FunctionDef) and one is not function
             for node in ast.walk(one)}
    return [ast.unparse(node.value) for node in ast.walk(function) if isinstance(node, ast.Return) and node not in inner]


def test_there_are_figures():
    assert len(MAKERS) > 20


@pytest.mark.parametrize("name", MAKERS)
def test_a_figure_is_described_wherever_its_function_returns(name):
    found = returned(MAKERS[name])
    assert found and all(value.startswith("described(") for value in found), found


def test_a_figure_without_words_would_be_seen():
    bare = ast.parse("def f():\n    if a:\n        return described(x, 'y')\n    return x").body[0]
    assert sorted(returned(bare)) == ["described(x, 'y')", "x"]
