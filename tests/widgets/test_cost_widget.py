"""The live cost box without a front end."""

import re
import time
from html import unescape
from statistics import median

import pytest

from lightvit_lab import models, profiling
from lightvit_lab.errors import LabError
from lightvit_lab.widgets import cost, cost_explorer


def text(part):
    return unescape(re.sub(r"<[^>]+>", "", part.value))


def test_the_box_shows_formula_and_count_of_what_is_chosen():
    box = cost_explorer(depth=4)
    box.sizes["image_size"].value, box.sizes["dim"].value, box.sizes["patch_size"].value = 64, 128, 8
    real = profiling.count(models.create_model("lab_vit", image_size=64, patch_size=8, dim=128, depth=4, num_heads=4,
                                               embedding="patch", num_classes=1000), (3, 64, 64))
    assert f"{real.params:,} parameters and {real.macs:,} MACs for one picture" in text(box.summary)
    assert f"Counted in a model of these sizes: {real.params:,} parameters and {real.macs:,} MACs" in text(box.summary)
    assert "the formulas say exactly that" in text(box.summary)


def test_a_formula_that_is_wrong_would_be_seen_beside_the_count(monkeypatch):
    right = profiling.estimate_vit
    monkeypatch.setattr(profiling, "estimate_vit", lambda **sizes: right(**sizes)._replace(macs=7))
    assert "the formulas say 2,158,504 and 7." in text(cost_explorer(depth=4).summary)


def test_every_change_is_drawn_and_within_a_tenth_of_a_second(monkeypatch):
    monkeypatch.setattr(cost, "count_sentence", lambda *_: "")      # the count comes after the drawing, on its own time
    box, waits, drawings = cost_explorer(), [], set()
    for name, value in (("depth", 24), ("patch_size", 8), ("dim", 768), ("image_size", 768), ("depth", 4)):
        start = time.process_time()
        box.sizes[name].value = value
        waits.append(time.process_time() - start)
        drawings.add(box.drawing.value)
    box.quantity.value = "share of attention"
    assert len(drawings | {box.drawing.value}) == 6 and median(waits) < 0.1


def test_the_table_is_there_on_demand_and_follows():
    box = cost_explorer(depth=4)
    assert box.values.value == ""
    box.table.value = True
    before = box.values.value
    box.sizes["dim"].value = 64
    assert before.count("<tr>") == 1 + 12 + 4 + 7 and box.values.value != before


def test_a_model_that_cannot_be_counted_is_a_message_and_the_drawing_stands(monkeypatch):
    def fails(*_):
        raise RuntimeError("no <memory>")
    monkeypatch.setattr(cost, "count_vit", fails)
    box = cost_explorer()
    assert "no &lt;memory&gt;" in box.message.value and "<svg" in box.drawing.value and "197 tokens" in text(box.summary)


def test_the_static_twin_starts_where_the_box_stands():
    box = cost_explorer(depth=4, num_classes=10)
    box.sizes["dim"].value = 64
    twin = box.static("Less width, less of everything else.")
    assert twin.summary in text(box.summary) and "With width 64" in twin.summary
    with pytest.raises(LabError, match="finding"):
        box.static("")


def test_every_control_has_a_label_and_odd_sizes_are_refused():
    box = cost_explorer(depth=4)
    controls = [*box.children[0].children, box.table]
    assert len(controls) == 6 and all(part.description for part in controls)
    with pytest.raises(LabError, match="image_size=225"):
        cost_explorer(image_size=225)
