import base64
import io
import re

import numpy
import pytest
import torch
from PIL import Image

from lightvit_lab import figures
from lightvit_lab.errors import LabError
from lightvit_lab.figures import compression

IMAGES = torch.ones(2, 3, 8, 8) * torch.tensor([1.0, 0.0, 0.0]).view(3, 1, 1)          # red, 2 x 2 patches of 4 pixels


def sheets(card):
    """What each state draws, (h, w, 4)."""
    return [numpy.asarray(Image.open(io.BytesIO(base64.b64decode(text))))
            for text in re.findall(r'src="data:image/png;base64,([^"]+)"', card.html)]


def captions(card):
    return re.findall(r'lab-film-caption">([^<]+)', card.html)


def columns_of(card):
    """Column -> texts, of the data table."""
    heads = re.findall(r'<th scope="col">([^<]+)', card.html)
    cells = re.findall(r'(?:<td|<th scope="row")[^>]*>([^<]+)', card.html)
    return {head: cells[place::len(heads)] for place, head in enumerate(heads)}


def row(label="evit 0.5", stage="off the shelf", test=0.8, **more):
    return {"label": label, "recipe": "prune_tokens(...)", "stage": stage, "test": test, "test_low": test - 0.01,
            "test_high": test + 0.01, "macs": 5e7, "latency_ms": 5.0, "latency_1_ms": 1.0, **more}


def test_dropped_patches_lose_their_colour_and_nearly_all_opacity_and_kept_ones_do_not_change():
    _, sheet = sheets(figures.kept_by_block(IMAGES, [torch.tensor([[3], [0]])], ["after block 1"], patch_size=4))
    assert sheet.shape == (192, 2 * 192 + 12, 4)                            # 24 times as large, 12 pixels apart
    left, right = sheet[:, :192], sheet[:, 204:]
    assert (left[96:, 96:] == [255, 0, 0, 255]).all() and (right[:96, :96] == [255, 0, 0, 255]).all()
    for gone in (left[:96], left[96:, :96], right[96:], right[:96, 96:]):
        assert (gone[..., :3] == gone[..., :1]).all() and gone[..., 3].max() < 64 and gone[..., 3].min() > 0
    assert (sheet[:, 192:204, 3] == 0).all()                                # the colour of the page, by day and by night


def test_a_film_goes_from_all_patches_over_every_choice_and_opens_at_the_last():
    kept = [torch.tensor([[0, 1, 2], [1, 2, 3]]), torch.tensor([[0, -1, -1], [2, 3, -1]])]
    card = figures.kept_by_block(IMAGES, kept, ["after block 1", "after block 3"], patch_size=4)
    red = [(sheet == [255, 0, 0, 255]).all(-1).sum() // 96**2 for sheet in sheets(card)]
    assert red == [8, 6, 3]                                                 # patches of 96 x 96 that keep their colour
    assert captions(card) == ["All: 4 of 4 patches left (100%).", "After block 1: 3 of 4 patches left (75%).",
                              "After block 3: 1 to 2 of 4 patches left (38%)."]
    assert 'min="0" max="2" value="2"' in card.html and "lab-film-now" in card.html.split("lab-film-state")[-1]
    assert card.finding == "Of 4 patches 3 are left (after block 1), 1 to 2 (after block 3)."
    assert columns_of(card) == {"choice": ["after block 1", "after block 3"], "patches left": ["3", "1 to 2"]}


def test_captions_and_table_say_how_much_of_the_object_is_left_on_average_over_all_pictures():
    many, covers = IMAGES[:1].repeat(8, 1, 1, 1), torch.tensor([[1.0, 0.5, 0.5, 0.0]]).repeat(8, 1)
    first, last = torch.tensor([[0, 1]] * 4 + [[2, 3]] * 4), torch.tensor([[1, -1]] * 8)
    card = figures.kept_by_block(many, [first, last], ["block 1", "block 3"], 4, covers, [*"abcdefgh"])
    assert sheets(card)[0].shape == (2 * 192 + 12, 3 * 192 + 24, 4)         # the first six, in rows of three
    assert captions(card) == ["All: 4 of 4 patches left with 100% of the object.",
                              "Block 1: 2 of 4 patches left with 50% of the object.",
                              "Block 3: 1 of 4 patches left with 25% of the object."]
    assert card.finding == "The patches left hold 50% of the object (block 1) and 25% (block 3), on average over 8 pictures."
    assert columns_of(card) == {"picture": [*"abcdef", "mean of 8"],
                                "of the object, block 1": ["0.75"] * 4 + ["0.25"] * 2 + ["0.5"],
                                "of the object, block 3": ["0.25"] * 7}


@pytest.mark.parametrize("kept, labels, more, says", [
    ([torch.tensor([[0], [1]])], [], {}, "0 labels"), ([], [], {}, "0 choices"), ([torch.tensor([[0]])], ["a"], {}, "2 pictures"),
    ([torch.tensor([[0], [4]])], ["a"], {}, "0 to 3.*there is 4"),
    ([torch.tensor([[0], [1]])], ["a"], {"on_object": torch.ones(2, 9)}, r"\(2, 9\).*give \(2, 4\)"),
    ([torch.tensor([[0], [1]])], ["a"], {"names": ["disc"]}, "1 names for 2 pictures"),
])
def test_patches_that_do_not_fit_the_pictures_are_refused(kept, labels, more, says):
    with pytest.raises(LabError, match=says):
        figures.kept_by_block(IMAGES, kept, labels, patch_size=4, **more)


def test_a_promise_and_what_arrived_of_it_stand_on_one_line_with_different_markers():
    figure = figures.promised_and_arrived({"keep 50%": (2.0, (1.5, 1.4, 1.7)), "keep 70%": (1.5, (1.2, 1.1, 1.3))})
    macs, time = figure.data
    assert list(macs.x) == [2.0, 1.5] and list(time.x) == [1.5, 1.2] and list(macs.y) == list(time.y)
    assert list(time.error_x.array) == pytest.approx([0.2, 0.1])
    assert list(time.error_x.arrayminus) == pytest.approx([0.1, 0.1])
    assert macs.marker.symbol != time.marker.symbol and figure.layout.shapes[0].x0 == 1
    words = figure.layout.meta
    assert words["finding"] == "Of the promised gain, 75% (keep 50%) to 80% (keep 70%) arrives."     # 1.5 of 2, 1.2 of 1.5
    assert words["table"]["share that arrives"] == pytest.approx([0.75, 0.8]) and words["table"]["low"] == [1.4, 1.1]
    assert "keep 50% and keep 70%" in words["alt"]


def test_gains_over_size_draw_time_with_intervals_and_macs_apart_for_each_recipe():
    rows = [{"image_size": size, "tokens": size // 16, "label": label, "macs_gain": 1.6, "speedup": (gain, gain - 0.1, gain + 0.2)}
            for size, gain in ((64, 0.9), (224, 1.4)) for label in ("evit 0.7", "evit 0.5")]
    figure = figures.gains_over_size(rows)
    assert [trace.name for trace in figure.data] == ["evit 0.7: time", "evit 0.7: MACs", "evit 0.5: time",
                                                     "evit 0.5: MACs"]
    assert list(figure.data[0].x) == [64, 224] and list(figure.data[0].y) == [0.9, 1.4]
    assert list(figure.data[0].error_y.array) == pytest.approx([0.2, 0.2])
    assert list(figure.data[1].y) == [1.6, 1.6] and figure.layout.shapes[0].y0 == 1
    words = figure.layout.meta
    assert words["finding"] == "At 64 px up to 0.90 times as fast, at 224 px up to 1.40 times as fast."
    assert words["table"]["times as fast"] == [0.9, 0.9, 1.4, 1.4] and words["table"]["tokens"] == [4, 4, 14, 14]
    assert words["table"]["high"] == pytest.approx([1.1, 1.1, 1.6, 1.6]) and "evit 0.7 and evit 0.5" in words["alt"]
    with pytest.raises(LabError, match="no rows"):
        figures.gains_over_size([])


def test_kept_counts_are_pictures_by_how_many_patches_they_keep():
    figure = figures.kept_counts({"after block 1": [3, 5, 3], "after block 3": [1, 1, 1]}, 16)
    first, last = figure.data
    assert (list(first.x), list(first.y)) == ([3, 5], [2, 1]) and (list(last.x), list(last.y)) == ([1], [3])
    assert first.marker.pattern.shape != last.marker.pattern.shape and figure.layout.xaxis.range == (0, 17)
    words = figure.layout.meta
    assert words["finding"] == "Pictures keep 3 to 5 of 16 patches (after block 1)."
    assert words["table"] == {"patches kept": [0, 1, 2, 3, 4, 5], "after block 1": [0, 0, 0, 2, 0, 1],
                              "after block 3": [0, 3, 0, 0, 0, 0]}
    assert words["alt"] == "How many pictures keep how many of 16 patches: after block 1 and after block 3."


def test_off_the_shelf_is_told_from_the_whole_model_and_from_fine_tuned_and_one_picture_is_a_cost():
    dense = row("dense", test=0.9)
    rows = [row(), row(stage="fine-tuned", test=0.85)]
    figure = figures.trade_off(rows, dense, ("macs", "latency_1_ms"))
    markers = {trace.name: trace.marker.symbol for trace in figure.data[1:]}
    assert set(markers) == {"original model", "off the shelf", "fine-tuned"} and len(set(markers.values())) == 3
    assert figure.layout.updatemenus[0].buttons[1].label == "time of one"
    assert [trace.name for trace in figures.stages(rows, dense).data] == ["off the shelf", "fine-tuned"]
    assert compression.by_recipe(rows)[0]["latency_1_ms"] == 1.0
