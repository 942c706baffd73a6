"""The rules of the house, read from the syntax tree of the library and of the book's tools.

Lines fit into 100 columns, no comprehension stands inside another, functions are short, what is
public has a docstring, methods run without packages that draw, and the library stays below a cap.
Each rule is a function that gives the lines of a source that break it, tried here on a made-up one.
"""

import ast
import tokenize
from collections.abc import Callable, Iterator
from functools import cache
from importlib.util import resolve_name
from io import StringIO
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIBRARY = ROOT / "lightvit_lab"
# code lines of the library without exercises/ and figures/, and what a further page may add
CAP, PAGES, A_PAGE = 12500, 11, 300
COLUMNS, LINES = 100, 60
LOWER_FLOORS = ("runtime", "errors", "storage", "components", "profiling", "data",
                "survey", "models", "training", "dynamic", "distillation", "compression", "explain")
DRAWING = {"plotly", "ipywidgets", "captum", "matplotlib", "pandas"}
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
DOCUMENTED = (*FUNCTIONS, ast.ClassDef)


def files() -> list[Path]:
    """Every Python file that the rules hold for."""
    book = ROOT / "book"
    folders = (LIBRARY.rglob("*.py"), (book / "_ext").glob("*.py"), (book / "_tools").glob("*.py"),
               (book / "grader").rglob("*.py"))
    return sorted(chain(*folders))


def by_file(paths: list[Path]) -> pytest.MarkDecorator:
    """The test once for each file, named by its path."""
    names = [path.relative_to(ROOT).as_posix() for path in paths]
    return pytest.mark.parametrize("path", paths, ids=names)


def lower_floors() -> list[Path]:
    """The files of the rooms whose methods run with torch and timm alone."""
    rooms = [(LIBRARY / name).rglob("*.py") for name in LOWER_FLOORS]
    modules = [LIBRARY / f"{name}.py" for name in LOWER_FLOORS]
    return sorted(chain(filter(Path.is_file, modules), *rooms))


@cache
def source_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


# --- the rules: source -> what breaks them, each with its line

def long_lines(source: str) -> list[str]:
    """Lines of more than 100 columns."""
    return [f"line {number}: {len(line)} columns"
            for number, line in enumerate(source.splitlines(), 1) if len(line) > COLUMNS]


def nested_comprehensions(source: str) -> list[str]:
    """Comprehensions with another anywhere inside."""
    outer = [node for node in ast.walk(ast.parse(source)) if isinstance(node, COMPREHENSIONS)]
    return [f"line {node.lineno}" for node in outer
            if sum(isinstance(inner, COMPREHENSIONS) for inner in ast.walk(node)) > 1]


def long_functions(source: str) -> list[str]:
    """Functions and methods of more than 60 lines, without the lines of the docstring."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, FUNCTIONS):
            size = node.end_lineno - node.lineno + 1 - len(docstring_lines(node))
            found += [f"line {node.lineno}: {node.name}, {size} lines"] if size > LINES else []
    return found


def undocumented(source: str) -> list[str]:
    """Public functions, classes and methods without a docstring; those in a function are none."""
    return [f"line {node.lineno}: {node.name}" for node in public(ast.parse(source))
            if not ast.get_docstring(node)]


def drawing_imports(source: str, package: str = "lightvit_lab.room") -> list[str]:
    """Imports, at import time, of packages that draw, and of the rooms above, which import them.

    `package` is that of the file, from which its relative imports start.
    """
    found = []
    for node in at_import(ast.parse(source)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            start = resolve_name("." * node.level + (node.module or ""), package)
            names = [start] if draws(start) else [f"{start}.{one.name}" for one in node.names]
        found += [f"line {node.lineno}: {name}" for name in names if draws(name)]
    return found


def draws(module: str) -> bool:
    """Whether a module is of a package that draws, or of a room above the lower floors."""
    first, _, rest = module.partition(".")
    above = {path.name for path in LIBRARY.iterdir() if path.is_dir()} - set(LOWER_FLOORS)
    return first in DRAWING or first == LIBRARY.name and rest.split(".")[0] in above


def code_lines(source: str) -> int:
    """Lines that hold code: no blanks, comments or docstrings."""
    lines: set[int] = set()
    skipped = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT,
               tokenize.ENDMARKER)
    for token in tokenize.generate_tokens(StringIO(source).readline):
        if token.type not in skipped:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        lines -= docstring_lines(node)
    return len(lines)


def docstring_lines(node: ast.AST) -> set[int]:
    """The lines of the docstring of a module, class or function."""
    if not isinstance(node, (ast.Module, *DOCUMENTED)) or ast.get_docstring(node, False) is None:
        return set()
    return set(range(node.body[0].lineno, node.body[0].end_lineno + 1))


def public(node: ast.AST) -> Iterator[ast.AST]:
    """The public functions and classes in a module or class, and those in its public classes."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, DOCUMENTED):
            yield from public(child)            # the branches of an `if` or `try`
        elif not child.name.startswith("_") and child.name != "forward":   # its class says it
            yield child
            if isinstance(child, ast.ClassDef):
                yield from public(child)


def at_import(node: ast.AST) -> Iterator[ast.AST]:
    """What runs when a module is imported: no bodies of functions or of `if TYPE_CHECKING`."""
    yield node
    for child in ast.iter_child_nodes(node):
        test = ast.unparse(child.test) if isinstance(child, ast.If) else ""
        if not isinstance(child, FUNCTIONS) and not test.endswith("TYPE_CHECKING"):
            yield from at_import(child)


# --- what they hold for

@by_file(files())
def test_no_line_is_longer_than_100_columns(path):
    assert long_lines(source_of(path)) == []


@by_file(files())
def test_no_comprehension_stands_inside_another(path):
    assert nested_comprehensions(source_of(path)) == []


@by_file(files())
def test_no_function_is_longer_than_60_lines(path):
    assert long_functions(source_of(path)) == []


@by_file(files())
def test_every_public_function_class_and_method_has_a_docstring(path):
    assert undocumented(source_of(path)) == []


@by_file(lower_floors())
def test_methods_import_nothing_that_draws(path):
    package = ".".join(path.parent.relative_to(ROOT).parts)
    assert drawing_imports(source_of(path), package) == []


def test_the_library_stays_below_its_cap_of_code_lines():
    counted = [path for path in LIBRARY.rglob("*.py")
               if path.relative_to(LIBRARY).parts[0] not in ("exercises", "figures")]
    pages = len(list((ROOT / "chapters").glob("*/*.md")))
    assert sum(code_lines(source_of(path)) for path in counted) <= CAP + A_PAGE * (pages - PAGES)


# --- the rules notice what breaks them

def test_the_files_of_library_and_tools_are_found_and_every_room_of_the_lower_floors():
    names = {path.relative_to(ROOT).as_posix() for path in files()}
    assert {"lightvit_lab/errors.py", "lightvit_lab/exercises/engine.py", "book/_ext/lab_pages.py",
            "book/_tools/stubs.py", "book/grader/lightvit_grader/wire.py"} <= names
    rooms = {path.relative_to(LIBRARY).parts[0].removesuffix(".py") for path in lower_floors()}
    assert rooms == set(LOWER_FLOORS)


def test_a_line_of_101_columns_is_noticed_and_one_of_100_is_not():
    assert long_lines("#" * 100 + "\n" + "#" * 101 + "\n") == ["line 2: 101 columns"]


@pytest.mark.parametrize("nested", [
    "[[x for x in row] for row in rows]", "{key: [x for x in row] for key, row in rows}",
    "(x for x in [y for y in rows])", "{x for x in rows if any(y for y in x)}",
    "[lambda: {x for x in row} for row in rows]"])
def test_a_comprehension_in_any_place_of_another_is_noticed(nested):
    assert nested_comprehensions(f"a = 1\nb = {nested}\n") == ["line 2"]


@pytest.mark.parametrize("flat", [
    "[x for row in rows for x in row]", "f([x for x in a], [x for x in b])"])
def test_two_comprehensions_side_by_side_are_not_nested(flat):
    assert nested_comprehensions(flat) == []


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_a_function_of_61_lines_is_noticed_its_docstring_left_out(kind):
    def function(lines: int) -> str:
        return f'{kind} f():\n    """One.\n\n    Two.\n    """\n' + "    x = 1\n" * (lines - 1)

    assert long_functions(function(60)) == []
    assert long_functions(function(61)) == ["line 1: f, 61 lines"]
    method = "class A:\n" + "".join(f"    {line}\n" for line in function(61).splitlines())
    assert long_functions(method) == ["line 2: f, 61 lines"]


@pytest.mark.parametrize("source, missing", [
    ("def f():\n    pass\n", ["line 1: f"]), ("async def f():\n    pass\n", ["line 1: f"]),
    ("class A:\n    pass\n", ["line 1: A"]),
    ('class A:\n    """A."""\n    def m(self):\n        pass\n', ["line 3: m"]),
    ('class A:\n    """A."""\n    class B:\n        """B."""\n        def m(self): pass\n',
     ["line 5: m"]),
    ("if x:\n    def f():\n        pass\n", ["line 2: f"]),
    ("def _f():\n    pass\n", []), ("class _A:\n    def m(self):\n        pass\n", []),
    ('def f():\n    """F."""\n    def inner():\n        pass\n', []),
    ('class A:\n    """A."""\n    def __call__(self):\n        pass\n', []),
    ('class A:\n    """A."""\n    def forward(self):\n        pass\n', [])])
def test_public_names_without_a_docstring_are_noticed(source, missing):
    assert undocumented(source) == missing


@pytest.mark.parametrize("source, name", [
    ("import plotly", "plotly"), ("import torch, matplotlib.pyplot as plt", "matplotlib.pyplot"),
    ("from captum.attr import Saliency", "captum.attr"), ("from pandas import Series", "pandas"),
    ("try:\n    import ipywidgets\nexcept ImportError:\n    pass", "ipywidgets"),
    ("class A:\n    import pandas", "pandas")])
def test_a_drawing_package_at_module_level_is_noticed(source, name):
    assert [found.partition(": ")[2] for found in drawing_imports(source)] == [name]


@pytest.mark.parametrize("source, package", [
    ("from ..figures import show", "lightvit_lab.models"),
    ("from .. import figures", "lightvit_lab.models"),
    ("from .figures import show", "lightvit_lab"), ("from . import data, figures", "lightvit_lab"),
    ("from ...figures.cards import x", "lightvit_lab.dynamic.early_exit"),
    ("from lightvit_lab import figures", "x"),
    ("import lightvit_lab.figures.cards", "x"),
    ("from ..widgets import box", "lightvit_lab.models"),
    ("try:\n    from ..figures import show\nexcept ImportError:\n    pass", "lightvit_lab.models")])
def test_a_room_that_draws_is_noticed_also_where_the_import_is_relative(source, package):
    assert len(drawing_imports(source, package)) == 1


@pytest.mark.parametrize("source", [
    "from .figures import x", "from ..training import fit", 
    "def f():\n    from ..figures import show", "from .. import data, models",
    "from lightvit_lab.figures2 import x",
    "import torch", "from .plotly import x", "def f():\n    import plotly", "import plotlyish",
    "if TYPE_CHECKING:\n    import plotly", "if typing.TYPE_CHECKING:\n    import plotly"])
def test_what_imports_no_drawing_package_at_import_time_is_left_alone(source):
    assert drawing_imports(source) == []


def test_a_line_of_code_counts_once_and_blanks_comments_and_docstrings_do_not():
    source = ('"""Module.\n\nMore.\n"""\n\nimport os   # why\n# a comment\n\n'
              'def f(a,\n      b):\n    """F."""\n    text = """not\n\n    a docstring"""\n'
              "    return text, a, b; x = 1\n")
    assert code_lines(source) == 1 + 2 + 3 + 1      # import, signature, text, return
