"""The workflows run elsewhere, so this holds them to what they rely on: Makefile, tools, files and their own rules."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
GITHUB = ROOT / ".github"
WORKFLOWS = {path.stem: path for path in sorted(GITHUB.glob("workflows/*.yml"))}
FILES = [*WORKFLOWS.values(), *sorted(GITHUB.glob("actions/*/action.yml")), GITHUB / "dependabot.yml"]
REPORT = "./.github/actions/report-failure"
PINNED = re.compile(r"[\w.-]+(/[\w.-]+)+@(v\d+(\.\d+)*|[0-9a-f]{40})")


def _load(path):
    """A workflow as a dictionary; YAML 1.1 reads the key `on` as True."""
    read = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {("on" if key is True else key): value for key, value in read.items()}


def _jobs(name):
    return _load(WORKFLOWS[name])["jobs"].items()


def _steps(name):
    return [step for _, job in _jobs(name) for step in job["steps"]]


def _commands(name):
    return "\n".join(step["run"] for step in _steps(name) if "run" in step)


def _actions(name):
    return [step["uses"] for step in _steps(name) if "uses" in step]


def _environments(name):
    """Every `env` mapping of a workflow: its own, its jobs' and its steps'."""
    read = _load(WORKFLOWS[name])
    holders = [read, *read["jobs"].values(), *_steps(name)]
    return [holder["env"] for holder in holders if "env" in holder]


def _is_weekly(name):
    return "schedule" in _load(WORKFLOWS[name])["on"]


def test_no_workflow_of_the_plan_is_missing():
    assert set(WORKFLOWS) == {"tests", "book", "cold-build", "colab", "links"}
    assert {name for name in WORKFLOWS if _is_weekly(name)} == {"cold-build", "colab", "links"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(GITHUB).as_posix())
def test_each_file_begins_by_saying_why_it_exists(path):
    comment = re.match(r"(#.*\n)+", path.read_text(encoding="utf-8"))
    assert comment and comment[0].startswith("# Why: ")
    assert len(comment[0].split()) >= 15


@pytest.mark.parametrize("name", WORKFLOWS)
def test_make_is_called_with_targets_that_the_makefile_has(name):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([\w-]+):", makefile, re.MULTILINE))
    called = re.findall(r"^\s*make +([\w-]+)", _commands(name), re.MULTILINE)
    assert set(called) <= targets, f"{name}.yml: no such target: {set(called) - targets}"


def test_the_makefile_reads_each_variable_that_the_workflows_set_for_it():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for name in WORKFLOWS:
        theirs = {key for mapping in _environments(name) for key in mapping}
        for variable in theirs - {"IMAGE", "LIGHTVIT_REQUIRE_BROWSER"}:
            assert f"$({variable})" in makefile, f"{name}.yml sets {variable}, which the Makefile does not know"


@pytest.mark.parametrize("name", WORKFLOWS)
def test_tools_are_called_with_options_that_they_have(name):
    for script, arguments in re.findall(r"python (book/\S+\.py)(.*)", _commands(name)):
        help_text = subprocess.run([sys.executable, ROOT / script, "--help"], capture_output=True, text=True,
                                   cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, check=True).stdout
        for option in re.findall(r"(?<!\S)--[\w-]+", arguments):
            assert option in help_text, f"{name}.yml: {script} knows no {option}"


@pytest.mark.parametrize("name", WORKFLOWS)
def test_actions_are_pinned_at_least_to_a_major_version_or_lie_in_this_repository(name):
    for action in _actions(name):
        assert PINNED.fullmatch(action) or (ROOT / action / "action.yml").is_file(), f"{name}.yml: {action}"


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_weekly_run_that_fails_opens_an_issue_and_no_other_run_does(name):
    for job, content in _jobs(name):
        last = content["steps"][-1]
        if _is_weekly(name):
            assert last["uses"] == REPORT and last["with"]["title"], f"{name}.yml, {job}: the last step reports nothing"
            assert last["if"] == "failure() && github.event_name == 'schedule'"
        else:
            assert REPORT not in [step.get("uses") for step in content["steps"]], f"{name}.yml, {job}"


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_run_may_write_only_what_it_has_to(name):
    granted = {frozenset(_load(WORKFLOWS[name])["permissions"].items()): "workflow"}
    granted |= {frozenset(job["permissions"].items()): key for key, job in _jobs(name) if "permissions" in job}
    writes = {(scope, where) for pairs, where in granted.items() for scope, level in pairs if level == "write"}
    allowed = {("issues", "workflow")} if _is_weekly(name) else set()
    allowed |= {("pages", "publish"), ("id-token", "publish")} if name == "book" else set()
    assert writes == allowed


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_job_that_hangs_is_ended(name):
    assert all(job["timeout-minutes"] <= 120 for _, job in _jobs(name))


@pytest.mark.parametrize("name", WORKFLOWS)
def test_the_whole_history_is_fetched_since_notebooks_are_pinned_to_a_commit(name):
    checkouts = [step for step in _steps(name) if step.get("uses", "").startswith("actions/checkout@")]
    assert checkouts and all(step["with"]["fetch-depth"] == 0 for step in checkouts)


def test_the_book_is_published_only_from_main_and_only_after_the_browser_has_seen_it():
    jobs = dict(_jobs("book"))
    runs = [step.get("run") for step in jobs["build"]["steps"]]
    uploads = [step.get("uses", "").startswith("actions/upload-pages-artifact@") for step in jobs["build"]["steps"]]
    assert runs.index("make book") < runs.index("make test-browser") < uploads.index(True)
    assert jobs["publish"]["needs"] == "build"
    assert "github.ref == 'refs/heads/main'" in jobs["publish"]["if"] and "!= 'pull_request'" in jobs["publish"]["if"]


def test_the_cold_build_restores_nothing():
    assert not [action for action in _actions("cold-build") if action.startswith("actions/cache")]
    assert all("cache" not in step.get("with", {}) for step in _steps("cold-build"))


@pytest.mark.parametrize("name", ["tests", "cold-build"])
def test_the_tried_pythons_begin_with_the_lowest_we_promise(name):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lowest = re.search(r">=\s*(\d+)\.(\d+)", project["requires-python"])
    tried = [row["python"] for _, job in _jobs(name) for row in job["strategy"]["matrix"]["include"]]
    assert min(tuple(map(int, python.split("."))) for python in tried) == tuple(map(int, lowest.groups()))
    assert len(set(tried)) > 1
