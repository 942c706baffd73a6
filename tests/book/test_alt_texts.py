"""What the pages' sources say about their figures, for those who do not see them."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(ROOT.glob("chapters/**/*.md")) + sorted(ROOT.glob("book/*.md"))
CELL = re.compile(r"^```\{code-cell\}[^\n]*\n(.*?)^```", re.DOTALL | re.MULTILINE)
OPTION = re.compile(r"^:\w+:.*$", re.MULTILINE)


def calls(text):
    """The names and keyword arguments of all `show(...)` and `figures.explorer(...)` in the code cells of a page."""
    for cell in CELL.findall(text):
        for node in ast.walk(tree := ast.parse(OPTION.sub("", cell))):
            name = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if name in ("show", "figures.explorer"):
                yield name, {keyword.arg: keyword.value for keyword in node.keywords} | brought(node, tree)


def brought(node, cell):
    """The words that a figure of the library brings by itself; tests/figures/test_words.py holds that it does."""
    given = {target.id: each.value for each in ast.walk(cell) if isinstance(each, ast.Assign)
             for target in each.targets if isinstance(target, ast.Name)}
    arguments = [given.get(ast.unparse(argument), argument) for argument in node.args]
    names = [ast.unparse(inner.func) for argument in arguments for inner in ast.walk(argument) if isinstance(inner, ast.Call)]
    own = any(name.startswith("figures.") or name == "described" for name in names)
    return {"alt": ast.Constant("Its own."), "finding": ast.Constant("Its own.")} if own else {}


def typed(text):
    """What is typed of a text, in order; computed parts are left out."""
    if isinstance(text, ast.Constant):
        return str(text.value)
    if isinstance(text, ast.JoinedStr):
        return "".join(map(typed, text.values))
    return typed(text.left) + typed(text.right) if isinstance(text, ast.BinOp) else ""


def is_computed(expression):
    """Whether a text holds a value of the run, or is made by a function of the page."""
    return any(isinstance(node, (ast.FormattedValue, ast.Call)) for node in ast.walk(expression))


def faults(text):
    """What is wrong with the words of a page's figures."""
    for name, given in calls(text):
        if name == "show" and not re.search(r"\.\s*$", typed(given.get("alt", ast.Constant("")))):
            yield f"{name}: alt= is no full sentence, or is missing"
        said = given.get("finding")
        if name == "figures.explorer" and said is None:
            yield f"{name}: no finding="
        if name == "show" and said is None and not is_computed(given.get("alt", ast.Constant(""))):
            yield f"{name}: alt= only describes: {typed(given.get('alt', ast.Constant('')))}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_figure_says_what_it_shows_and_what_is_found_there(page):
    text = page.read_text(encoding="utf-8")
    assert list(faults(text)) == []
    if page.parent.parent.name == "chapters":
        assert len(list(calls(text))) >= 2


@pytest.mark.parametrize("call, fault", [
    ('show(f, alt="A curve")', "no full sentence"),
    ("show(smooth(f).update_layout(height=3))", "no full sentence"),
    ("show(f)", "no full sentence"),
    ('show(f, alt="A curve of the loss over steps.")', "describes"),
    ("figures.explorer(images, captions)", "no finding="),
])
def test_a_figure_without_a_finding_would_be_seen(call, fault):
    found = list(faults(f"```{{code-cell}} ipython3\n:tags: [hide-input]\n\n{call}\n```\n"))
    assert any(fault in said for said in found)


@pytest.mark.parametrize("call", [
    'show(f, alt=f"The loss falls from {first:.1f} to {last:.1f}.")',
    'show(f, alt="A curve.", finding="It falls.")',
    "show(figures.loss_curves(losses).update_yaxes(title='loss'), result=stored)",
    'show(described(f, alt, finding))',
])
def test_a_figure_with_a_finding_is_left_alone(call):
    assert list(faults(f"```{{code-cell}} ipython3\n{call}\n```\n")) == []
