"""The skeleton of a page, laid in a copy of the tree: it derives, passes all tests, and builds."""

import ast
import importlib
import os
import re
import shutil
import subprocess
import sys

import forked
import lessons
import new_page
import notebooks
import pytest
import yaml

from lightvit_lab.errors import LabError

ROOT = notebooks.ROOT
LEFT_OUT = shutil.ignore_patterns(
    ".git",
    ".venv*",
    "_build",
    "_vendor",
    "__pycache__",
    "*_cifar10.json",
    "*.ipynb",
    ".*_cache",
    "*.egg-info",
)
PARTS = [part["part"] for part in lessons.parts()]
EDITED = {"_toc.yml"}  # of the files that were there; the other four of a page its author edits
CHECKED = [
    "tests/dynamic/test_my_method.py",
    "tests/exercises/test_every_exercise.py",
    *(f"tests/book/test_{name}.py" for name in ("pages", "alt_texts", "teaching", "notebooks", "terms")),
]


def run(root, *command, **environment):
    """Standard output of a command in the copy; fails with all it printed."""
    done = subprocess.run(
        [sys.executable, *command],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(root), "NO_COLOR": "1", **environment},
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    return done.stdout


def contents(root):
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the tree with a new page, made by the command; what it held before."""
    root = tmp_path_factory.mktemp("tree") / "lab"
    shutil.copytree(ROOT, root, ignore=LEFT_OUT)
    before = contents(root)
    run(root, "book/_tools/new_page.py", "dynamic/my_method", "--title", 'Every "second" token')
    return root, before


@pytest.fixture
def bare(tmp_path):
    """The few files that laying a page reads."""
    shutil.copy(ROOT / "_toc.yml", tmp_path)
    shutil.copytree(ROOT / "chapters", tmp_path / "chapters", ignore=LEFT_OUT)
    for name in (
        "lightvit_lab/dynamic/__init__.py",
        "lightvit_lab/compression/calibrating.py",
        "pyproject.toml",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def test_of_the_files_that_were_there_only_the_table_of_contents_changes(copy):
    root, before = copy
    after = contents(root)
    assert {name for name in before if after[name] != before[name]} == EDITED
    assert sorted(set(after) - set(before)) == [
        "chapters/dynamic/my_method.md",
        "lightvit_lab/dynamic/my_method.py",
        "lightvit_lab/exercises/answers/dynamic/my_method.json",
        "lightvit_lab/exercises/answers/dynamic/my_method.py",
        "lightvit_lab/exercises/dynamic/my_method.json",
        "lightvit_lab/exercises/dynamic/my_method.py",
        "tests/dynamic/test_my_method.py",
    ]


def test_the_new_page_passes_its_own_tests_and_those_of_every_page(copy):
    root, _ = copy
    page = root / "chapters/dynamic/my_method.md"
    page.with_suffix(".ipynb").write_text(
        notebooks.text_of(notebooks.derive(page, "main")), encoding="utf-8"
    )
    said = run(root, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "my_method", *CHECKED)
    assert int(re.search(r"(\d+) passed", said)[1]) >= 20 and "failed" not in said


def test_the_new_page_builds_without_a_warning_and_is_counted_mapped_and_planned(copy, tmp_path):
    root, _ = copy
    (root / "_toc.yml").write_text(
        "format: jb-book\nroot: book/intro\nchapters:\n- file: book/teaching\n"
        "- file: chapters/dynamic/my_method\n",
        encoding="utf-8",
    )
    (root / "book/intro.md").write_text(
        "# Book\n\n{count}`pages` written\n\n```{taxonomy-map}\n```\n", encoding="utf-8"
    )
    (root / "book/teaching.md").write_text(
        "# Plan\n\n```{teaching-plan}\n```\n\n```{lectures}\n```\n", encoding="utf-8"
    )
    config = (root / "_config.yml").read_text(
        encoding="utf-8"
    )  # the tree's own extension finds scripts once fetched
    (root / "_config.yml").write_text(
        config.replace(": book/_ext", f": {ROOT}/book/_ext"), encoding="utf-8"
    )
    page = root / "chapters/dynamic/my_method.md"  # what it leads to is not part of so small a book
    text = page.read_text().replace(
        "[The Vision Transformer](../foundations/vision_transformer.md)", "Nothing"
    )
    page.write_text(re.sub(r"\{term\}`([^`<]+?)(?: <[^>]+>)?`", r"\1", text))
    command = importlib.import_module("jupyter_book.cli.main").main
    status, said = forked.run(
        lambda: command(["build", ".", "-W", "--keep-going"]),
        tmp_path / "said.txt",
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), "NO_COLOR": "1", "LIGHTVIT_DATA": ""},
    )
    assert status == 0, said[-5000:]
    html = root / "_build" / "html"
    built = (html / "chapters/dynamic/my_method.html").read_text(encoding="utf-8")
    assert built.count('class="lab-plot"') >= 2 and built.count("passed") >= 3
    intro, plan = (
        (html / f"book/{name}.html").read_text(encoding="utf-8") for name in ("intro", "teaching")
    )
    assert "1 written" in intro and "chapters/dynamic/my_method.html" in intro
    assert plan.count("chapters/dynamic/my_method.html") >= 2 and "How many are left?" in plan


@pytest.mark.parametrize("part", PARTS)
def test_in_every_part_page_and_code_can_be_read_and_a_notebook_derives(bare, part):
    written = new_page.lay(bare, f"{part}/my_method")
    assert [
        path for path in written if path.suffix == ".py" and not ast.parse(path.read_text())
    ] == []
    assert {path.parent.name for path in written if path.name == "my_method.py"} <= {
        part,
        "models",
        "explain",
    }
    page = bare / f"chapters/{part}/my_method.md"
    assert notebooks.derive(page, "main").cells[0].source.startswith("# My method")
    toc = yaml.safe_load((bare / "_toc.yml").read_text())
    chapters = [[entry["file"] for entry in each["chapters"]] for each in toc["parts"]]
    assert [files[-1] for files in chapters if f"chapters/{part}/my_method" in files] == [
        f"chapters/{part}/my_method"
    ]
    assert lessons.read(page).weeks.keys() <= set(range(1, 13))


def test_a_planned_page_brings_its_title_and_its_week(bare):
    new_page.lay(bare, "practice/deployment")
    lesson = lessons.read(bare / "chapters/practice/deployment.md")
    assert (lesson.title, lesson.weeks) == (
        "Deployment",
        {12: "What does a model need outside the notebook?"},
    )


@pytest.mark.parametrize(
    "name, said",
    [
        ("dynamic/token_merging", "already chapters/dynamic/token_merging.md"),
        ("compression/token_merging", "already chapters/dynamic/token_merging.md"),
        ("compression/calibrating", "already lightvit_lab/compression/calibrating.py"),
        ("dynamics/my_method", "part='dynamics' is unknown. Did you mean \"dynamic\""),
        ("my_method", "no name of a page"),
        ("dynamic/", "no name of a page"),
        ("dynamic/My-Method", "no name of a page"),
        ("dynamic/class", "no name of a page"),
        ("dynamic/../x", "no name of a page"),
        ("", "no name of a page"),
    ],
)
def test_what_exists_and_what_is_no_page_is_refused_in_a_sentence_and_nothing_is_written(
    bare, name, said
):
    before = contents(bare)
    with pytest.raises(LabError, match=re.escape(said)):
        new_page.lay(bare, name)
    assert contents(bare) == before


@pytest.mark.parametrize("title", ["a \\ b", 'three """ quotes'])
def test_a_title_that_would_break_the_code_is_refused(bare, title):
    with pytest.raises(LabError, match="TITLE="):
        new_page.lay(bare, "dynamic/my_method", title)


def test_make_page_hands_stem_and_title_over_as_they_are():
    asked = subprocess.run(
        ["make", "-n", "page", "STEM=dynamic/my_method", "TITLE=It's $two"],
        cwd=ROOT,
        text=True,
        capture_output=True,
        check=True,
    ).stdout
    assert 'book/_tools/new_page.py "${STEM:-}" --title "${TITLE:-}"' in asked
