"""Expected and given as drawings: of what they are made, what their texts say, and when there are none."""

import base64
import io
import re

import numpy
import pytest
import torch
from PIL import Image

from lightvit_lab.exercises import examine
from made_exercises import exercise as made
from lightvit_lab.exercises.drawing import LONG, comparison_drawing


def pictures(html):
    """Alt text -> pixels (rows, columns, 3) of each picture in some HTML."""
    found = re.findall(r'<img class="dark-light" src="data:image/png;base64,([^"]+)" alt="([^"]+)"', html)
    return {alt: numpy.asarray(Image.open(io.BytesIO(base64.b64decode(data)))) for data, alt in found}


def test_a_map_is_drawn_cell_by_cell_on_the_scale_of_both_and_the_texts_say_where_they_part():
    expected = torch.zeros(4, 6)
    given = expected.clone()
    given[2, 5] = 8.0
    shown = pictures(comparison_drawing(given, expected))
    assert list(shown) == ["expected: values from 0 to 0", "given: values from 0 to 8",
                           "difference: largest 8 at row 2, column 5; 4% of the places differ"]
    assert [pixels.shape for pixels in shown.values()] == [(4, 6, 3)] * 3
    first, second, gap = shown.values()
    dark, bright = (0, 34, 78), (253, 231, 55)   # the ends of cividis, as published
    numpy.testing.assert_allclose(second[2, 5], bright, atol=3)
    numpy.testing.assert_allclose(first[2, 5], dark, atol=3)
    assert (first == first[0, 0]).all() and (gap == second).all()


def test_of_a_stack_the_map_with_the_largest_difference_is_drawn_and_named():
    expected = torch.rand(2, 5, 4, 4, generator=torch.Generator().manual_seed(0))
    given = expected.clone()
    given[1, 3, 0, 0] += 7
    html = comparison_drawing(given, expected)
    assert "output[1, 3]" in html and "largest 7 at row 0, column 0" in html and len(pictures(html)) == 3


def test_three_channels_are_a_picture_in_its_own_colours():
    expected = torch.zeros(2, 3, 8, 8)
    given = expected.clone()
    given[1, 0] = 1.0
    shown = list(pictures(comparison_drawing(given, expected)).values())
    assert (shown[1] == (255, 0, 0)).all() and (shown[0] == 0).all()


@pytest.mark.parametrize("given, expected", [
    (torch.rand(5), torch.rand(5)), (torch.rand(2, 2), torch.rand(2, 2)), (torch.rand(4, 5), torch.rand(5, 4)),
    (torch.rand(4, 4) * 1j, torch.rand(4, 4)), (torch.rand(4, 4, device="meta"), torch.rand(4, 4)),
    (torch.rand(4, 4, dtype=torch.complex64), torch.rand(4, 4, dtype=torch.complex64)), (3.0, torch.rand(4, 4)),
    ((torch.rand(4, 4),), (torch.rand(4, 4),)), (torch.rand(600, 4), torch.rand(600, 4))])
def test_what_is_no_map_or_not_of_one_kind_is_not_drawn(given, expected):
    assert comparison_drawing(given, expected) == ""


@pytest.mark.parametrize("make", [lambda: torch.rand(4, 4) > 0.5, lambda: torch.randint(9, (4, 4)),
                                  lambda: torch.rand(4, 4).to_sparse(),
                                  lambda: torch.full((4, 4), float("nan")), lambda: torch.full((4, 4), float("inf"))])
def test_masks_counts_and_strange_numbers_can_be_drawn(make):
    assert len(pictures(comparison_drawing(make(), make()))) == 3


def test_a_long_thin_map_keeps_to_the_page():
    sizes = re.findall(r'width="(\d+)" height="(\d+)"', comparison_drawing(torch.rand(3, 500), torch.rand(3, 500)))
    assert sizes and all(int(width) <= LONG and int(height) >= 24 for width, height in sizes)


def test_only_the_html_of_a_check_carries_the_drawing():
    def cases(generator):
        return [(torch.rand(6, 6, generator=generator),)]

    exercise = made("sample.map", lambda x: x @ x, cases)
    wrong = examine(exercise, lambda x: x)
    assert len(pictures(wrong._repr_html_())) == 3 and "base64" not in repr(wrong)
    assert "base64" not in examine(exercise, lambda x: x @ x)._repr_html_()


def test_the_answer_of_an_exercise_with_one_value_is_never_drawn():
    secret = made("sample.secret", torch.rand(5, 5))
    assert "base64" not in examine(secret, torch.rand(5, 5))._repr_html_()
