"""The studies: found by scanning, named as their stored results, and the same runs as ever."""

import dataclasses
import sys

import pytest

from lightvit_lab import storage
from lightvit_lab.errors import LabError
from lightvit_lab.experiments import base, kit, results, studies

MODULE = """
from lightvit_lab.experiments.kit import Row, Study

def run(row, stage, seed):
    return {"seed": seed, "found": row.columns["number"]}

STUDIES = (Study(NAME, lambda study: {"rows": study.table()}, {"a row": Row({"number": 3})}, run),)
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


def test_every_study_has_rows_or_trains_nothing_and_those_for_a_gpu_come_first():
    names = list(studies.STUDIES)
    assert names[0] == "gpu_speed" and names[1:] == sorted(names[1:])
    assert {name for name, study in studies.STUDIES.items() if not study.rows} == {
        "gpu_speed", "light_models", "lightvit_lesion", "timing_under_load"}


# Names of files in the cache, as they were before there was a kit: runs that were made then still count.
FILES = [
    ("pruning_cifar10", "mlp + heads, magnitude", "fine-tuned", 2, "compression-0e59836abb2769cc4781"),
    ("pruning_cifar10", "zeros 90%, movement", "fine-tuned", 0, "compression-a2d5365f5ca4aca8ed6f"),
    ("pruning_cifar10", "zeros 50%, 2:4", "one-shot", 0, "compression-aa5976cc5a6072466a38"),
    ("pruning_cifar10", "blocks 1 of 6", "one-shot", 0, "compression-f119c89cd1f5297f4ba8"),
    ("low_rank_cifar10", "SVD, budget 0.5", "fine-tuned", 1, "compression-7f5bd45de6f7d68aee99"),
    ("low_rank_cifar10", "Nystroem, rank 16", "fine-tuned", 0, "compression-2f4d22edd36d189e0ea2"),
    ("token_merging_cifar10", "merge r=8", "fine-tuned", 2, "dynamic-e5a36a4ea839084b747e"),
    ("token_merging_cifar10", "clusters r=8", "off the shelf", 0, "dynamic-2853d5ac5d00ac7ba218"),
    ("token_pruning_cifar10", "evit 0.5", "fine-tuned", 1, "dynamic-1d5e141bb54aa4ff1c1d"),
    ("token_pruning_cifar10", "random 0.3", "off the shelf", 0, "dynamic-99674526e2dfb8e14879"),
    ("distillation_cifar10", "labels alone", "", 0, "distillation-629c9ebfcc75ded2a595"),
    ("distillation_limits", "soft targets, a teacher with its classes shuffled", "", 2, "distillation-02548103722d9ce8ec0a"),
    ("distillation_limits", "soft targets, long", "", 0, "distillation-c6fefb2b0f40497551a8"),
]


@pytest.mark.parametrize("name, label, stage, seed, file", FILES)
def test_runs_that_were_cached_by_earlier_versions_are_found(monkeypatch, name, label, stage, seed, file):
    monkeypatch.setattr(base.zoo, "card", lambda name: {"sha256": f"card of {name}"})
    study, looked_for = studies.STUDIES[name], []
    monkeypatch.setattr(results, "names", tuple)        # what is stored is not looked for in the cache
    monkeypatch.setattr(storage, "is_file", lambda path: looked_for.append(path.stem) or True)
    monkeypatch.setattr(storage, "read_json", lambda *given: {"test": 1, "cpu_seconds": 1.0})
    row = study.rows[label]
    dataclasses.replace(study, rows={label: row}).runs
    assert dict(zip(row.which, looked_for))[stage, seed] == file


@pytest.mark.parametrize("name", ["pruning_cifar10", "low_rank_cifar10", "token_merging_cifar10", "token_pruning_cifar10",
                                  "distillation_cifar10", "distillation_limits"])
def test_what_is_stored_already_is_not_made_again(name, monkeypatch, tmp_path):
    monkeypatch.setattr(kit.runtime, "cache", lambda: tmp_path)
    study = studies.STUDIES[name]
    study = dataclasses.replace(study, run=lambda *_: pytest.fail("made again"),
                                rows={label: study.rows[label] for label in list(study.rows)[:4]})
    assert all(0 < run["test"] < 1 for runs in study.runs.values() for run in runs)


@pytest.mark.parametrize("name", ["pruning_cifar10", "low_rank_cifar10", "token_merging_cifar10", "token_pruning_cifar10"])
def test_the_rows_of_a_table_are_those_that_were_stored(name):
    study, stored = studies.STUDIES[name], results.load(name).data["rows"]
    rows = [(label, row.recipe, stage, seed, *row.columns.items()) for label, row in study.rows.items()
            for stage, seed in row.which]
    columns = [study.rows[row["label"]].columns for row in stored]
    assert rows == [(row["label"], row["recipe"], row["stage"], row["seed"], *((name, row[name]) for name in own))
                    for row, own in zip(stored, columns)]
