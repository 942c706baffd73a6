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


def fit(watch=None, steps=6, **settings):
    torch.manual_seed(0)
    model = models.create_model("lab_vit_student", depth=1)
    return training.fit(model, TRAIN, steps=steps, batch_size=8, threads=1, progress=False, precision="float32",
                        attention="fused", watch=watch, **settings)


def history(count):
    return History(loss=[2.0 - 0.01 * step for step in range(count)], scores=[(count, Score(0.5, 0.4, 0.6, 100))])


@pytest.fixture
def drawn(monkeypatch):
    """What the box shows, in order: first when it is displayed, then at each update."""
    found = []

    class Display:
        def update(self, shown):
            found.append(shown)

    monkeypatch.setattr(runs, "display", lambda shown, display_id: (found.append(shown), Display())[1])
    return found


def test_a_box_before_its_run_says_how_to_start_one(drawn):
    training_curves()._ipython_display_()
    assert 'watch=box.follow(&quot;my run&quot;)' in drawn[0].data


def test_the_box_grows_while_a_run_is_under_way_and_ends_with_all_of_it(monkeypatch, drawn):
    monkeypatch.setattr(runs, "EVERY_S", 0.0)
    box = training_curves(smooth=1)
    box._ipython_display_()
    found = fit(box.follow("one"), validation=TEST, checks=2)
    cards = drawn[1:]
    assert len(cards) == 6 and len({card.summary for card in cards}) == 6
    assert all("Training loss over 6 steps" in card.html for card in cards)        # the axis does not move
    assert f"step 6, mean of the last 1 step. one: {found.loss[-1]:.3f}." in cards[-1].summary
    assert f"Validation accuracy over steps; at the end one {found.scores[-1][1].accuracy:.1%}" in cards[-1].html


def test_drawing_waits_between_looks_but_never_misses_the_end(monkeypatch, drawn):
    monkeypatch.setattr(runs, "EVERY_S", 3600.0)
    box = training_curves()
    box._ipython_display_()
    fit(box.follow("one"))
    assert [re.search(r"step (\d+),", card.summary)[1] for card in drawn[1:]] in (["6"], ["1", "6"])


def test_a_box_that_is_not_shown_draws_nothing_and_has_its_card():
    box = training_curves()
    box.follow("long")(history(40), 40)
    assert "long: 1.650" in box.card().summary and "validation accuracy (%)" in box.card().html


def test_a_long_run_is_drawn_within_a_tenth_of_a_second():
    box = training_curves()
    box.follow("long")(history(20_000), 20_000)
    start = time.process_time()
    card = box.card()
    assert time.process_time() - start < 0.1 and "step 20,000" in card.summary


def test_what_cannot_be_drawn_is_a_message_and_does_not_end_the_run(drawn):
    box = training_curves()
    box._ipython_display_()
    box.follow("<broken>")(History(loss=[float("nan")]), 1)
    assert "not finite" in drawn[-1].data and "&lt;broken&gt;" in drawn[-1].data


def test_a_run_of_the_same_name_takes_the_place_of_the_older_one():
    box = training_curves()
    box.follow("one")(history(40), 40)
    box.follow("one")(history(5), 5)
    assert "step 5," in box.card().summary and list(box.histories) == ["one"]


def test_there_is_no_card_before_there_is_a_run():
    with pytest.raises(LabError, match="give one run at least"):
        training_curves().card()
