"""Derived notebooks: what a page's markup becomes, what is refused, and that committed notebooks follow their pages."""

import ast
import hashlib
import re
import shutil
from pathlib import Path

import notebooks
import pytest

from lightvit_lab.errors import LabError

PROJECT = """[project]
dependencies = ["torch>=2.4", "timm>=1.0.20"]
[project.urls]
Repository = "https://github.com/owner/lab"
"""
WORKS = r"""
@article{touvron2021, author={Touvron, Hugo and Cord, Matthieu and J{\'e}gou, Herv{\'e}}, title={Training {DeiT}},
  journal={ICML}, year={2021}, url={https://example.org/deit}}
@article{vonpost2020, author={von Post, Ada and Li, Bo}, title={Two}, journal={A}, year={2020}, eprint={2001.00001}}
@article{solo2019, author={J{\'e}gou, Herv{\'e}}, title={Alone}, journal={B}, year={2019}, doi={10.1000/5}}
"""
FRONT = "---\nkernelspec: {name: python3, display_name: Python 3}\n\n---\n"   # four lines; the title is line 5
BOOK = "https://owner.github.io/lab/chapters/part"


@pytest.fixture
def write_page(tmp_path):
    """Writes a page of a small checkout and returns its path."""
    folder = tmp_path / "chapters" / "part"
    folder.mkdir(parents=True)
    (tmp_path / "book").mkdir()
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    (tmp_path / "book" / "references.bib").write_text(WORKS)
    (folder / "boxes.svg").write_text("<svg/>")
    (folder / "other.md").write_text("---\na: b\n---\n# The other page\n")

    def write(text: str) -> Path:
        (folder / "page.md").write_text(FRONT + text)
        return folder / "page.md"
    return write


@pytest.fixture
def plain(write_page):
    """The plain Markdown that one piece of a page becomes."""
    def convert(text: str) -> str:
        notebook = notebooks.derive(write_page(f"# Title\n\n{text}\n"), "c0ffee")
        return "\n\n".join(cell.source for cell in notebook.cells[2:])
    return convert


@pytest.mark.parametrize("written, expected", [
    pytest.param("```{note}\nMind the\ngap.\n```", "> **Note**\n>\n> Mind the\n> gap.", id="note"),
    pytest.param(":::{warning} Hot.\n:::", "> **Warning**\n>\n> Hot.", id="text on the first line of a note"),
    pytest.param(":::{tip}\nA.\n:::", "> **Tip**\n>\n> A.", id="tip"),
    pytest.param(":::{important}\nA.\n:::", "> **Important**\n>\n> A.", id="important"),
    pytest.param(":::{seealso}\nA.\n:::", "> **See also**\n>\n> A.", id="seealso"),
    pytest.param(":::{admonition} Why {math}`n^2`?\n:class: tip\n\nPairs.\n:::", "> **Why $n^2$?**\n>\n> Pairs.",
                 id="admonition"),
    pytest.param("```{admonition} Answer\n:class: tip dropdown\n42\n```",
                 "<details>\n<summary>Answer</summary>\n\n42\n\n</details>", id="folded admonition"),
    pytest.param(":::{dropdown} About `x`\n- one\n:::",
                 "<details>\n<summary>About <code>x</code></summary>\n\n- one\n\n</details>", id="dropdown"),
    pytest.param("::::{exercise} Count\n:label: page.count\nHow {math}`N`?\n::::", "### Exercise 1: Count\n\nHow $N$?",
                 id="exercise"),
    pytest.param("```{exercise}\n---\nlabel: page.count\n---\nHow many?\n```", "### Exercise 1\n\nHow many?",
                 id="exercise without title, options in YAML"),
    pytest.param(":::{open-question} Why?\n:label: page.why\nSo.\n:::", "> **Open question 1: Why?**\n>\n> So.\n\n*Your answer: double-click here, and write.*",
                 id="open question"),
    pytest.param("```{math}\nQ K^T\n```", "$$\nQ K^T\n$$", id="math"),
    pytest.param("```{math}\na \\\\\nb\n```", "$$\n\\begin{split}\na \\\\\nb\n\\end{split}\n$$", id="math, two lines"),
    pytest.param("```{math}\n:label: one\nx\n```\nsee {eq}`one`", "$$\nx\n\\tag{1}\n$$\n\nsee (1)", id="numbered math"),
    pytest.param("{eq}`two`\n\n```{math}\n:label: one\nx\n```\n\n$$\ny\n$$ (two)",
                 "(2)\n\n$$\nx\n\\tag{1}\n$$\n\n$$\ny\n\\tag{2}\n$$", id="number of a later formula"),
    pytest.param("$$ y $$ (one)", "$$ y \\tag{1} $$", id="numbered math in one line"),
    pytest.param("```{figure} boxes.svg\n:alt: Three boxes\n:width: 80%\nA caption {math}`x`.\n```",
                 "![Three boxes](https://github.com/owner/lab/raw/c0ffee/chapters/part/boxes.svg)\n\nA caption $x$.",
                 id="figure"),
    pytest.param("```{image} /chapters/part/boxes.svg\n:alt: Boxes: three\n```",
                 "![Boxes: three](https://github.com/owner/lab/raw/c0ffee/chapters/part/boxes.svg)", id="image"),
    pytest.param("```{list-table} Costs\n:header-rows: 1\n* - Part\n  - {math}`|x|`\n* - a | b\n  - two\n    rows\n```",
                 "**Costs**\n\n| Part | $\\vert x\\vert $ |\n| --- | --- |\n| a \\| b | two rows |", id="list-table"),
    pytest.param("```{list-table}\n* - a\n  - b\n```", "|  |  |\n| --- | --- |\n| a | b |", id="list-table, no header"),
    pytest.param("```{table} Costs\n| a | b |\n|---|---|\n| {math}`x` | 2 |\n```",
                 "**Costs**\n\n| a | b |\n|---|---|\n| $x$ | 2 |", id="table"),
    pytest.param("- item\n\n  ```{note}\n  In a list.\n  ```", "- item\n\n  > **Note**\n  >\n  > In a list.",
                 id="directive in a list"),
    pytest.param("Text\n```{note}\nA.\n```\ntext", "Text\n\n> **Note**\n>\n> A.\n\ntext", id="no blank lines around"),
])
def test_directive_becomes_markdown_that_a_notebook_shows(plain, written, expected):
    assert plain(written) == expected


@pytest.mark.parametrize("written, expected", [
    pytest.param("an {math}`x_{i}`", "an $x_{i}$", id="math"),
    pytest.param("a {term}`token`, a {term}`token <tokens>`", "a token, a token", id="term"),
    pytest.param("{ref}`this part <there>`", "this part", id="ref with words"),
    pytest.param("(there)=\n## A {math}`n^2` part\n\nSee {ref}`there`.", "## A $n^2$ part\n\nSee A $n^2$ part.",
                 id="ref to a heading"),
    pytest.param("{doc}`next </chapters/part/other>`", f"[next]({BOOK}/other.html)", id="doc from the root"),
    pytest.param("{doc}`other`", f"[The other page]({BOOK}/other.html)", id="doc without words"),
    pytest.param("[next](other.md#costs) [out](https://x.org/a.md)",
                 f"[next]({BOOK}/other.html#costs) [out](https://x.org/a.md)", id="links"),
    pytest.param("[here](#there)", "here", id="link within the page"),
    pytest.param("![Boxes](boxes.svg)", "![Boxes](https://github.com/owner/lab/raw/c0ffee/chapters/part/boxes.svg)",
                 id="Markdown image"),
    pytest.param("DeiT {cite}`touvron2021` learns", "DeiT ([Touvron et al., 2021](https://example.org/deit)) learns",
                 id="cite"),
    pytest.param("{cite:p}`vonpost2020, solo2019`", "([von Post and Li, 2020](https://arxiv.org/abs/2001.00001); "
                 "[Jégou, 2019](https://doi.org/10.1000/5))", id="two works"),
    pytest.param("{cite:t}`vonpost2020` show", "[von Post and Li (2020)](https://arxiv.org/abs/2001.00001) show",
                 id="names in the sentence"),
    pytest.param("% a comment\ntext", "text", id="comment"),
    pytest.param("a role over {term}`two\nlines <x>`", "a role over two\nlines", id="role over two lines"),
])
def test_role_or_link_becomes_plain_markdown(plain, written, expected):
    assert plain(written) == expected


@pytest.mark.parametrize("text", [
    "```python\n{note} {math}`x` % kept\n(label)=\n{{x}} [^1]\n```",
    "~~~\n:::{note}\n~~~",
    "`{math}` and ``{cite}`x` ``",
    "$a_{{i}}$ and $x [^2](y)$",
    "costs 5 \\$ and [x] \\[^1]",
    "| a | b |\n|---|---|\n| 1 | `|` |",
    "a 50 % share",
    "> quoted\n\n1. one\n2. two\n\n<details>raw</details>",
])
def test_code_formulas_and_common_markdown_stay_as_written(plain, text):
    assert plain(text) == text


def test_fences_of_both_kinds_nest_by_their_length(plain):
    written = ("::::{exercise} Outer\n:label: a.b\n:::{note}\n```python\nx = {}\n```\n$$\na\n$$\n:::\nafter\n::::\n\n"
               "````{note}\n```{tip}\ninner\n```\n````")
    assert plain(written) == (
        "### Exercise 1: Outer\n\n> **Note**\n>\n> ```python\n> x = {}\n> ```\n> $$ a $$\n\nafter\n\n"
        "> **Note**\n>\n> > **Tip**\n> >\n> > inner")


def test_bibliography_lists_the_works_the_page_cites_and_no_other(plain):
    text = plain("{cite}`solo2019`\n\n```{bibliography}\n:filter: docname in docnames\n```\n\n{cite:t}`touvron2021`")
    listed = [line for line in text.splitlines() if line.startswith("- ")]
    assert len(listed) == 2
    assert "Hervé Jégou" in listed[0] and "https://doi.org/10.1000/5" in listed[0]
    assert "DeiT" in listed[1] and "2021" in listed[1]
    assert "\0" not in text


@pytest.mark.parametrize("written, line, says", [
    pytest.param("```{noet}\nx\n```", 7, 'Did you mean "note"?', id="directive"),
    pytest.param("::::{note}\nfine\n\n:::{grid}\nx\n:::\n::::", 10, "'grid' is unknown", id="nested directive"),
    pytest.param("::: box\nx\n:::", 7, "'box' is unknown", id="colon fence without a directive"),
    pytest.param("one\ntwo {maths}`x`", 8, 'Did you mean "math"?', id="role"),
    pytest.param("```{note}\n:class: x\n\n{download}`a`\n```", 10, "'download' is unknown", id="role below options"),
    pytest.param("{cite}`touvron2012`", 7, 'Did you mean "touvron2021"?', id="citation"),
    pytest.param("{eq}`attn`", 7, "equation='attn'", id="formula"),
    pytest.param("{ref}`nowhere`", 7, "{ref}`words <nowhere>`", id="reference without words"),
    pytest.param("{doc}`/chapters/part/none`", 7, "no file /chapters/part/none.md", id="page"),
    pytest.param("[x](missing.md)", 7, "no file missing.md", id="link"),
    pytest.param("[](other.md)", 7, "has no words", id="link without words"),
    pytest.param("![](boxes.svg)", 7, "who cannot see it", id="image without text"),
    pytest.param("a\n\n```{figure} boxes.svg\ncaption\n```", 9, ":alt:", id="figure without text"),
    pytest.param("```{figure} ../../../../outside.svg\n:alt: x\n```", 7, "no file", id="figure outside"),
    pytest.param("````{note}\nx\n```", 7, "never closed", id="open fence"),
    pytest.param("```{admonition}\nx\n```", 7, "no title", id="admonition without title"),
    pytest.param("```{admonition} About `x`\nx\n```", 7, "fence the directive with :::", id="backtick in a title"),
    pytest.param("```{math}\na\n\nb\n```", 7, "blank line", id="math of two paragraphs"),
    pytest.param("```{list-table}\n* - a\n  - b\n* - c\n```", 7, "[2, 1] cells", id="ragged table"),
    pytest.param("```{list-table}\n- a\n```", 7, "`* - `", id="table without rows"),
    pytest.param("text[^1]", 7, "footnote", id="footnote"),
    pytest.param("the {{ version }}", 7, "substitution", id="substitution"),
    pytest.param("```{note}\n---\na: [\n---\nx\n```", 8, "options", id="options"),
    pytest.param("```{code-cell} ipython3\n### BEGIN SOLUTION\nx = 1\n```", 7, "markers", id="solution"),
])
def test_what_a_notebook_cannot_show_is_an_error_with_page_and_line(plain, written, line, says):
    with pytest.raises(LabError) as error:
        plain(written)
    assert str(error.value).startswith(f"chapters/part/page.md:{line}:")
    assert says in str(error.value)


@pytest.mark.parametrize("text", ["no title\n", "```{code-cell}\n1\n```\n", ""])
def test_page_without_title_is_an_error(write_page, text):
    with pytest.raises(LabError, match=r"chapters/part/page\.md:1: a page begins with its title"):
        notebooks.derive(write_page(text), "c0ffee")


CELLS = """# Title

Words.

```{code-cell} ipython3
:tags: [hide-input, raises-exception, mine]
:mystnb: {code_prompt_show: "A solution"}
def double(x):
    ### BEGIN SOLUTION
    return 2 * x
    ### END SOLUTION

check("page.double", double)
```

```{code-cell} ipython3
:tags: [book-only]
print("only on the page")
```

+++ {"tags": ["book-only"]}

The text that is {{ only }} on the page, too.

```{code-cell} ipython3
:tags: [hide-input, skip-execution]
:mystnb: {code_prompt_show: "Draw: a line", code_prompt_hide: "Fold"}
model = create_model(pretrained=True)
```

```{code-cell} ipython3
model = 1
```

```{code-cell} ipython3
model = 1
```
"""


def test_learner_gets_the_stub_and_never_the_solution(write_page):
    notebook = notebooks.derive(write_page(CELLS), "c0ffee")
    exercise = notebook.cells[3]
    assert exercise.source == 'def double(x):\n    raise NotImplementedError\n\ncheck("page.double", double)'
    assert exercise.metadata == {"tags": ["raises-exception"]}   # open, since it is to be filled in
    assert "return 2 * x" not in notebooks.text_of(notebook)


def test_solutions_stay_in_where_they_are_asked_for(write_page):
    notebook = notebooks.derive(write_page(CELLS), "c0ffee", solutions=True)
    assert "return 2 * x" in notebook.cells[3].source


def test_cells_keep_only_what_notebook_tools_understand(write_page):
    notebook = notebooks.derive(write_page(CELLS), "c0ffee")
    assert [cell.cell_type for cell in notebook.cells] == ["markdown", "code", "markdown", *["code"] * 4]
    assert "on the page" not in notebooks.text_of(notebook)
    hidden = notebook.cells[4]
    assert hidden.metadata == {"tags": ["skip-execution"], "cellView": "form", "jupyter": {"source_hidden": True}}
    assert hidden.source.splitlines()[0] == '# @title Draw: a line { display-mode: "form" }'      # what Colab shows of it
    assert all(not cell.outputs and cell.execution_count is None for cell in notebook.cells if cell.cell_type == "code")
    assert notebook.metadata.kernelspec.name == "python3"
    assert notebook.metadata.colab == {"provenance": []}


def test_notebook_opens_with_title_then_install_cell_pinned_to_the_commit(write_page):
    title, setup, words = notebooks.derive(write_page(CELLS), "c0ffee").cells[:3]
    assert title.source.startswith("# Title\n") and f"{BOOK}/page.html" in title.source
    assert words.source == "Words."
    call = ast.parse(setup.source).body[-1].value
    assert [ast.literal_eval(argument) for argument in call.args] == [
        "https://github.com/owner/lab", "c0ffee", {"torch": "2.4", "timm": "1.0.20"}]


def test_ids_are_distinct_and_an_edit_changes_no_other(write_page):
    before = [cell.id for cell in notebooks.derive(write_page(CELLS), "a").cells]
    after = [cell.id for cell in notebooks.derive(write_page(CELLS.replace("Words", "Other words")), "b").cells]
    assert len(set(before)) == len(before)
    assert [position for position, pair in enumerate(zip(before, after)) if pair[0] != pair[1]] == [2]


def test_deriving_twice_gives_the_same_bytes(write_page):
    page = write_page(CELLS)
    assert notebooks.text_of(notebooks.derive(page, "a")) == notebooks.text_of(notebooks.derive(page, "a"))


def test_check_ignores_the_pin_and_sees_every_other_change(write_page, tmp_path, capsys):
    page = write_page(CELLS)
    notebooks.write("c0ffee", tmp_path, root=tmp_path)
    assert notebooks.check(tmp_path) == 0
    notebook = page.with_suffix(".ipynb")
    notebook.write_text(notebook.read_text().replace("Words.", "Worms."))
    assert notebooks.check(tmp_path) == 1
    assert "chapters/part/page.md" in capsys.readouterr().out
    for broken in ("{}", "no json", '{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}'):
        notebook.write_text(broken)
        assert notebooks.check(tmp_path) == 1
    notebook.unlink()
    assert notebooks.check(tmp_path) == 1


def test_notebooks_can_be_written_elsewhere_and_pages_without_code_have_none(write_page, tmp_path):
    write_page(CELLS)
    notebooks.write("c0ffee", tmp_path / "out", root=tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.ipynb")] == [
        "out/chapters/part/page.ipynb"]


def test_pin_is_the_last_commit_of_what_a_notebook_fetches_not_of_its_page(tmp_path):
    def commit(name: str) -> str:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
        notebooks.git(tmp_path, "add", "-A")
        notebooks.git(tmp_path, "-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-m", name)
        return notebooks.git(tmp_path, "rev-parse", "HEAD").strip()

    notebooks.git(tmp_path, "init")
    for needed in ("lightvit_lab/a.py", "book/results/a.json", "book/zoo/a.json", "pyproject.toml", "chapters/part/a.svg"):
        pin = commit(needed)
        commit(f"chapters/part/page_{pin}.md")
        assert len(pin) == 40 and notebooks.pinned_commit(tmp_path) == pin


def test_the_cell_knows_the_librarys_code_at_its_commit_and_keeps_that_where_the_commit_is_missing(write_page, tmp_path):
    page, package = write_page(CELLS), tmp_path / "lightvit_lab" / "part"
    package.mkdir(parents=True)
    (package / "a.py").write_text("one\n")
    (package / "notes.json").write_text("{}")
    notebooks.git(tmp_path, "init")
    notebooks.git(tmp_path, "add", "-A")
    notebooks.git(tmp_path, "-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-m", "library")
    ref = notebooks.git(tmp_path, "rev-parse", "HEAD").strip()
    (package / "a.py").write_text("changed since, and not committed\n")
    expected = hashlib.sha256(b"part/a.py\0one\n").hexdigest()[:16]
    notebook = notebooks.derive(page, ref)
    call = ast.parse(notebook.cells[1].source).body[-1].value
    assert ast.literal_eval(call.args[3]) == notebook.metadata["lightvit_lab"]["code"] == expected
    page.with_suffix(".ipynb").write_text(notebooks.text_of(notebook))
    shutil.rmtree(tmp_path / ".git")
    notebooks.code_at.cache_clear()
    assert notebooks.in_step(page)


def test_pin_is_main_outside_git(tmp_path):
    assert notebooks.pinned_commit(tmp_path) == "main"


@pytest.fixture
def repository(write_page, tmp_path):
    """A repository with a library, a page and its notebook; how to commit, giving the commit."""
    def commit(**files: str) -> str:
        for name, text in files.items():
            path = tmp_path / {"page": "chapters/part/page.md", "library": "lightvit_lab/a.py",
                               "project": "pyproject.toml"}[name]
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        notebooks.git(tmp_path, "add", "-A")
        notebooks.git(tmp_path, "-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-m", "change")
        return notebooks.git(tmp_path, "rev-parse", "HEAD").strip()

    page = write_page(CELLS)
    notebooks.git(tmp_path, "init")
    commit.root, commit.page, commit.notebook = tmp_path, page, page.with_suffix(".ipynb")
    commit.first = commit(library="one\n")
    notebooks.write(None, tmp_path, root=tmp_path)
    commit()
    return commit


def test_a_notebook_changes_only_when_its_page_does(repository):
    written = repository.notebook.read_bytes()
    assert notebooks.pin_in_notebook(repository.page)[0] == repository.first
    repository(library="two\n")
    notebooks.write(None, repository.root, root=repository.root)
    assert repository.notebook.read_bytes() == written and notebooks.check(repository.root) == 0
    changed = repository(page=repository.page.read_text().replace("Words.", "New words."))
    notebooks.write(None, repository.root, root=repository.root)
    ref, code = notebooks.pin_in_notebook(repository.page)
    assert (ref, code) == (changed, hashlib.sha256(b"a.py\0two\n").hexdigest()[:16])


def test_a_notebook_of_another_form_still_names_its_own_commit(repository):
    written = repository.notebook.read_text()
    repository(project=PROJECT.replace("torch>=2.4", "torch>=2.5"))
    assert notebooks.check(repository.root) == 1
    notebooks.write(None, repository.root, root=repository.root)
    assert repository.notebook.read_text() == written.replace("'torch': '2.4'", "'torch': '2.5'") != written
    assert notebooks.pin_in_notebook(repository.page)[0] == repository.first and notebooks.check(repository.root) == 0


def test_a_notebook_derived_before_its_page_and_library_were_committed_is_found_and_mended(repository, capsys):
    repository.page.write_text(repository.page.read_text().replace("Words.", "New words, of a new function."))
    (repository.root / "lightvit_lab" / "a.py").write_text("a new function\n")
    notebooks.write(None, repository.root, root=repository.root)
    assert notebooks.check(repository.root) == 0                  # there is no commit to name yet
    both = repository()
    assert notebooks.check(repository.root) == 1
    assert f"names commit {repository.first[:9]}, which does not have the page as it is now" in capsys.readouterr().out
    notebooks.write(None, repository.root, root=repository.root)
    assert notebooks.pin_in_notebook(repository.page)[0] == both and notebooks.check(repository.root) == 0


def test_a_commit_that_a_rebase_left_behind_is_named_no_longer(repository):
    (repository.root / "lightvit_lab" / "b.py").write_text("rebased\n")
    notebooks.git(repository.root, "add", "-A")
    notebooks.git(repository.root, "update-ref", "-d", "HEAD")
    anew = repository()
    assert notebooks.has_commit(repository.root, repository.first) and notebooks.check(repository.root) == 1
    notebooks.write(None, repository.root, root=repository.root)
    assert notebooks.pin_in_notebook(repository.page)[0] == anew != repository.first


def test_in_a_copy_without_history_notebooks_stay_as_they_are(repository):
    written = repository.notebook.read_bytes()
    shutil.rmtree(repository.root / ".git")
    notebooks.code_at.cache_clear()
    notebooks.write(None, repository.root, root=repository.root)
    assert repository.notebook.read_bytes() == written and notebooks.check(repository.root) == 0


def test_command_line_prints_an_error_in_a_page_without_a_traceback(write_page, tmp_path, monkeypatch, capsys):
    write_page("# Title\n\n{maths}`x`\n\n```{code-cell}\n1\n```\n")
    monkeypatch.setattr(notebooks.write, "__defaults__", (tmp_path, False))
    assert notebooks.main(["--ref", "c0ffee", "--out", str(tmp_path)]) == 1
    assert re.match(r"chapters/part/page\.md:7: role='maths' is unknown", capsys.readouterr().err)


@pytest.mark.parametrize("page", notebooks.pages(), ids=lambda page: page.stem)
def test_committed_notebook_is_what_its_page_derives_to(page):
    assert notebooks.fault(page) == "", "run `make notebooks` and commit the result"


def test_solutions_never_reach_the_notebooks_that_readers_open(tmp_path, capsys):
    with pytest.raises(SystemExit):
        notebooks.main(["--solutions"])
    assert "give --out FOLDER too" in capsys.readouterr().err
    assert notebooks.main(["--solutions", "--out", str(tmp_path), "--ref", "main"]) == 0
    solved = (tmp_path / "chapters/foundations/vision_transformer.ipynb").read_text(encoding="utf-8")
    assert "BEGIN SOLUTION" in solved and "raise NotImplementedError" not in solved
