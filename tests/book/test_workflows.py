"""The workflows run elsewhere, so this holds them to what they rely on: Makefile, tools, files and
their own rules. The rules are in `workflow_rules.py`; each is tried on copies in which it is
broken, so that none passes by not looking.
"""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import workflow_rules as rules
import yaml

ROOT = Path(__file__).parents[2]
GITHUB = ROOT / ".github"
FOUND = sorted(GITHUB.glob("workflows/*.y*ml"))
WORKFLOWS = {path.stem: path.read_text(encoding="utf-8") for path in FOUND}
ACTIONS = [path for name in ("action.yml", "action.yaml") for path in sorted(GITHUB.rglob(name))]
FILES = [*FOUND, *ACTIONS, GITHUB / "dependabot.yml"]
WEEKLY = [name for name, text in WORKFLOWS.items() if "schedule" in rules.triggers(text)]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
HASH = "0123456789abcdef0123456789abcdef01234567"
needs_bash = pytest.mark.skipif(not shutil.which("bash"), reason="runs the workflows' own scripts")


def _commands(name):
    return "\n".join(map(rules.commands, rules.jobs(WORKFLOWS[name]).values()))


def _jobs_that_run(command):
    """The jobs with a line that is the command, with any arguments, each with its workflow."""
    return [(name, job) for name, text in WORKFLOWS.items() for job in rules.jobs(text).values()
            if any(f"{line.strip()} ".startswith(f"{command} ")
                   for line in rules.commands(job).splitlines())]


def _made(job):
    return re.findall(r"^\s*make +([\w-]+)", rules.commands(job), re.MULTILINE)


def test_no_workflow_of_the_plan_is_missing():
    assert set(WORKFLOWS) == {"tests", "book", "cold-build", "colab", "links"}
    assert set(WEEKLY) == {"cold-build", "colab", "links"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(GITHUB).as_posix())
def test_each_file_begins_by_saying_why_it_exists(path):
    comment = re.match(r"(#.*\n)+", path.read_text(encoding="utf-8"))
    assert comment and comment[0].startswith("# Why: ")
    assert len(comment[0].split()) >= 15


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("path", FILES[:-1], ids=lambda path: path.relative_to(GITHUB).as_posix())
def test_every_workflow_and_action_keeps_every_rule(path, rule):
    assert rule(path.read_text(encoding="utf-8")) == []


STEP = f"      - uses: actions/checkout@{HASH}\n"
# For each rule: a workflow, what stands there, what is put in its place, what the rule says then.
BROKEN = {
    rules.not_pinned: [
        ("book", r"checkout@\w+ # v[\d.]+", "checkout@v7", "actions/checkout@v7 is not pinned"),
        ("links", r"lychee-action@\w+ # v[\d.]+", "lychee-action@master", "@master is not pinned"),
        ("book", r"(deploy-pages@\w{39})\w", r"\1", "is not pinned"),
        ("tests", r"(setup-python@\w+) # v[\d.]+", r"\1", "is not followed by its version"),
        ("tests", r"    steps:", "    container: python:3\n    steps:", "python:3 is not pinned"),
        ("tests", r"jobs:", "jobs:\n  more: {uses: other/one/.github/workflows/a.yml@main}",
         "a.yml@main is not pinned")],
    rules.keeps_credentials: [
        ("tests", r", persist-credentials: false", "", "lacks persist-credentials"),
        ("colab", r"persist-credentials: false", "persist-credentials: true", "lacks persist")],
    rules.too_many_rights: [
        ("tests", r"permissions: .*", "", "whatever the repository does"),
        ("tests", r"permissions: .*", "permissions: write-all", "the workflow grants write-all"),
        ("links", r"permissions: .*read}", "permissions: {issues: write}", "the workflow grants"),
        ("links", r"env: {TORCH_INDEX: cpu}", "permissions: {issues: write}",
         "links: runs lycheeverse/lychee-action"),
        ("tests", r"timeout-minutes: 45", "permissions: {contents: write}", "tests grants"),
        ("links", r"      - run: \|\n", f"{STEP}      - run: |\n", "report: runs actions/checkout"),
        ("colab", r"gh issue create", "curl https://example.org; gh issue create", "runs curl"),
        ("colab", r'--body "', '--body "$(cat ran.ipynb)', "a command inside another"),
        ("cold-build", r"gh issue create", "gh api -X DELETE", "report: runs gh api"),
        ("cold-build", r"    needs: build\n", "", "is not a job of its own"),
        ("book", r"      - id: deploy", "      - run: make\n      - id: deploy", "runs a command"),
        ("book", r" && github.ref == 'refs/heads/main'", "", "other branches than main")],
    rules.pasted_into_scripts: [
        ("tests", r"make test-book", "echo ${{ github.event.issue.title }}", "issue.title"),
        ("colab", r'"\$GITHUB_SHA"', "${{ github.head_ref }}", "github.head_ref")],
    rules.open_to_strangers: [
        ("tests", r"pull_request:", "pull_request_target:", "started by pull_request_target"),
        ("book", r"pull_request:", "issue_comment:", "started by issue_comment"),
        ("tests", r"TORCH_INDEX: cpu", "TOKEN: '${{ secrets.PYPI }}'", "uses secrets"),
        ("tests", r"ubuntu-latest", "[self-hosted, linux]", "uses self-hosted")],
    rules.without_end: [
        ("book", r"timeout-minutes: 60", "timeout-minutes: 600", "build has no end"),
        ("tests", r"    timeout-minutes: 45\n", "", "tests has no end"),
        ("links", r"concurrency: .*", "", "no concurrency group")],
    rules.unreported: [
        ("colab", r"needs: lists", "needs: notebooks", "nobody hears of a failure of lists"),
        ("links", r"needs.links.result != 'success'", "failure()", "a failure of links"),
        ("cold-build", r"jobs:", "jobs:\n  more: {steps: [{run: make}]}", "a failure of more")],
}


def test_every_rule_is_tried_on_workflows_that_break_it():
    assert list(BROKEN) == rules.RULES


@pytest.mark.parametrize(("rule", "name", "old", "new", "says"), [
    pytest.param(rule, *case, id=f"{case[0]}: {case[-1]}")
    for rule, cases in BROKEN.items() for case in cases])
def test_a_broken_rule_is_noticed_in_a_copy_of_a_workflow(rule, name, old, new, says):
    doctored, count = re.subn(old, new, WORKFLOWS[name])
    assert count and any(says in fault for fault in rule(doctored)), rule(doctored)


@pytest.mark.parametrize(("rule", "step", "says"), [
    (rules.not_pinned, "{uses: actions/cache@v6}", "actions/cache@v6 is not pinned"),
    (rules.keeps_credentials, "{uses: actions/checkout@" + HASH + "}", "lacks persist-credentials"),
    (rules.pasted_into_scripts, "{shell: bash, run: 'echo ${{ inputs.title }}'}", "inputs.title"),
    (rules.pasted_into_scripts,
     "{uses: a/b@" + HASH + ", with: {script: 'f(${{ inputs.title }})'}}", "inputs.title"),
    (rules.open_to_strangers, "{shell: bash, run: make, env: {A: '${{ secrets.A }}'}}", "secrets"),
])
def test_a_broken_rule_is_noticed_in_an_action_of_our_own(rule, step, says):
    action = f"name: An action\nruns:\n  using: composite\n  steps:\n    - {step}\n"
    assert any(says in fault for fault in rule(action))


def test_one_version_of_an_action_is_used_everywhere_and_one_commit_stands_for_it():
    named = re.findall(r"uses: ([\w-]+/[\w-]+)\S*@(\w+) # (\S+)", "\n".join(WORKFLOWS.values()))
    assert len(named) >= 8
    assert len({action for action, *_ in named}) == len(set(named))


def test_actions_of_our_own_are_there():
    used = {name for text in WORKFLOWS.values() for name in rules.actions(text)}
    for name in (name for name in used if name.startswith("./")):
        assert (ROOT / name).is_file() or (ROOT / name / "action.yml").is_file(), name


def test_actions_are_kept_up_to_date_wherever_they_are_named():
    updates = yaml.safe_load((GITHUB / "dependabot.yml").read_text(encoding="utf-8"))["updates"]
    watched = [update for update in updates if update["package-ecosystem"] == "github-actions"]
    folders = {folder for update in watched
               for folder in [update.get("directory"), *update.get("directories", [])]}
    assert folders >= {"/", *(f"/{path.parent.relative_to(ROOT).as_posix()}" for path in ACTIONS)}
    assert all(update["schedule"]["interval"] in {"weekly", "monthly"} for update in watched)


@pytest.mark.parametrize("name", WORKFLOWS)
def test_make_is_called_with_targets_that_the_makefile_has(name):
    targets = set(re.findall(r"^([\w-]+):", MAKEFILE, re.MULTILINE))
    called = {target for job in rules.jobs(WORKFLOWS[name]).values() for target in _made(job)}
    assert called <= targets, f"{name}.yml: no such target: {called - targets}"


@pytest.mark.parametrize("name", WORKFLOWS)
def test_the_makefile_reads_each_variable_that_a_job_sets_for_it(name):
    for job in filter(_made, rules.jobs(WORKFLOWS[name]).values()):
        holders = [rules.read(WORKFLOWS[name]), job, *job["steps"]]
        theirs = {variable for holder in holders for variable in holder.get("env", {})}
        for variable in theirs - {"LIGHTVIT_REQUIRE_BROWSER"}:
            assert f"$({variable})" in MAKEFILE, f"{name}.yml: the Makefile knows no {variable}"


@pytest.mark.parametrize("name", WORKFLOWS)
def test_tools_are_called_with_options_that_they_have(name):
    for script, arguments in re.findall(r"python (book/\S+\.py)(.*)", _commands(name)):
        command = [sys.executable, ROOT / script, "--help"]
        help_text = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT,
                                   env={"PYTHONPATH": str(ROOT)}).stdout
        for option in re.findall(r"(?<!\S)--[\w-]+", arguments):
            assert option in help_text, f"{name}.yml: {script} knows no {option}"


@pytest.mark.parametrize("target", [
    "test", "test-book", "test-minimum", "test-colab", "test-devices"])
def test_each_kind_of_test_runs_before_a_change_is_merged(target):
    found = [name for name, _ in _jobs_that_run(f"make {target}")]
    assert any("pull_request" in rules.triggers(WORKFLOWS[name]) for name in found)


def test_the_library_is_tested_on_windows_and_macos_by_the_plain_pip_of_the_readme():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    install = re.search(r"python (-m pip install -c constraints\.txt .*)", readme)[1]
    found = _jobs_that_run(f"python {install}")
    systems = {system for _, job in found for system in rules.systems(job)}
    assert systems == {"windows-latest", "macos-latest"}
    for name, job in found:
        assert "pull_request" in rules.triggers(WORKFLOWS[name]) and not _made(job)
        arguments = re.search(r"^python -m pytest (.*)", rules.commands(job), re.MULTILINE)[1]
        left_out = re.findall(r"--ignore=(\S+)", arguments)
        assert left_out == ["tests/book", "tests/grader"]
        assert all((ROOT / folder).is_dir() for folder in left_out)


@pytest.mark.parametrize("name", WORKFLOWS)
def test_the_whole_history_is_fetched_since_notebooks_are_pinned_to_a_commit(name):
    for job in filter(_made, rules.jobs(WORKFLOWS[name]).values()):
        checkouts = [step for step in job["steps"] if "actions/checkout@" in step.get("uses", "")]
        assert checkouts and all(step["with"]["fetch-depth"] == 0 for step in checkouts)


def test_the_book_is_published_only_from_main_and_only_after_the_browser_has_seen_it():
    jobs = rules.jobs(WORKFLOWS["book"])
    runs = [step.get("run") for step in jobs["build"]["steps"]]
    uploads = ["upload-pages-artifact@" in step.get("uses", "") for step in jobs["build"]["steps"]]
    assert runs.index("make book") < runs.index("make test-browser") < uploads.index(True)
    assert jobs["publish"]["needs"] == "build"
    assert "github.ref == 'refs/heads/main'" in jobs["publish"]["if"]
    assert "!= 'pull_request'" in jobs["publish"]["if"]


def test_the_cold_build_restores_nothing():
    assert not [name for name in rules.actions(WORKFLOWS["cold-build"]) if "actions/cache" in name]
    assert all("cache" not in step.get("with", {}) for step in rules.steps(WORKFLOWS["cold-build"]))


@pytest.mark.parametrize("name", ["tests", "cold-build"])
def test_the_tried_pythons_begin_with_the_lowest_we_promise(name):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lowest = re.search(r">=\s*(\d+)\.(\d+)", project["requires-python"])
    rows = [row for job in rules.jobs(WORKFLOWS[name]).values()
            for row in job.get("strategy", {}).get("matrix", {}).get("include", [])]
    tried = [row["python"] for row in rows if "python" in row]
    versions = [tuple(map(int, python.split("."))) for python in tried]
    assert min(versions) == tuple(map(int, lowest.groups()))
    assert len(set(tried)) > 1


def test_the_lowest_versions_are_tried_on_the_lowest_python():
    (_, job), = _jobs_that_run("make test-minimum")
    pythons = [step["with"]["python-version"] for step in job["steps"]
               if "setup-python@" in step.get("uses", "")]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert [f">={python}" for python in pythons] == [project["requires-python"].replace(" ", "")]


def test_what_runs_in_colabs_image_is_the_commit_that_was_checked_out():
    job = rules.jobs(WORKFLOWS["colab"])["notebooks"]
    derived = re.findall(r"notebooks\.py (.*)", rules.commands(job))
    assert [sorted(set(re.findall(r"--solutions|--ref \S+", call))) for call in derived] == [
        ['--ref "$GITHUB_SHA"'], ['--ref "$GITHUB_SHA"', "--solutions"]]
    assert all(re.search(r"--out derived/\w+$", call) for call in derived)
    run = re.findall(r"for notebook in (.*); do", rules.commands(job))
    assert run == ["derived/*/chapters/*/*.ipynb"]


def test_colabs_image_is_the_newest_and_its_lists_are_compared():
    image = rules.read(WORKFLOWS["colab"])["env"]["IMAGE"]
    assert re.fullmatch(r"us-docker\.pkg\.dev/colab-images/public/[\w-]+", image)   # no tag
    assert "colab_lists.py --changed" in rules.commands(rules.jobs(WORKFLOWS["colab"])["lists"])


@pytest.mark.parametrize("name", WORKFLOWS)
def test_no_workflow_changes_the_repository(name):
    assert not re.search(r"\bgit (commit|push|tag)\b|\bgh (pr|release)\b", _commands(name))


def _run(script, folder, **environment):
    """A workflow's script as its runner starts it, the programs in `folder` before all others."""
    for program in folder.iterdir():
        program.chmod(0o755)
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(["bash", "-e", "-c", script], check=False, capture_output=True,
                          text=True, cwd=folder.parent, env={"PATH": path, **environment})


@needs_bash
@pytest.mark.parametrize(("open_title", "created"), [
    ("Another", True), ("It failed again", True), ("It failed", False)])
def test_a_report_opens_an_issue_unless_one_with_its_title_is_open(tmp_path, open_title, created):
    scripts = {rules.commands(job) for name in WEEKLY
               for job in rules.jobs(WORKFLOWS[name]).values()
               if job.get("permissions") == rules.REPORTS}
    assert len(scripts) == 1, "the reports differ"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/gh").write_text(
        '#!/bin/bash\nif [ "$2" = list ]; then printf "%s\\n" "$OPEN" More; exit; fi\n'
        'printf "%s\\n" "$@" > created\n')
    title, run = "It failed", "https://example.org/run"
    done = _run(scripts.pop(), tmp_path / "bin", OPEN=open_title, TITLE=title, RUN=run)
    assert done.returncode == 0 and (tmp_path / "created").exists() == created
    if created:
        asked = (tmp_path / "created").read_text().splitlines()
        assert asked[:5] == ["issue", "create", "--title", title, "--body"]
        assert asked[5].endswith(run)


@needs_bash
@pytest.mark.parametrize(("place", "shows", "status", "fails"), [
    ("solutions", '"[passed] all is well"', 0, False),
    ("solutions", '"[wrong] not this"', 0, True),
    ("stubs", '"[not started] a stub"', 0, False),
    ("stubs", '"[passed] but a cell failed"', 1, True),
    (None, "", 1, True),
])
def test_the_run_in_colabs_image_fails_where_a_cell_or_a_solution_does(
        tmp_path, place, shows, status, fails):
    scripts = [step.get("run", "") for step in rules.steps(WORKFLOWS["colab"])]
    script, = (script for script in scripts if "for notebook in" in script)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/docker").write_text('#!/bin/bash\nprintf "%s\\n" "$SHOWS"; exit $STATUS\n')
    if place:
        notebook = tmp_path / "derived" / place / "chapters/part/page.ipynb"
        notebook.parent.mkdir(parents=True)
        notebook.write_text("{}")
    done = _run(script, tmp_path / "bin", SHOWS=shows, STATUS=str(status), IMAGE="image")
    assert (done.returncode != 0) == fails, done.stdout
