"""Every page of chapters/ asks for a guess, and its exercise boxes are the exercises that the library checks."""

import ast
import re

import jupytext
import notebooks
import pytest
import stubs

from lightvit_lab.exercises import all_exercises, page_of

PAGES = notebooks.pages()
BOX = re.compile(r"^(`{3,}|:{3,})\{exercise\}[^\n]*\n:label: (\S+)", re.MULTILINE)
DECLARED: dict[str, list[str]] = {}
for one in all_exercises():
    DECLARED.setdefault(page_of(one), []).append(one.id)
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


def code_of(page):
    """The code cells that run in the build, one text."""
    cells = jupytext.reads(page.read_text(encoding="utf-8"), fmt="md:myst").cells
    return "\n".join(cell.source for cell in cells
                     if cell.cell_type == "code" and "skip-execution" not in cell.metadata.get("tags", []))


def calls(source, name):
    """How often some code calls a function of this name."""
    return sum(isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name
               for node in ast.walk(ast.parse(source)))


def test_there_are_pages_and_each_folder_and_stem_is_looked_at():
    assert {f"{page.parent.name}/{page.stem}" for page in PAGES} >= set(DECLARED) != set()


@each_page
def test_every_page_with_code_asks_for_a_guess(page):
    assert calls(code_of(page), "predict") >= 1


@each_page
def test_every_box_is_an_exercise_of_the_library_and_the_other_way_round(page):
    text = page.read_text(encoding="utf-8")
    boxes = [label for _, label in BOX.findall(text)]
    assert len(boxes) == text.count("{exercise} ") >= 3
    assert sorted(boxes) == sorted(DECLARED[f"{page.parent.name}/{page.stem}"])


@each_page
def test_every_exercise_is_checked_once_in_a_cell_with_a_stub(page):
    cells = stubs.solution_cells(page.read_text(encoding="utf-8"))
    assert sorted(cells) == sorted(DECLARED[f"{page.parent.name}/{page.stem}"])
    for cell in cells.values():
        stub = stubs.stub_of(cell)
        assert ("raise NotImplementedError" in stub) or ("= ..." in stub)


def test_a_call_is_counted_where_it_is_code_and_nowhere_else():
    assert calls("predict('a', answer=1)\n# predict(\nx = 'predict('\nother.predict()", "predict") == 1


def test_no_cell_downloads_or_compiles_unless_a_switch_in_it_says_so():
    for page in PAGES:
        for cell in jupytext.reads(page.read_text(encoding="utf-8"), fmt="md:myst").cells:
            if cell.cell_type == "code":
                assert "pretrained=True" not in cell.source, page
                assert ("DOWNLOAD" in cell.source) == ("models.pretrained(" in cell.source), page
                if "compile(" in cell.source:
                    assert "COMPILE = False" in cell.source, (page, cell.source)


@each_page
def test_every_page_ends_with_three_questions_whose_answers_are_folded(page):
    text = page.read_text(encoding="utf-8")
    section = text.partition("\n## What do you remember?\n")[2].partition("\n## ")[0]
    questions = re.findall(r"^:::\{dropdown\} (.+)\n(.+)\n:::$", section, re.MULTILINE)
    assert len(questions) >= 3 and all(question.endswith("?") for question, _ in questions)
    for _, answer in questions:
        sections = re.findall(r"\(section(?:s)? ([^)]+)\)", answer)
        named = [name for each in sections for name in re.findall(r"\*([^*]+)\*", each)]
        headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
        assert named and set(named) <= set(headings), answer


def visible_cells(page):
    """The code that a reader sees without opening anything."""
    for cell in jupytext.reads(page.read_text(encoding="utf-8"), fmt="md:myst").cells:
        if cell.cell_type == "code" and not {"hide-input", "remove-input", "hide-cell", "remove-cell"} & set(
                cell.metadata.get("tags", [])):
            yield cell.source


def presenting(source):
    """The lines of a cell in which something is drawn, printed or tabulated, whatever stands around the call."""
    lines = set()
    for node in ast.walk(ast.parse(source)):
        name = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
        if name in ("show", "table", "print", "display", "described") or name.split(".")[0] in ("figures", "widgets"):
            lines.update(range(node.lineno, node.end_lineno + 1))
    return lines


def test_what_presents_is_counted_by_the_line():
    assert presenting("x = 1\nprint(x,\n      2)\ny = len(figures.gallery(x).data)\nz = shown(x)") == {2, 3, 4}


@each_page
def test_the_lesson_is_what_one_sees_and_no_cell_is_long(page):
    sizes = [sum(1 for line in source.splitlines() if line.strip()) for source in visible_cells(page)]
    share = sum(len(presenting(source)) for source in visible_cells(page)) / sum(sizes)
    assert max(sizes) <= 20 and share <= 0.10, f"{share:.0%} of the visible code presents, longest cell {max(sizes)} lines"


@each_page
def test_a_folded_cell_says_what_is_inside(page):
    for cell in jupytext.reads(page.read_text(encoding="utf-8"), fmt="md:myst").cells:
        if "hide-input" in cell.metadata.get("tags", []):
            prompt = cell.metadata.get("mystnb", {}).get("code_prompt_show", "")
            assert len(prompt.split()) >= 2, cell.source[:80]
