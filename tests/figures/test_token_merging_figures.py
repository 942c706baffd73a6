import pytest
import torch

from lightvit_lab import figures
from lightvit_lab.errors import LabError

# One picture of 2 x 2 patches, 4 pixels high: the upper two red and blue, the lower two black.
RED_BLUE = torch.zeros(1, 3, 4, 4)
RED_BLUE[0, 0, :2, :2] = 1.0
RED_BLUE[0, 2, :2, 2:] = 1.0
APART, UPPER, ALL = (torch.tensor([places]) for places in ([0, 1, 2, 3], [0, 0, 1, 2], [0, 0, 0, 0]))


def frame(figure, block):
    """Borders and painting of the only picture after so many blocks."""
    borders, painted = figure.frames[block].data
    return [point for point in zip(borders.x, borders.y) if point[0] is not None], painted


def test_a_border_stands_between_every_two_patches_of_different_tokens_and_nowhere_else():
    figure = figures.merged_regions(RED_BLUE, [APART, UPPER, ALL])
    apart, upper, everything = (frame(figure, block)[0] for block in range(3))
    assert set(apart) == {(1.5, -0.5), (1.5, 1.5), (1.5, 3.5), (-0.5, 1.5), (3.5, 1.5)}
    assert len(apart) == 8 and (1.5, -0.5) not in upper and len(upper) == 6
    assert (1.5, 3.5) in upper and everything == []


def test_each_token_is_painted_in_the_mean_colour_of_its_own_patches():
    figure = figures.merged_regions(RED_BLUE, [APART, UPPER, ALL])
    upper, everything = (frame(figure, block)[1] for block in (1, 2))
    assert [list(pixel) for pixel in upper.z[0]] == [[128, 0, 128]] * 2
    assert [list(pixel) for pixel in upper.z[1]] == [[0, 0, 0]] * 2
    assert {tuple(pixel) for row in everything.z for pixel in row} == {(64, 0, 64)}
    assert [list(row) for row in upper.text] == [["token of 2 patches"] * 2, ["token of 1 patches"] * 2]


def test_the_slider_has_a_step_for_each_block_named_by_the_tokens_left_and_begins_before_the_first():
    figure = figures.merged_regions(RED_BLUE, [APART, UPPER, ALL])
    (slider,) = figure.layout.sliders
    assert [step.label for step in slider.steps] == ["4", "3", "1"] and slider.active == 0
    assert [step.args[0][0] for step in slider.steps] == [one.name for one in figure.frames]
    assert list(figure.data[1].x) == list(figure.frames[0].data[0].x)


def test_a_frame_moves_borders_and_paintings_of_every_picture_and_leaves_the_pictures():
    figure = figures.merged_regions(RED_BLUE.repeat(3, 1, 1, 1), [APART.repeat(3, 1), UPPER.repeat(3, 1)])
    assert [trace.type for trace in figure.data] == ["image"] * 3 + ["scatter"] * 3 + ["image"] * 3
    assert all(list(one.traces) == list(range(3, 9)) and len(one.data) == 6 for one in figure.frames)
    borders = figure.data[3:6]
    assert [trace.xaxis for trace in borders] == [trace.xaxis for trace in figure.data[:3]]


@pytest.mark.parametrize("pictures, places, says", [
    (1, [], "at least one block"), (7, [APART.repeat(7, 1)], "1 to 6 pictures"),
    (2, [APART], "for 2 pictures"), (1, [APART, UPPER[:, :3]], r"\(1, 3\)"), (1, [UPPER[:, :3]], "square")])
def test_places_of_other_pictures_or_patches_are_refused(pictures, places, says):
    with pytest.raises(LabError, match=says):
        figures.merged_regions(RED_BLUE.repeat(pictures, 1, 1, 1), places)


def test_lines_over_blocks_begin_before_the_first_and_carry_their_intervals():
    line, band = figures.by_block({"left": [65, 57, 49], "overlap": [(70.0, 68.0, 73.0)] * 3}, "%").data
    assert list(line.x) == [0, 1, 2] and list(line.y) == [65, 57, 49] and line.error_y.array is None
    assert list(band.error_y.array) == [3, 3, 3] and list(band.error_y.arrayminus) == [2, 2, 2]
    assert line.marker.symbol != band.marker.symbol


@pytest.mark.parametrize("lines", [{}, {"a": [1, 2], "b": [1]}])
def test_lines_of_different_lengths_and_none_are_refused(lines):
    with pytest.raises(LabError, match="as many"):
        figures.by_block(lines, "tokens")
