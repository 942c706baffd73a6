"""The studies of distillation: rows as they say, runs kept, a stored teacher heard as a live one. Small runs on digits."""

import pytest
import torch

from lightvit_lab import data, models, survey
from lightvit_lab.distillation import feature_distillation, response_distillation
from lightvit_lab.experiments import distillation

SETTINGS = {"batch_size": 32, "lr": 1e-2, "augment": ("crop",), "precision": "float32", "attention": "fused"}


def teacher():
    torch.manual_seed(5)
    return models.create_model("lab_cnn", widths=(4, 8)).eval()


ROWS = {
    "labels alone": distillation.Row(teacher=None),
    "stored": distillation.Row("leaf", distillation.soft(), "tiny"),
    "live": distillation.Row("leaf", distillation.soft(), "tiny", stored=False),
    "token": distillation.Row("leaf", {"token": response_distillation.DistillationToken()}, "tiny", labels=None,
                              arguments={"distilled": True}),
    "long": distillation.Row(teacher=None, steps=2),
}


@pytest.fixture
def study(monkeypatch, tmp_path):
    """A study of four steps, its runs kept in a folder of its own; `made` counts the runs that were really made."""
    made, run = [], distillation._run
    plan = distillation.Study("tiny", "digits", 4, SETTINGS, {"tiny": teacher, "unheard": teacher}, ROWS)
    monkeypatch.setattr(distillation, "STUDIES", {"tiny": plan})
    monkeypatch.setenv("LIGHTVIT_CACHE", str(tmp_path))
    monkeypatch.setattr(distillation, "_run", lambda *given: made.append(given) or run(*given))
    return made


def test_every_row_has_a_run_for_each_seed_and_only_teachers_that_were_heard_are_described(study):
    found = distillation.study("tiny", seeds=(0, 1))
    assert list(found["rows"]) == list(ROWS) and len(study) == 2 * len(ROWS)
    for row in found["rows"].values():
        assert [run["seed"] for run in row["runs"]] == [0, 1]
        assert all(run["test_low"] <= run["test"] <= run["test_high"] for run in row["runs"])
    assert list(found["teachers"]) == ["tiny"]
    assert found["teachers"]["tiny"]["params"] == sum(value.numel() for value in teacher().parameters())
    assert found["rows"]["token"]["objective"].startswith("DistillationToken(") and found["dataset"] == "digits"


def test_a_stored_teacher_makes_the_student_that_a_live_one_makes_up_to_rounding(study):
    rows = distillation.study("tiny", ["stored", "live", "labels alone"], seeds=(0,))["rows"]
    scores = {name: row["runs"][0]["test"] for name, row in rows.items()}
    count = len(data.load("digits", "test"))
    assert abs(scores["stored"] - scores["live"]) <= 4 / count
    assert rows["stored"]["stored"] and not rows["live"]["stored"] and not rows["labels alone"]["stored"]


def test_a_study_that_was_stopped_goes_on_with_what_it_lacks(study):
    first = distillation.study("tiny", ["labels alone"], seeds=(0,))
    again = distillation.study("tiny", ["labels alone", "long"], seeds=(0,))
    assert len(study) == 2 and again["rows"]["labels alone"] == first["rows"]["labels alone"]


def test_another_objective_or_length_is_another_run(study, monkeypatch):
    distillation.study("tiny", ["stored"], seeds=(0,))
    plan = distillation.STUDIES["tiny"]
    for changes in ({"rows": {"stored": distillation.Row("leaf", distillation.soft(temperature=2.0), "tiny")}}, {"steps": 5}):
        monkeypatch.setitem(distillation.STUDIES, "tiny", distillation.Study(**{**vars(plan), **changes}))
        distillation.study("tiny", ["stored"], seeds=(0,))
    assert len(study) == 3


def test_the_rows_of_the_book_cover_every_leaf_of_the_branch_and_every_objective():
    rows = distillation._rows(10)
    leaves = {leaf.leaf for leaf in survey.taxonomy() if leaf.page and leaf.page.startswith("distillation/")}
    assert {row.leaf for row in rows.values()} - {"none"} == leaves
    used = {type(term).__name__ for row in rows.values() for term in row.terms.values()}
    offered = {name for module in (response_distillation, feature_distillation) for name in module.__all__ if name[0].isupper()}
    assert used == offered - {"Labels"}


def test_a_teacher_of_shuffled_classes_says_of_each_class_what_was_said_of_the_one_before():
    model, inputs = teacher(), torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        said, meant = distillation.ShuffledClasses(model)(inputs), model(inputs)
    assert all(torch.equal(said[:, (number + 1) % 10], meant[:, number]) for number in range(10))
