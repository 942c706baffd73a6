import base64
import io

import numpy
import pytest
import torch
from PIL import Image

from lightvit_lab import figures
from lightvit_lab.errors import LabError
from lightvit_lab.figures import compression

IMAGES = torch.ones(2, 3, 8, 8) * torch.tensor([1.0, 0.0, 0.0]).view(3, 1, 1)          # red, 2 x 2 patches of 4 pixels


def pixels(trace):
    """The picture of an image trace, (H, W, 3)."""
    return numpy.asarray(Image.open(io.BytesIO(base64.b64decode(trace.source.partition(",")[2]))))


def row(label="evit 0.5", stage="off the shelf", test=0.8, **more):
    return {"label": label, "recipe": "prune_tokens(...)", "stage": stage, "test": test, "test_low": test - 0.01,
            "test_high": test + 0.01, "macs": 5e7, "latency_ms": 5.0, "latency_1_ms": 1.0, **more}


def test_dropped_patches_lose_their_colour_and_kept_ones_do_not_change():
    figure = figures.kept_by_block(IMAGES, [torch.tensor([[3], [0]])], ["after block 1"], patch_size=4)
    sheet = pixels(figure.data[0])
    assert sheet.shape[:2] == (24, 2 * 24 + 4)                              # three times as large, 4 pixels apart
    left, right = sheet[:, :24], sheet[:, 28:]
    assert (left[12:, 12:] == [255, 0, 0]).all() and (right[:12, :12] == [255, 0, 0]).all()
    for gone in (left[:12], left[12:, :12], right[12:], right[:12, 12:]):
        assert (gone == gone[..., :1]).all() and gone.min() > 190          # a light grey, the same in all channels


def test_the_slider_goes_from_all_patches_over_every_choice_and_begins_at_the_first():
    kept = [torch.tensor([[0, 1, 2], [1, 2, 3]]), torch.tensor([[0, -1, -1], [2, 3, -1]])]
    figure = figures.kept_by_block(IMAGES, kept, ["after block 1", "after block 3"], patch_size=4)
    names = [frame.name for frame in figure.frames]
    (slider,) = figure.layout.sliders
    assert names == ["all", "after block 1", "after block 3"] == [step.label for step in slider.steps]
    assert [step.args[0] for step in slider.steps] == [(name,) for name in names] and slider.active == 1
    red = [(pixels(frame.data[0]) == [255, 0, 0]).all(-1).sum() // 144 for frame in figure.frames]
    assert red == [8, 6, 3]                                                 # patches of 12 x 12 that keep their colour
    assert figure.data[0].source == figure.frames[1].data[0].source


@pytest.mark.parametrize("kept, labels, says", [
    ([torch.tensor([[0], [1]])], [], "0 labels"), ([], [], "0 choices"), ([torch.tensor([[0]])], ["a"], "2 pictures"),
    ([torch.tensor([[0], [4]])], ["a"], "0 to 3.*there is 4"),
])
def test_patches_that_do_not_fit_the_pictures_are_refused(kept, labels, says):
    with pytest.raises(LabError, match=says):
        figures.kept_by_block(IMAGES, kept, labels, patch_size=4)


def test_a_promise_and_what_arrived_of_it_stand_on_one_line_with_different_markers():
    figure = figures.promised_and_arrived({"keep 50%": (2.0, (1.5, 1.4, 1.7)), "keep 70%": (1.5, (1.2, 1.1, 1.3))})
    macs, time = figure.data
    assert list(macs.x) == [2.0, 1.5] and list(time.x) == [1.5, 1.2] and list(macs.y) == list(time.y)
    assert list(time.error_x.array) == pytest.approx([0.2, 0.1])
    assert list(time.error_x.arrayminus) == pytest.approx([0.1, 0.1])
    assert macs.marker.symbol != time.marker.symbol and figure.layout.shapes[0].x0 == 1


def test_gains_over_size_draw_time_with_intervals_and_macs_apart_for_each_recipe():
    rows = [{"image_size": size, "label": label, "macs_gain": 1.6, "speedup": (gain, gain - 0.1, gain + 0.2)}
            for size, gain in ((64, 0.9), (224, 1.4)) for label in ("evit 0.7", "evit 0.5")]
    figure = figures.gains_over_size(rows)
    assert [trace.name for trace in figure.data] == ["evit 0.7: time", "evit 0.7: MACs", "evit 0.5: time",
                                                     "evit 0.5: MACs"]
    assert list(figure.data[0].x) == [64, 224] and list(figure.data[0].y) == [0.9, 1.4]
    assert list(figure.data[0].error_y.array) == pytest.approx([0.2, 0.2])
    assert list(figure.data[1].y) == [1.6, 1.6] and figure.layout.shapes[0].y0 == 1
    with pytest.raises(LabError, match="no rows"):
        figures.gains_over_size([])


def test_kept_counts_are_pictures_by_how_many_patches_they_keep():
    figure = figures.kept_counts({"after block 1": [3, 5, 3], "after block 3": [1, 1, 1]}, 16)
    first, last = figure.data
    assert (list(first.x), list(first.y)) == ([3, 5], [2, 1]) and (list(last.x), list(last.y)) == ([1], [3])
    assert first.marker.pattern.shape != last.marker.pattern.shape and figure.layout.xaxis.range == (0, 17)


def test_off_the_shelf_is_told_from_the_whole_model_and_from_fine_tuned_and_one_picture_is_a_cost():
    dense = row("dense", test=0.9)
    rows = [row(), row(stage="fine-tuned", test=0.85)]
    figure = figures.trade_off(rows, dense, ("macs", "latency_1_ms"))
    markers = {trace.name: trace.marker.symbol for trace in figure.data[1:]}
    assert set(markers) == {"whole model", "off the shelf", "fine-tuned"} and len(set(markers.values())) == 3
    assert figure.layout.updatemenus[0].buttons[1].label == "time of one"
    assert [trace.name for trace in figures.stages(rows, dense).data] == ["off the shelf", "fine-tuned"]
    assert compression.by_recipe(rows)[0]["latency_1_ms"] == 1.0
