"""The live box of training curves, without a front end: it follows a real run."""

import re
import time

import pytest
import torch

from lightvit_lab import data, models, training
from lightvit_lab.errors import LabError
from lightvit_lab.training import History, Score
from lightvit_lab.widgets import runs, training_curves

TRAIN, TEST = data.load("shapes", count=64), data.load("shapes", "test", count=32)


def text(part):
    return re.sub(r"<[^>]+>", "", part.value)


def fit(callback=None, steps=6, **settings):
    torch.manual_seed(0)
    model = models.create_model("lab_vit_student", depth=1)
    return training.fit(model, TRAIN, steps=steps, batch_size=8, threads=1, progress=False, precision="float32",
                        attention="fused", callback=callback, **settings)


def history(count):
    return History(loss=[2.0 - 0.01 * step for step in range(count)], scores=[(count, Score(0.5, 0.4, 0.6, 100))])


def test_a_box_before_its_run_says_how_to_start_one():
    assert 'callback=box.follow("my run")' in text(training_curves().summary).replace("&quot;", '"')


def test_the_box_grows_while_a_run_is_under_way_and_ends_with_all_of_it(monkeypatch):
    monkeypatch.setattr(runs, "EVERY_S", 0.0)
    box, drawings = training_curves(smooth=2), []
    follow = box.follow("one")
    found = fit(lambda *news: (follow(*news), drawings.append(box.drawing.value)), validation=TEST, checks=2)
    assert len(set(drawings)) == len(drawings) == 6 and box.step.max == box.step.value == 6
    assert f"step 6, mean of the last 2 steps. one: {sum(found.loss[-2:]) / 2:.3f}." in text(box.summary)
    assert f"Validation accuracy over steps; at the end one {found.scores[-1][1].accuracy:.1%}" in box.drawing.value


def test_drawing_waits_between_looks_but_never_misses_the_end(monkeypatch):
    monkeypatch.setattr(runs, "EVERY_S", 3600.0)
    box, drawn = training_curves(), []
    monkeypatch.setattr(box, "_grow", lambda: drawn.append(len(box.histories["one"].loss)))
    fit(box.follow("one"))
    assert drawn in ([6], [1, 6])


def test_smoothing_and_the_place_to_read_act_on_runs_that_are_there():
    box = training_curves()
    for label, count in (("long", 40), ("short", 10)):
        box.follow(label)(history(count), count)
    box.smooth.value, box.step.value = 3, 8
    mean = sum(2.0 - 0.01 * step for step in (5, 6, 7)) / 3
    assert f"step 8, mean of the last 3 steps. long: {mean:.3f}; short: {mean:.3f}." in text(box.summary)
    box.step.value = 40
    assert "short" not in text(box.summary)
    box.table.value = True
    assert box.values.value.count("<tr>") == 12


def test_a_change_is_drawn_within_a_tenth_of_a_second_also_of_a_long_run():
    box = training_curves()
    box.follow("long")(history(20_000), 20_000)
    start = time.process_time()
    box.smooth.value = 100
    assert time.process_time() - start < 0.1 and "step 20,000" in text(box.summary)
    assert box.drawing.value.count(" ") < 5000                  # stretches, not every step


def test_what_cannot_be_drawn_is_a_message_and_does_not_end_the_run():
    box = training_curves()
    box.follow("<broken>")(History(loss=[float("nan")]), 1)
    assert "not finite" in text(box.message) and "&lt;broken&gt;" in box.message.value


def test_a_run_of_the_same_name_takes_the_place_of_the_older_one():
    box = training_curves()
    box.follow("one")(history(40), 40)
    box.follow("one")(history(5), 5)
    assert box.step.max == box.step.value == 5 and "step 5," in text(box.summary) and list(box.histories) == ["one"]


def test_the_static_twin_has_the_runs_so_far():
    box = training_curves()
    box.follow("one")(history(40), 40)
    twin = box.static("The loss of this run falls in a line.")
    assert "one: 1.650" in twin.summary and "validation accuracy (%)" in twin.html
    with pytest.raises(LabError, match="give one run at least"):
        training_curves().static("There is nothing in it yet.")


def test_every_control_has_a_label():
    box = training_curves()
    assert all(part.description for part in (*box.children[0].children, box.table))
