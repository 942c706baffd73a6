"""The studies of distillation: rows as they say, runs kept, a stored teacher heard as a live one. Small runs on digits."""

import dataclasses

import pytest
import torch

from lightvit_lab import data, models, survey
from lightvit_lab.distillation import feature_distillation
from lightvit_lab.distillation import response_distillation
from lightvit_lab.experiments import distillation

SETTINGS = {"batch_size": 32, "lr": 1e-2, "augment": ("crop",), "precision": "float32", "attention": "fused"}


def teacher():
    torch.manual_seed(5)
    return models.create_model("lab_cnn", widths=(4, 8)).eval()


TINY = {"dim": 32, "depth": 2}
SOFT = {"soft targets": "SoftTargets()"}
ROWS = {
    "labels alone": distillation.row(teacher=None, arguments=TINY),
    "stored": distillation.row("leaf", SOFT, "tiny", arguments=TINY),
    "live": distillation.row("leaf", SOFT, "tiny", stored=False, arguments=TINY),
    "token": distillation.row("leaf", {"token": "DistillationToken()"}, "tiny", labels=None,
                               arguments={**TINY, "distilled": True}),
    "long": distillation.row(teacher=None, steps=2, arguments=TINY),
}


@pytest.fixture
def made(monkeypatch, tmp_path):
    """Studies of four steps, their runs in a folder of the test's own; the runs that were really made are noted."""
    made, train = [], distillation.trained_student
    for name, value in {"DATASET": "digits", "STEPS": 4, "SETTINGS": SETTINGS,
                        "TEACHERS": {"tiny": teacher, "unheard": teacher},
                        "trained_student": lambda **how: made.append(how) or train(**how)}.items():
        monkeypatch.setattr(distillation, name, value)
    monkeypatch.setenv("LIGHTVIT_CACHE", str(tmp_path))
    return made


def study(*labels, rows=ROWS, seeds=(0,)):
    """The result of a study of some rows."""
    chosen = {label: dataclasses.replace(rows[label], seeds=seeds) for label in labels or rows}
    return distillation.result(dataclasses.replace(distillation.STUDIES[0], rows=chosen))


def test_every_row_has_a_run_for_each_seed_and_only_teachers_that_were_heard_are_described(made):
    found = study(seeds=(0, 1))
    assert list(found["rows"]) == list(ROWS) and len(made) == 2 * len(ROWS)
    for row in found["rows"].values():
        assert [run["seed"] for run in row["runs"]] == [0, 1]
        assert all(run["test_low"] <= run["test"] <= run["test_high"] for run in row["runs"])
    assert list(found["teachers"]) == ["tiny"]
    assert found["teachers"]["tiny"]["params"] == sum(value.numel() for value in teacher().parameters())
    assert found["rows"]["token"]["objective"].startswith("DistillationToken(") and found["dataset"] == "digits"


def test_a_stored_teacher_makes_the_student_that_a_live_one_makes_up_to_rounding(made):
    rows = study("stored", "live", "labels alone")["rows"]
    scores = {name: row["runs"][0]["test"] for name, row in rows.items()}
    count = len(data.load("digits", "test"))
    assert abs(scores["stored"] - scores["live"]) <= 4 / count
    assert rows["stored"]["stored"] and not rows["live"]["stored"] and not rows["labels alone"]["stored"]


def test_a_study_that_was_stopped_goes_on_with_what_it_lacks(made):
    first = study("labels alone")
    again = study("labels alone", "long")
    assert len(made) == 2 and again["rows"]["labels alone"] == first["rows"]["labels alone"]


def test_another_objective_or_length_is_another_run(made, monkeypatch):
    study("stored")
    study("stored", rows={"stored": distillation.row("leaf", {"soft targets": "SoftTargets(temperature=2.0)"}, "tiny")})
    monkeypatch.setattr(distillation, "STEPS", 5)
    study("stored")
    assert len(made) == 3


def test_a_version_is_another_run_and_rows_without_one_keep_their_keys(made):
    one, other = (distillation.row("leaf", SOFT, "tiny", **more) for more in ({}, {"version": "heads by AdamW"}))
    assert distillation.key(other, "", 0) == [*distillation.key(one, "", 0), "heads by AdamW"]
    study("stored", rows={"stored": one})
    study("stored", rows={"stored": other})
    assert len(made) == 2


def test_a_row_says_its_weights_and_its_students_size(made):
    rows = {"lifted": distillation.row("leaf", {"soft targets": "SoftTargets(weight=9.0)", "others": "Decoupled(beta=3.0)"}, "tiny",
                                       arguments={"pool": "mean"}, lift=96),
            "plain": distillation.row(teacher=None)}
    found = study(rows=rows)["rows"]
    assert found["lifted"]["weights"] == {"labels": {"weight": 1.0}, "soft targets": {"weight": 9.0},
                                          "others": {"alpha": 1.0, "beta": 3.0, "weight": 1.0}}
    sizes = [sum(value.numel() for value in distillation.create_student(*given).parameters())
             for given in (({"pool": "mean"}, 96), ({},))]
    assert [found[label]["params"] for label in ("lifted", "plain")] == sizes and sizes[0] > sizes[1]


def test_steps_are_timed_in_turns_as_multiples_of_the_first_row(made, monkeypatch):
    monkeypatch.setattr(distillation, "TURNS", 6)
    monkeypatch.setitem(distillation.SETTINGS, "batch_size", 8)
    rows = {"labels alone": ROWS["labels alone"], "the same": distillation.row(teacher=None, arguments=TINY), "stored": ROWS["stored"],
            "wide": distillation.row(teacher=None, arguments={"dim": 128, "depth": 4})}
    times = distillation.step_times(rows)
    assert times["labels alone"]["step_ratio"] == [1, 1, 1]
    middle, low, high = times["wide"]["step_ratio"]
    assert low <= middle <= high and low > 2                        # some ten times the MACs of the student
    assert times["the same"]["step_ratio"][1] < 1.2 and times["the same"]["step_ratio"][2] > 0.8
    assert all(one["step_interval_ms"][0] <= one["step_ms"] <= one["step_interval_ms"][1] for one in times.values())


def test_pictures_of_one_direction_each_fill_one_alone_and_all_of_theirs_together(monkeypatch):
    tokens = torch.zeros(4, 6, 16)
    for picture in range(4):
        tokens[picture, :, 3 * picture] = torch.arange(1.0, 7.0)
    assert [distillation.directions(picture) for picture in tokens] == [1, 1, 1, 1]
    assert distillation.directions(tokens.flatten(0, 1)) == 4 and distillation.directions(tokens.flatten(0, 1), share=0.5) == 2
    noise = torch.randn(40, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(distillation.squared_singular_values(noise), torch.linalg.svdvals(noise.double()) ** 2)
    monkeypatch.setattr(distillation, "DATASET", "digits")
    found = distillation.last_layer(teacher(), count=100)
    assert (found["places"], found["width"], found["beyond_student"]) == (256, 8, 0) and 1 <= found["single"] <= found["together"] <= 8


def test_the_rows_of_the_book_cover_every_leaf_of_the_branch_and_every_objective():
    rows = distillation.ROWS
    leaves = {leaf.leaf for leaf in survey.taxonomy() if leaf.page and leaf.page.startswith("distillation/")}
    assert {row.columns["leaf"] for row in rows.values()} - {"none"} == leaves
    used = {type(term).__name__ for row in rows.values() for term in row.calls[0][1]["terms"].values()}
    offered = {name for module in (response_distillation, feature_distillation) for name in module.__all__ if name[0].isupper()}
    assert used == offered - {"Labels", "StoredLogits"}


def test_a_teacher_of_shuffled_classes_says_of_each_class_what_was_said_of_the_one_before():
    model, inputs = teacher(), torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        said, meant = distillation.ShuffledClasses(model)(inputs), model(inputs)
    assert all(torch.equal(said[:, (number + 1) % 10], meant[:, number]) for number in range(10))
