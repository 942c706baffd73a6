"""What every workflow and action has to keep to, as functions from a file's text to its faults.

A workflow has `jobs`; an action of our own has `runs.steps`. Both go through the same functions, so
that a new file of either kind is held to all of them.
"""

import re
import shlex
from collections.abc import Iterator

import yaml

READS = {"contents": "read"}
# Events that lend a stranger neither rights nor secrets; others can give a stranger's code both.
HARMLESS = {"push", "pull_request", "schedule", "workflow_dispatch", "workflow_call"}
PUBLISHES = {"pages": "write", "id-token": "write"}
REPORTS = {"issues": "write"}
PINNED = re.compile(r"[\w.-]+(/[\w.-]+)+@[0-9a-f]{40}|docker://[^@]+@sha256:[0-9a-f]{64}")
VERSION = re.compile(r"[\"']?\s+# v\d+(\.\d+)+\b")


def read(text: str) -> dict:
    """A YAML file as a dictionary; YAML 1.1 reads the key `on` as True."""
    return {("on" if key is True else key): value for key, value in yaml.safe_load(text).items()}


def jobs(text: str) -> dict[str, dict]:
    """The jobs of a workflow by name; an action's steps as one job."""
    content = read(text)
    return content["jobs"] if "jobs" in content else {"action": content["runs"]}


def steps(text: str) -> list[dict]:
    """All steps of a file, in order; a job that calls another workflow has none."""
    return [step for job in jobs(text).values() for step in job.get("steps", [])]


def commands(job: dict) -> str:
    """What a job runs, as one script."""
    return "\n".join(step["run"] for step in job.get("steps", []) if "run" in step)


def triggers(text: str) -> set[str]:
    """The events that start a workflow."""
    on = read(text)["on"]
    return {on} if isinstance(on, str) else set(on)


def actions(text: str) -> list[str]:
    """What a file runs by name: actions, called workflows, images of containers and services."""
    found = [holder["uses"] for holder in [*jobs(text).values(), *steps(text)] if "uses" in holder]
    for job in jobs(text).values():
        images = [job.get("container"), *job.get("services", {}).values()]
        if str(job.get("image", "")).startswith("docker://"):     # an action that is an image
            images.append(job["image"].removeprefix("docker://"))
        names = [each["image"] if isinstance(each, dict) else each for each in images if each]
        found += [f"docker://{name}" for name in names]
    return found


def systems(job: dict) -> set[str]:
    """The runners of a job; where the matrix names them, all that it names."""
    runner = job["runs-on"]
    if not (chosen := re.fullmatch(r"\$\{\{ *matrix\.([\w-]+) *\}\}", str(runner))):
        return {runner} if isinstance(runner, str) else set(runner)
    matrix = job["strategy"]["matrix"]
    rows = [row[chosen[1]] for row in matrix.get("include", []) if chosen[1] in row]
    return {*matrix.get(chosen[1], []), *rows}


def strings(value: object) -> Iterator[str]:
    """All strings inside a value read from YAML, keys included."""
    if isinstance(value, dict):
        yield from (found for pair in value.items() for each in pair for found in strings(each))
    elif isinstance(value, list):
        yield from (found for each in value for found in strings(each))
    elif isinstance(value, str):
        yield value


def not_pinned(text: str) -> list[str]:
    """Actions that are not named by commit, or do not say which version that is."""
    foreign = [name for name in actions(text) if not name.startswith("./")]
    loose = [name for name in foreign if not PINNED.fullmatch(name)]
    faults = [f"{name} is not pinned by its commit" for name in loose]
    for name in {name for name in foreign if not name.startswith("docker:")} - set(loose):
        rests = [line.split(name, 1)[1] for line in text.splitlines() if name in line]
        if not all(VERSION.match(rest) for rest in rests):
            faults.append(f"{name} is not followed by its version, as in `# v1.2.3`")
    return faults


def keeps_credentials(text: str) -> list[str]:
    """Checkouts that leave their token where every later step can read it."""
    return [f"{step['uses']} lacks persist-credentials: false" for step in steps(text)
            if step.get("uses", "").lower().startswith("actions/checkout@")
            and step.get("with", {}).get("persist-credentials") is not False]


def too_many_rights(text: str) -> list[str]:
    """Rights beyond reading, but for jobs that do nothing else than to publish or to report."""
    content, faults = read(text), []
    if "jobs" in content and content.get("permissions") not in (READS, {}):
        granted = content.get("permissions", "whatever the repository does")
        faults.append(f"the workflow grants {granted}")
    for name, job in jobs(text).items():
        granted = job.get("permissions", READS)
        if granted == REPORTS:
            faults += [f"{name}: {fault}" for fault in not_a_mere_report(job)]
        elif granted == PUBLISHES:
            faults += [f"{name}: {fault}" for fault in not_a_mere_deployment(job)]
        elif not isinstance(granted, dict) or not set(granted.values()) <= {"read", "none"}:
            faults.append(f"{name} grants {granted}")
    return faults


def not_a_mere_report(job: dict) -> list[str]:
    """What a job that may write issues does beyond running `gh` after a weekly job."""
    faults = [f"runs {step['uses']}" for step in [job, *job.get("steps", [])] if "uses" in step]
    others = programs(commands(job)) - {"gh issue", "grep"}
    faults += [f"runs {program}" for program in sorted(others)]
    condition = r"(always|failure)\(\) && github\.event_name == 'schedule' && needs\."
    if not job.get("needs") or not re.match(condition, job.get("if", "")):
        faults.append("is not a job of its own that follows a failed weekly one")
    return faults


def not_a_mere_deployment(job: dict) -> list[str]:
    """What a job that may write pages does beyond that."""
    ours = [step.get("uses", "a command").partition("@")[0] for step in job.get("steps", [])]
    faults = [f"runs {each}" for each in ours if each != "actions/deploy-pages"]
    from_main = "refs/heads/main" in job.get("if", "")
    return faults if from_main else [*faults, "publishes other branches than main"]


def programs(script: str) -> set[str]:
    """The programs that a shell script calls; `gh` with its first argument."""
    joined = re.sub(r"(\|\||&&|\||\\)[ \t]*\n", lambda end: end[1].replace("\\", "") + " ", script)
    found = set()
    for line in joined.splitlines():
        words = list(shlex.shlex(line, posix=True, punctuation_chars=True))
        for place, word in enumerate(words):
            if place == 0 or set(words[place - 1]) <= set("|&;("):
                found.add(" ".join(words[place:place + 2]) if word == "gh" else word)
    return found | {"a command inside another" for _ in re.findall(r"\$\(|`", script)}


def pasted_into_scripts(text: str) -> list[str]:
    """Expressions in commands, where a title would run as code; `env:` hands them over safely."""
    scripts = [(step.get("run"), step.get("with", {}).get("script")) for step in steps(text)]
    joined = "\n".join(script for pair in scripts for script in pair if script)
    return [f"a script holds {found}" for found in re.findall(r"\$\{\{.*?\}\}", joined, re.DOTALL)]


def open_to_strangers(text: str) -> list[str]:
    """What lends rights, secrets or a machine of ours to whoever opens a pull request."""
    content = read(text)
    events = triggers(text) if "jobs" in content else set()
    faults = [f"is started by {event}" for event in sorted(events - HARMLESS)]
    for word in ("secrets", "self-hosted"):
        if any(re.search(rf"(?<![\w-]){word}(?![\w-])", found) for found in strings(content)):
            faults.append(f"uses {word}")
    return faults


def without_end(text: str) -> list[str]:
    """Jobs that could hang for hours, and workflows whose runs could pile up."""
    content = read(text)
    if "jobs" not in content:
        return []
    faults = [f"{name} has no end within two hours" for name, job in jobs(text).items()
              if "uses" not in job and not 0 < job.get("timeout-minutes", 0) <= 120]
    grouped = "group" in content.get("concurrency", {})
    return faults if grouped else [*faults, "the workflow has no concurrency group"]


def unreported(text: str) -> list[str]:
    """Jobs of a weekly workflow whose failure nobody hears of; outside one, jobs that report."""
    reports = {name: job for name, job in jobs(text).items() if job.get("permissions") == REPORTS}
    if "jobs" not in read(text) or "schedule" not in triggers(text):
        return [f"{name} reports runs that somebody looks at anyway" for name in reports]
    heard = {name for name in jobs(text) for job in reports.values()
             if name in list(strings(job.get("needs")))
             and f"needs.{name}.result != 'success'" in job["if"]}
    unheard = [name for name in jobs(text) if name not in heard | set(reports)]
    return [f"nobody hears of a failure of {name}" for name in unheard]


RULES = [not_pinned, keeps_credentials, too_many_rights, pasted_into_scripts, open_to_strangers,
         without_end, unreported]
