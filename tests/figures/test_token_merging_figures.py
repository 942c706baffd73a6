import base64
import io
import re

import numpy
import pytest
import torch
from PIL import Image

from lightvit_lab import figures
from lightvit_lab.errors import LabError

# One picture of 2 x 2 patches, 4 pixels high: the upper two red and blue, the lower two black. It is drawn 48 times as large.
RED_BLUE = torch.zeros(1, 3, 4, 4)
RED_BLUE[0, 0, :2, :2] = 1.0
RED_BLUE[0, 2, :2, 2:] = 1.0
APART, UPPER, ALL = (torch.tensor([places]) for places in ([0, 1, 2, 3], [0, 0, 1, 2], [0, 0, 0, 0]))


def sheets(card):
    """What each state draws, (h, w, 4)."""
    return [numpy.asarray(Image.open(io.BytesIO(base64.b64decode(text))))
            for text in re.findall(r'src="data:image/png;base64,([^"]+)"', card.html)]


def test_a_border_stands_between_every_two_patches_of_different_tokens_and_nowhere_else():
    white = [(sheet[:192] == 255).all(-1) for sheet in sheets(figures.merged_regions(RED_BLUE, [APART, UPPER, ALL]))]
    apart, upper, everything = (numpy.argwhere(one) for one in white)
    cross = {(y, x) for y in range(192) for x in range(192) if y in (95, 96) or x in (95, 96)}
    assert {tuple(place) for place in apart.tolist()} == cross
    assert {tuple(place) for place in upper.tolist()} == {(y, x) for y, x in cross if y >= 95}        # not within the upper one
    assert not len(everything)


def test_each_token_is_painted_in_the_mean_colour_of_its_own_patches():
    _, upper, everything = (sheet[-192:, :, :3] for sheet in sheets(figures.merged_regions(RED_BLUE, [APART, UPPER, ALL])))
    assert (upper[:96] == [128, 0, 128]).all() and (upper[96:] == 0).all()
    assert (everything == [64, 0, 64]).all()


def test_pictures_and_paintings_stand_below_each_other_in_one_size_with_transparent_gaps():
    three = RED_BLUE.repeat(3, 1, 1, 1)
    _, sheet = sheets(figures.merged_regions(three, [APART.repeat(3, 1), torch.cat([APART, UPPER, ALL])]))
    assert sheet.shape == (2 * 192 + 12, 3 * 192 + 2 * 12, 4)
    opaque = numpy.zeros(sheet.shape[:2], bool)
    for top in (0, 204):
        for left in (0, 204, 408):
            opaque[top:top + 192, left:left + 192] = True
    assert (sheet[..., 3] == numpy.where(opaque, 255, 0)).all()
    assert (sheet[204:300, 0:96, :3] == [255, 0, 0]).all() and (sheet[204:, 408:, :3] == [64, 0, 64]).all()


def test_a_film_over_blocks_opens_at_the_last_and_says_tokens_left_and_the_largest_of_the_first_picture():
    card = figures.merged_regions(RED_BLUE.repeat(2, 1, 1, 1), [APART.repeat(2, 1), torch.cat([UPPER, ALL]), ALL.repeat(2, 1)])
    assert re.findall(r'lab-film-caption">([^<]+)', card.html) == [
        "After 0 blocks: 4 of 4 image tokens left; in the first picture the largest stands for 1 patch.",
        "After 1 block: 1 to 3 of 4 image tokens left; in the first picture the largest stands for 2 patches.",
        "After 2 blocks: 1 of 4 image tokens left; in the first picture the largest stands for 4 patches."]
    assert [" lab-film-now" in state for state in re.findall(r'class="lab-film-state([^"]*)"', card.html)] == [False, False, True]
    assert 'min="0" max="2" value="2"' in card.html
    assert card.finding == "In the first picture 0 patches are left alone by all blocks, while the largest token stands for 4 patches."
    upper = figures.merged_regions(RED_BLUE, [APART, UPPER]).finding
    assert upper == "In the first picture 2 patches are left alone by all blocks, while the largest token stands for 2 patches."
    assert re.findall(r"<t[dh][^>]*>([^<]+)</t[dh]>", card.html)[3:] == ["0", "4", "1", "1", "1 to 3", "2", "2", "1", "4"]


@pytest.mark.parametrize("pictures, places, says", [
    (1, [], "at least one block"), (1, [ALL], "at least one block"), (7, [APART.repeat(7, 1)] * 2, "1 to 6 pictures"),
    (2, [APART] * 2, "for 2 pictures"), (1, [APART, UPPER[:, :3]], r"\(1, 3\)"), (1, [UPPER[:, :3]] * 2, "square"),
    (1, [APART, UPPER - 1], "dropped have no place in a token")])
def test_places_of_other_pictures_or_patches_are_refused(pictures, places, says):
    with pytest.raises(LabError, match=says):
        figures.merged_regions(RED_BLUE.repeat(pictures, 1, 1, 1), places)


def test_lines_over_blocks_begin_before_the_first_and_carry_their_intervals():
    figure = figures.by_block({"left": [65, 57, 49], "overlap": [(70.0, 68.0, 73.0)] * 3}, "%")
    line, band = figure.data
    assert list(line.x) == [0, 1, 2] and list(line.y) == [65, 57, 49] and line.error_y.array is None
    assert list(band.error_y.array) == [3, 3, 3] and list(band.error_y.arrayminus) == [2, 2, 2]
    assert line.marker.symbol != band.marker.symbol
    assert figure.layout.meta["finding"] == "After the last block, %: 49 (left) to 70 (overlap)."
    assert figure.layout.meta["alt"] == "% after each block: left and overlap."


def test_one_line_over_blocks_is_not_compared_with_itself():
    assert figures.by_block({"left": [65, 57]}, "tokens").layout.meta["finding"] == "After the last block, tokens: 57 (left)."


@pytest.mark.parametrize("lines", [{}, {"a": [1, 2], "b": [1]}])
def test_lines_of_different_lengths_and_none_are_refused(lines):
    with pytest.raises(LabError, match="as many"):
        figures.by_block(lines, "tokens")
