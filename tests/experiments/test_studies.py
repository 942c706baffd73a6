"""The studies: found by scanning, named as their stored results, and the same runs as ever."""

import hashlib
import json
import sys

import pytest

from lightvit_lab.errors import LabError
from lightvit_lab.experiments import base, distillation, results, studies

MODULE = """
from lightvit_lab.experiments.kit import Row, Study

def run(row, stage, seed):
    return {"seed": seed, "found": row.shown["number"]}

STUDIES = (Study(NAME, lambda study: {"rows": study.table()}, {"a row": Row({"number": 3})}, run, seeds=(0,)),)
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of two modules, one of them a room deeper; each adds a study."""
    (tmp_path / "trial_studies" / "part").mkdir(parents=True)
    for folder in ("", "part"):
        (tmp_path / "trial_studies" / folder / "__init__.py").write_text("")
    (tmp_path / "trial_studies" / "first.py").write_text(MODULE.replace("NAME", "'first'"))
    (tmp_path / "trial_studies" / "part" / "page.py").write_text(MODULE.replace("NAME", "'second'"))
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path / "trial_studies"
    for name in [name for name in sys.modules if name.startswith("trial_studies")]:
        del sys.modules[name]


def test_a_module_that_is_put_into_the_package_adds_its_study(package):
    import trial_studies

    found = studies.find(trial_studies)
    assert list(found) == ["first", "second"] and found["second"]()["rows"][0]["found"] == 3


def test_two_studies_of_one_name_are_refused_with_the_module_of_the_second(package):
    import trial_studies

    (package / "part" / "page.py").write_text(MODULE.replace("NAME", "'first'"))
    with pytest.raises(LabError, match="two studies are called 'first', the second in trial_studies.part.page"):
        studies.find(trial_studies)


def test_the_command_stores_what_a_study_returns_with_its_name_seeds_and_command(package, tmp_path, monkeypatch, capsys):
    import trial_studies

    monkeypatch.setattr(studies, "STUDIES", studies.find(trial_studies))
    monkeypatch.setattr(results, "folder", lambda: tmp_path)
    studies.main(["second"])
    stored = results.load("second")
    assert stored.data["rows"] == [{"label": "a row", "recipe": "", "number": 3, "seed": 0, "found": 3}]
    assert stored.seeds == [0] and stored.command == "python -m lightvit_lab.experiments.studies second"
    assert "second.json" in capsys.readouterr().out
    with pytest.raises(LabError, match='Did you mean "second"'):
        studies.main(["secnd"])


def test_every_study_has_rows_or_stores_times_alone_and_those_for_a_gpu_come_first():
    names = list(studies.STUDIES)
    assert names[0] == "gpu_speed" and names[1:] == sorted(names[1:])
    assert {name for name, study in studies.STUDIES.items() if not study.rows} == {"gpu_speed", "light_models"}


# sha256 over the sorted names of the files in the cache, as they were before there was a kit: runs
# that were made then still count.
FILES = {
    "distillation_cifar10": (57, "b9e2ee65319dd447"),
    "distillation_limits": (24, "0da29b0c2a07c24c"),
    "early_exit_cifar10": (8, "f18f82f396b3b1b7"),
    "low_rank_cifar10": (40, "0ab8e37ae3ce53fb"),
    "pruning_cifar10": (64, "8e48a3e6fd54625c"),
    "token_merging_cifar10": (26, "cf7c64e51770624a"),
    "token_pruning_cifar10": (40, "3c7d28670fbaa490"),
}


@pytest.mark.parametrize("name", FILES)
def test_runs_that_were_cached_by_earlier_versions_are_found(name, monkeypatch):
    for module in (base, distillation):
        monkeypatch.setattr(module.zoo, "card", lambda name: {"sha256": f"card of {name}"})
    study = studies.STUDIES[name]
    keys = [study.key(row, stage, seed) for row in study.rows.values() for stage in row.stages for seed in row.seeds]
    files = {f"{study.cache}-{hashlib.sha256(json.dumps(key, default=str).encode()).hexdigest()[:20]}" for key in keys}
    count, digest = FILES[name]
    assert len(files) == count
    assert hashlib.sha256(" ".join(sorted(files)).encode()).hexdigest()[:16] == digest
