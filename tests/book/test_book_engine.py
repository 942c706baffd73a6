"""The book engine, tried on a tiny book: the real extension and settings, a copy of the library, two executed pages."""

import importlib
import json
import os
import re
import shutil
from html import unescape
from pathlib import Path
from types import SimpleNamespace

import forked
import lab_stills
import lightvit_book
import nbformat
import pytest
import vendor
import yaml

from lightvit_lab.cli import doctor

ROOT = Path(__file__).parents[2]

FRONT_MATTER = """\
---
jupytext:
  text_representation: {extension: .md, format_name: myst}
kernelspec: {display_name: Python 3, language: python, name: python3}
---

"""

FINDING = "lesson:\n  find: {more-of-it: [twofold]}\n---\n\n"
PAGE = FRONT_MATTER.replace("---\n\n", FINDING) + '''\
# A page

The {ref}`task <page.double>` and $x^2$.

```{diagram} low_rank
Two *thin* ones, of width $k$.
```

```{code-cell} ipython3
import os, pathlib
from lightvit_lab.constant import VALUE
from lightvit_lab.figures import show
pathlib.Path(os.environ["RUNS"]).open("a").write("run ")
print("value", VALUE, os.environ["LIGHTVIT_BOOK"], os.environ["LIGHTVIT_DATA"])
```

```{code-cell} ipython3
import plotly.graph_objects as go
show(go.Figure(go.Scatter(y=[1, 2])), alt="A line that rises from one to two")
```

## More of it

:::{road} further 3
How a number is doubled.
:::

Folded words.

::::{exercise} Twice as much
:label: page.double

Double a number.
::::

```{code-cell} ipython3
:tags: [hide-input]
:mystnb: {code_prompt_show: "A solution", code_prompt_hide: "Fold the solution"}

def check(label, answer):
    print(label, answer(21))

def double(x):
    """Number -> number."""
    ### BEGIN SOLUTION
    return x + x
    ### END SOLUTION

check("page.double", double)
```
'''

PLAIN = FRONT_MATTER + """\
# A page without a notebook beside it

```{code-cell} ipython3
1 + 1
```
"""

STATUS = """\
# Status

```{lab-status}
```

```{nb-exec-table}
```

```{stored-results}
```

```{lab-zoo}
```
"""

RESULT = {"schema": 1, "name": "run", "device": "A machine | with a bar", "date": "2026-01-31T12:00:00+00:00",
          "seeds": [0, 1], "versions": {"torch": "2"}, "commit": "0123456789abcdef", "command": "make run",
          "seconds": 61.7, "data": {}}


CARD = {"name": "lab_cnn/shapes", "model": "lab_cnn", "dataset": "shapes", "sha256": "0", "validation": {"accuracy": 0.9},
        "command": "make card", "params": 1234, "seed": 7, "seconds": 61.7, "device": "A machine", "commit": "89abcdef0123",
        "date": "2026-01-31T12:00:00+00:00", "test": {"accuracy": 0.9, "low": 0.8912, "high": 0.9089, "count": 1000}}


def write(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")


def make_book(root):
    """A book of four pages at `root`, with the repository's own settings, extension and library."""
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    extensions = config["sphinx"]["local_extensions"]
    config["sphinx"]["local_extensions"] = {name: str(ROOT / folder) for name, folder in extensions.items()}
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for folder in ("lightvit_lab", "book/_static"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    write(root, {
        "_config.yml": yaml.safe_dump(config),
        "_toc.yml": "{format: jb-book, root: book/intro, chapters: "
                    "[{file: chapters/part/page}, {file: chapters/part/plain}, {file: book/status}]}",
        "pyproject.toml": re.sub(r'(?m)^Repository = .*$', 'Repository = "https://github.com/owner/tiny"', project),
        "lightvit_lab/constant.py": "VALUE = 41\n",
        "book/intro.md": "# A tiny book\n", "book/status.md": STATUS, "book/references.bib": "",
        "book/results/run.json": json.dumps(RESULT),
        "book/zoo/lab_cnn-shapes.json": json.dumps(CARD),
        "data/pictures.gz": "one",
        "chapters/part/page.md": PAGE, "chapters/part/plain.md": PLAIN,
        "chapters/part/page.ipynb": nbformat.writes(nbformat.v4.new_notebook()),
    })


@pytest.fixture(scope="module", autouse=True)
def imported():
    """What every build imports and no page changes: once, for all of them."""
    for name in ("jupyter_book.cli.main", "jupyter_book.sphinx", "myst_nb.sphinx_ext"):
        importlib.import_module(name)


def build(root):
    """Run the book's own build command; give back its exit status and all that it printed."""
    environment = {**os.environ, "PYTHONPATH": str(root), "RUNS": str(root / "runs.txt"), "LIGHTVIT_DATA": "data",
                   "NO_COLOR": "1"}
    command = importlib.import_module("jupyter_book.cli.main").main
    status, said = forked.run(lambda: command(["build", str(root), "-W", "--keep-going"]), root / "said.txt",
                              cwd=root, env=environment)
    return status, re.sub(r"\x1b\[[0-9;]*m", "", said)


def runs(root):
    return len((root / "runs.txt").read_text().split())


def text_of(html):
    """The text of a page, without tags."""
    return unescape(re.sub(r"<[^>]+>", "", html))


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    """A tiny book that has been built once."""
    root = tmp_path_factory.mktemp("tiny").resolve()
    make_book(root)
    status, output = build(root)
    assert status == 0, output
    return SimpleNamespace(root=root, html=root / "_build" / "html", output=output)


@pytest.fixture(scope="module")
def page(book):
    return (book.html / "chapters/part/page.html").read_text(encoding="utf-8")


def test_a_clean_build_prints_no_warning(book):
    assert "WARNING" not in book.output and "build succeeded." in book.output


def test_the_exercise_box_shows_the_stub_and_no_answer(page):
    box = text_of(page[page.index('id="page.double"'):page.index("A solution")])
    assert "Double a number." in box
    assert 'def double(x):\n    """Number -> number."""\n    raise NotImplementedError' in box
    assert "return x + x" not in box


def test_an_exercise_label_with_a_dot_can_be_referred_to(page):
    assert re.search(r'<a [^>]*href="#page.double"', page)


def test_the_solution_is_shown_folded_and_without_its_markers(page):
    solution = text_of(page[page.index("A solution"):])
    assert "return x + x" in solution and "page.double 42" in solution
    assert "SOLUTION" not in text_of(page)


def test_kernels_know_that_a_book_is_built_and_get_an_absolute_data_folder(book, page):
    assert f"value 41 1 {book.root / 'data'}" in text_of(page)


def test_colab_is_offered_only_where_its_notebook_exists(book, page):
    target = "https://colab.research.google.com/github/owner/tiny/blob/main/chapters/part/page.ipynb"
    assert target in page
    for other in ("book/intro.html", "book/status.html", "chapters/part/plain.html"):
        assert "colab.research" not in (book.html / other).read_text(encoding="utf-8"), other


def test_every_page_has_one_viewport_and_describes_itself_with_a_picture_that_is_there(book, page):
    pages = [path for path in book.html.rglob("*.html") if path.name != "index.html" and "_static" not in path.parts]
    assert len(pages) >= 6
    for path in pages:
        head = path.read_text(encoding="utf-8").partition("</head>")[0]
        counts = [head.count(f'<meta {one}"') for one in ('name="viewport', 'name="description', 'property="og:title')]
        assert counts == [1, 1, 1], path
        picture = re.search(r'<meta property="og:image" content="([^"]+)"', head)[1]
        assert (path.parent / picture).resolve().is_file()
    assert '<meta name="description" content="The task and x^2." />' in page


def test_no_download_gives_a_solution_away(book, page):
    offered = set(re.findall(r'href="[./]*(_sources/[^"]+)"', page))
    assert offered == {"_sources/chapters/part/page.ipynb"}
    notebook = (book.html / offered.pop()).read_text(encoding="utf-8")
    assert "raise NotImplementedError" in notebook and "return x + x" not in notebook
    assert not list((book.html / "_sources" / "chapters").rglob("*.md"))


def test_plotly_js_is_loaded_once_and_only_where_a_figure_is(book, page):
    scripts = re.findall(r"<script[^>]+vendor/plotly[^>]*>", page)
    assert len(scripts) == 1 and 'type="text/plain"' in scripts[0] and page.count('class="lab-plot"') == 1
    assert (book.html / "vendor" / "plotly.min.js").stat().st_size > 1_000_000
    assert "plotly.min.js" not in (book.html / "book/intro.html").read_text(encoding="utf-8")


def test_a_further_section_is_folded_under_its_sentence_and_its_heading_stays(page):
    fold = page[page.index('<details class="lab-further">'):]
    assert page.index(">More of it<") < page.index('<details class="lab-further">') < page.index("Folded words.")
    summary = text_of(fold[:fold.index("</summary>")])
    assert summary == "Further, 3 minutes How a number is doubled." and "Folded words." in fold[:fold.rindex("</details>")]
    assert "How a number is doubled." not in text_of(page.replace(fold[:fold.index("</summary>")], ""))


def test_the_search_knows_the_section_of_a_word_that_the_page_does_not_use(book, page):
    found = json.loads((book.html / "searchindex.js").read_text(encoding="utf-8").removeprefix("Search.setIndex(").removesuffix(")"))
    ((place, anchor, main),) = found["indexentries"]["twofold"]
    assert (found["docnames"][place], anchor, main) == ("chapters/part/page", "more-of-it", True)
    assert 'id="more-of-it"' in page and "twofold" not in text_of(page)
    assert 'href="chapters/part/page.html#more-of-it"><strong>twofold' in (book.html / "genindex.html").read_text(encoding="utf-8")


def test_a_chapter_has_a_strip_for_its_figures_below_its_first_paragraph(book, page):
    assert page.count('class="lab-strip"') == 1
    assert page.index("The <a") < page.index('class="lab-strip"') < page.index('class="lab-plot"')
    assert "lab-strip" not in (book.html / "book/intro.html").read_text(encoding="utf-8")


def test_a_figure_has_a_static_picture_where_a_browser_is_and_a_sentence_where_none_is(book, page):
    inside = re.search(r'<div class="lab-plot"[^>]*>(<noscript>.*?</noscript>)</div>', page)[1]
    if doctor.browser() is None:
        assert "its numbers are in the table" in inside
        return
    source = re.search(r'src="([^"]+)"', inside)[1]
    svg = (book.html / "chapters/part" / source).read_text(encoding="utf-8")
    assert svg.startswith("<svg") and 'class="xtick"' in svg and f'data-still="{source}"' in page
    corners = re.findall(r'class="js-line" d="M([\d.]+),([\d.]+)L([\d.]+),([\d.]+)"|class="js-line" d="(.+?)"', svg)
    assert corners, "the line is not drawn"


def test_stills_that_no_figure_has_are_removed_and_those_there_are_not_drawn_again(monkeypatch, tmp_path):
    drawn = []
    monkeypatch.setattr(lab_stills, "draw", lambda packed, program: drawn.append([*packed]) or dict.fromkeys(packed, "<svg/>"))
    for figures in ({"a.svg": "1", "b.svg": "2"}, {"b.svg": "2", "c.svg": "3"}, {"c.svg": "3"}):
        lab_stills.draw_missing(figures, tmp_path, "browser")
    assert drawn == [["a.svg", "b.svg"], ["c.svg"]] and [path.name for path in tmp_path.iterdir()] == ["c.svg"]


def test_pages_that_are_not_written_anew_keep_their_stills(monkeypatch, tmp_path):
    monkeypatch.setattr(lab_stills, "draw", lambda packed, program: {name: f"<svg>{text}</svg>" for name, text in packed.items()})
    monkeypatch.setattr(lab_stills, "browser", lambda: "browser")
    plot = ('<div class="lab-plot" style="height:300px"><noscript><p>numbers</p></noscript></div>'
            '<script type="application/json">{}</script>')
    write(tmp_path, {f"chapters/part/{name}.html": plot.format(name) for name in "ab"})
    app = SimpleNamespace(outdir=tmp_path, builder=SimpleNamespace(name="html"))
    lab_stills.add_stills(app, None)
    first = (tmp_path / "chapters/part/a.html").read_text()
    write(tmp_path, {"chapters/part/b.html": plot.format("c")})          # only b is written anew
    lab_stills.add_stills(app, None)
    assert (tmp_path / "chapters/part/a.html").read_text() == first
    assert sorted(path.read_text() for path in (tmp_path / lab_stills.FOLDER).iterdir()) == ["<svg>a</svg>", "<svg>c</svg>"]


def test_every_local_script_style_and_icon_of_a_page_exists(book, page):
    for link in re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="([^"#]+)"', page):
        if not link.startswith("http"):
            assert (book.html / "chapters/part" / link.split("?")[0]).exists() or link.endswith(".html"), link


def test_the_status_page_tells_machine_pages_stored_runs_and_zoo(book):
    status = text_of((book.html / "book/status.html").read_text(encoding="utf-8"))
    row = re.sub(r"\s+", " ", status[status.index("Experiment and command"):])
    assert "run make run A machine | with a bar 2026-01-31 0, 1 62 01234567" in row
    assert "lab_cnn/shapes make card 1,234 90.0 % (89.1 to 90.9) 7 62 A machine 2026-01-31 89abcdef" in re.sub(r"\s+", " ", status)
    assert "ran" in status and "chapters/part/page" in status
    assert re.search(r"Commit\s+unknown", status) and re.search(r"torch\s+\d", status)


def test_a_second_build_runs_nothing_and_gives_a_page_the_colab_button_of_a_notebook_written_meanwhile(book):
    before = runs(book.root)
    shutil.copy(book.root / "chapters/part/page.ipynb", book.root / "chapters/part/plain.ipynb")
    status, output = build(book.root)
    (book.root / "chapters/part/plain.ipynb").unlink()
    assert status == 0 and runs(book.root) == before, output
    assert "blob/main/chapters/part/plain.ipynb" in (book.html / "chapters/part/plain.html").read_text(encoding="utf-8")


def test_a_changed_constant_of_the_library_shows_on_the_page_after_the_next_build(book):
    before = runs(book.root)
    write(book.root, {"lightvit_lab/constant.py": "VALUE = 43\n"})
    status, output = build(book.root)
    assert status == 0 and runs(book.root) == before + 1, output
    assert "value 43 1" in text_of((book.html / "chapters/part/page.html").read_text(encoding="utf-8"))


def test_a_drawing_stands_in_the_page_itself_with_its_caption_and_no_number(book, page):
    figure = re.search(r'<figure class="lab-drawing.*?</figure>', page, re.DOTALL)[0]
    assert (book.root / "book/_static/diagrams/low_rank.svg").read_text(encoding="utf-8").strip() in figure
    caption = figure[figure.index("<figcaption>"):]
    assert "<em>thin</em>" in caption and r"\(k\)" in caption and text_of(caption).split()[0] == "Two"
    notebook = nbformat.read(book.html / "_sources/chapters/part/page.ipynb", as_version=4)
    assert "/book/_static/diagrams/low_rank.svg)" in "".join(cell.source for cell in notebook.cells)


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """What two builds of a book with one mistake of every kind print, and the lines the mistakes stand on."""
    root = tmp_path_factory.mktemp("broken").resolve()
    make_book(root)
    page = FRONT_MATTER.replace("---\n\n", FINDING) + """\
# A page of mistakes

```{no-such-directive}
```

```{diagram} low_rnk
Words.
```

## A part

:::{road} further
:::

```{exercise} Without label
```

```{exercise} Without solution
:label: page.missing
```

```{exercise} Without markers
:label: page.bare
```

```{code-cell} ipython3
check = print
check("page.bare", 1)
print("[wrong] page.bare: another number")
```

```{exercise} Below a cell
:label: page.below
```
"""
    write(root, {"chapters/part/page.md": page, "book/results/run.json": json.dumps({**RESULT, "seeds": "none"}),
                 "chapters/part/plain.md": PLAIN.replace("1 + 1", "1 / 0")})
    lines = {line.strip("`"): number for number, line in enumerate(page.splitlines(), start=1)}
    return SimpleNamespace(root=root, lines=lines, builds=[build(root), build(root)])


@pytest.mark.parametrize(("directive", "message"), [
    ("{no-such-directive}", "Unknown directive type: 'no-such-directive'"),
    ("{diagram} low_rnk", 'Did you mean "low_rank"?'),
    (":::{road} further", "give `core` or `further`, and minutes"),
    ("{exercise} Without label", "give it a :label:"),
    ("{exercise} Without solution", 'no code cell of this page calls check("page.missing", ...)'),
    ("{exercise} Without markers", "the solution cell has no markers"),
    ("{exercise} Below a cell", 'no code cell of this page calls check("page.below", ...)'),
])
def test_a_mistake_in_a_page_is_an_error_that_names_page_and_line(broken, directive, message):
    place, output = f"{broken.root}/chapters/part/page.md:{broken.lines[directive]}: WARNING: ", broken.builds[0][1]
    assert any(line.startswith(place) and message in line for line in output.splitlines()), output


def test_words_to_find_for_a_section_that_is_not_there_are_an_error(broken):
    assert re.search(r"page.md: WARNING: find: no section has the anchor 'more-of-it'; there are a-page-of-mistakes", broken.builds[0][1])


def test_a_broken_stored_result_is_an_error_that_names_the_file(broken):
    assert re.search(r"status.md:\d+: WARNING: .*/book/results/run.json: 'seeds' is 'none'", broken.builds[0][1])


def test_a_cell_that_raises_is_an_error_and_shows_its_traceback(broken):
    assert "plain.md: WARNING: Executing notebook failed" in broken.builds[0][1]
    assert "ZeroDivisionError" in broken.builds[0][1]


def test_a_solution_that_does_not_pass_is_an_error_in_each_build(broken):
    for _, said in broken.builds:
        assert re.search(r"page.md: a solution does not pass: \[wrong\] page.bare: another number", said)


def test_a_failed_build_fails_again_until_it_is_mended(broken):
    (first, said), (second, said_again) = broken.builds
    assert first != 0 and second != 0
    assert "Unknown directive type" in said and "Unknown directive type" in said_again


def test_scripts_come_from_the_cdn_where_they_could_not_be_fetched(monkeypatch, tmp_path):
    monkeypatch.setattr(vendor, "vendor", lambda: {"plotly": "1", "mathjax": "3.2.2"})
    config = SimpleNamespace(html_extra_path=[], html_css_files=[], html_js_files=[])
    lightvit_book.set_scripts(SimpleNamespace(srcdir=tmp_path), config)
    assert config.mathjax_path == "../vendor/mathjax/tex-mml-chtml.js"
    assert list(config.nb_ipywidgets_js) == [vendor.PACKAGES["widgets"].cdn]


def test_the_settings_exclude_derived_notebooks_and_treat_no_page_error_as_allowed():
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    assert "chapters/**.ipynb" in config["exclude_patterns"] and config["execute"]["allow_errors"] is False
    assert "repository" not in config, "the repository's address stands in pyproject.toml alone"
