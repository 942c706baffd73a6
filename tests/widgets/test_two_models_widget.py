"""The live box that compares two models, without a front end."""

import re
import time

import pytest

from lightvit_lab import models, profiling
from lightvit_lab.errors import LabError
from lightvit_lab.widgets import compare_models, two_models

SMALL = dict(first="lab_vit_student", second="lab_cnn", input_size=(3, 32, 32), budget_s=0.05)


def text(part):
    return re.sub(r"<[^>]+>", " ", part.value).replace("&#x27;", "'").replace("&quot;", '"')


@pytest.fixture
def box():
    return compare_models(**SMALL)


def test_the_box_says_what_is_counted_in_both(box):
    one, two = (profiling.count(models.create_model(name), (3, 32, 32)) for name in ("lab_vit_student", "lab_cnn"))
    said = f"lab_cnn has {two.params / one.params:.2f} times the parameters and {two.macs / one.macs:.2f} times the MACs"
    assert said in text(box.summary)
    for cost in (one, two):
        assert f"{cost.activation_bytes / 2**20:.1f}" in text(box.drawing)
        assert f"{cost.params / 1e6:.2f}" in text(box.drawing)
    assert "not known" in text(box.drawing) and box.message.value == ""       # nobody has measured, nobody published


def test_published_accuracy_stands_there_where_there_is_one():
    box = compare_models()
    assert "72.2" in text(box.drawing) and "78.7" in text(box.drawing) and "6.5 points higher" in text(box.summary)


def test_an_unknown_name_is_a_message_with_the_closest_and_the_next_name_mends_it(box):
    box.second.value = "lab_cmm"
    assert 'Did you mean "lab_cnn"?' in text(box.message) and box.drawing.value == "" and box.measure.disabled
    box.second.value = " lab_cct "
    assert box.message.value == "" and "lab_cct has" in text(box.summary) and not box.measure.disabled


def test_a_picture_that_a_model_does_not_take_is_a_message(box):
    box.size.value = 48
    assert "does not take an image of (3, 48, 48)" in text(box.message)
    box.size.value = 32
    assert box.message.value == "" and "lab_cnn has" in text(box.summary)


def test_both_are_measured_in_turns_and_the_ratio_has_its_interval(box, monkeypatch):
    seen, measured = [], profiling.measure
    def spy(pair, inputs, **settings):
        seen.append((list(pair), tuple(inputs.shape), settings["budget_s"]))
        return measured(pair, inputs, **settings)
    monkeypatch.setattr(profiling, "measure", spy)
    box.measure.click()
    assert seen == [(["first", "second"], (1, 3, 32, 32), 0.05)]
    ratio = r"([\d.]+x \([\d.]+ to [\d.]+\)|no ratio)"
    assert re.search(f"measured in turns, its time over the other's: {ratio}", text(box.summary))
    assert re.search(r"lab_vit_student [\d.]+ ms \([\d.]+ to [\d.]+\), lab_cnn [\d.]+ ms \([\d.]+ to", text(box.summary))
    assert "not known  not known" not in text(box.drawing).partition("time, ms")[2].partition("top-1")[0]
    assert box.progress.value == 1 and box.progress.layout.display == "none" and not box.measure.disabled
    box.second.value = "lab_cct"
    assert "measured" not in text(box.summary)                 # never measured beside this one


def test_where_the_machine_is_too_noisy_no_ratio_stands_in_the_table(box, monkeypatch):
    box.measure.click()
    noisy = profiling.Ratio(None, 0.5, 2.0)
    monkeypatch.setattr(profiling.Timings, "ratio", lambda *_: noisy)
    box._refresh()
    assert "no ratio: this machine is too noisy just now" in text(box.summary)
    assert box.drawing.value.count("lab-card-bar\"") == 4


def test_a_model_may_be_measured_against_itself(box):
    box.second.value = "lab_vit_student"
    assert "every ratio is 1" in text(box.summary)
    box.measure.click()
    assert "measured in turns" in text(box.summary) and box.message.value == ""


def test_a_measurement_that_fails_is_a_message_and_can_be_repeated(box, monkeypatch):
    def fails(*_, **__):
        raise MemoryError("no <room>")
    monkeypatch.setattr(profiling, "measure", fails)
    box.measure.click()
    assert "measure: no &lt;room&gt;" in box.message.value and not box.measure.disabled


def test_looking_back_counts_nothing_anew_and_is_shown_at_once(box, monkeypatch):
    box.second.value = "lab_cct"
    monkeypatch.setattr(two_models, "empty_model", lambda name: pytest.fail(f"{name} was built again"))
    start = time.process_time()
    box.second.value = "lab_cnn"
    assert time.process_time() - start < 0.1 and "lab_cnn has" in text(box.summary) and box.message.value == ""


def test_the_static_twin_has_all_models_that_were_looked_at(box):
    box.second.value = "lab_cct"
    box.measure.click()
    twin = box.static("The smaller is not always the faster one.")
    assert twin.html.count("<option") == 6 and "lab_cct has" in twin.summary
    assert "takes" in twin.summary


def test_every_control_has_a_label_and_suggests_names(box):
    assert all(part.description for part in box.children[0].children) and len(box.children[0].children) == 5
    assert {"lab_vit", "lightvit_tiny", "levit_128s"} <= set(box.first.options)


@pytest.mark.parametrize("wrong, said", [(dict(input_size=224), "input_size=224"), (dict(budget_s=-1), "budget_s=-1"),
                                         (dict(input_size=(3, 32, 0)), "width=0"), (dict(input_size=(3, 32)), "height, width"),
                                         (dict(input_size=(0, 8, 8)), "channels=0")])
def test_pictures_and_budgets_that_make_no_comparison_are_refused(wrong, said):
    with pytest.raises(LabError, match=said):
        compare_models(**{**SMALL, **wrong})


def test_a_picture_of_no_square_is_counted_as_high_and_wide_as_it_is_and_keeps_its_shape():
    box = compare_models("lab_cnn", "lab_lightvit", input_size=(3, 12, 20), budget_s=0.05)
    assert box.message.value == "" and box.size.description == "pixels high"
    for height, size in ((12, (3, 12, 20)), (24, (3, 24, 40))):
        box.size.value = height
        for name in ("lab_cnn", "lab_lightvit"):
            assert box.counts[name, height].macs == profiling.count(models.create_model(name), size).macs
            assert box.counts[name, height].top1 is None
    box.measure.click()
    assert box.message.value == "" and set(box.times) == {("lab_cnn", "lab_lightvit", 24)}
