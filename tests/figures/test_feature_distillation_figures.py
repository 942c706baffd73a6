import base64
import io
import re

import numpy
import pytest
import torch
from PIL import Image

from lightvit_lab import figures
from lightvit_lab.errors import LabError
from lightvit_lab.figures import overlay

PLAIN = torch.tensor([[3.0, 1, 2], [1, 4, 0], [2, 0, 5]])


def heats(figure):
    return [trace for trace in figure.data if trace.type == "heatmap"]


def test_pictures_of_one_class_stand_together_in_rows_and_columns_of_every_matrix():
    figure = figures.similarity_matrices({"one": PLAIN, "other": 10 * PLAIN}, ["b", "a", "b"])
    first, second = heats(figure)
    assert [list(row) for row in first.z] == [[4, 1, 0], [1, 3, 2], [0, 2, 5]]          # a, then both b
    assert [list(row) for row in second.z] == [[40, 10, 0], [10, 30, 20], [0, 20, 50]]
    assert [list(pair) for pair in first.customdata[0]] == [["a", "a"], ["a", "b"], ["a", "b"]]


def test_matrices_share_one_scale_and_classes_are_named_once_at_the_middle_of_their_rows():
    figure = figures.similarity_matrices({"one": PLAIN, "other": PLAIN}, ["b", "a", "b"])
    assert {trace.coloraxis for trace in heats(figure)} == {"coloraxis"}
    assert list(figure.layout.yaxis.tickvals) == [0, 1.5] and list(figure.layout.yaxis.ticktext) == ["a", "b"]
    assert figure.layout.yaxis2.showticklabels is False and figure.layout.yaxis.autorange == "reversed"
    assert [title.text for title in figure.layout.annotations] == ["one", "other"]


def test_three_matrices_stand_two_to_a_row_so_that_a_phone_shows_them():
    figure = figures.similarity_matrices({name: PLAIN for name in "xyz"}, ["a", "a", "b"])
    lefts = {round(figure.layout["xaxis" + trace.xaxis[1:]].domain[0], 3) for trace in heats(figure)}
    assert len(heats(figure)) == 3 and len(lefts) == 2


def test_energy_beyond_a_width_begins_with_all_and_ends_with_none_of_it():
    figure = figures.energy_beyond_width({"layer": torch.tensor([6.0, 3, 1])}, width=2)
    (line,) = figure.data
    assert list(line.x) == [0, 1, 2, 3] and list(line.y) == pytest.approx([100, 40, 10, 0], abs=1e-3)
    assert figure.layout.shapes[0].x0 == 2 and figure.layout.annotations[0].text == "width 2"


def test_energy_is_that_of_torchs_singular_values_whose_rest_is_the_error_of_the_best_approximation():
    features = torch.randn(30, 5, generator=torch.Generator().manual_seed(0))
    left, values, right = torch.linalg.svd(features, full_matrices=False)
    rebuilt = (left[:, :2] * values[:2]) @ right[:2]
    lost = 100 * ((features - rebuilt).pow(2).sum() / features.pow(2).sum()).item()
    figure = figures.energy_beyond_width({"layer": values.pow(2)}, width=2)
    assert figure.data[0].y[2] == pytest.approx(lost, abs=2e-3)


def test_agreement_draws_every_picture_of_every_network_in_the_order_given():
    figure = figures.agreement({"plain": torch.tensor([0.1, -0.5, 0.3]), "distilled": torch.tensor([0.9])})
    plain, distilled = figure.data
    assert plain.name == "plain" and list(plain.x) == pytest.approx([0.1, -0.5, 0.3])
    assert list(distilled.x) == pytest.approx([0.9]) and distilled.marker.symbol != plain.marker.symbol
    assert list(figure.layout.xaxis.range) == [-1, 1] and figure.layout.yaxis.autorange == "reversed"


@pytest.mark.parametrize("call, expected", [
    (lambda: figures.similarity_matrices({}, []), "no matrices"),
    (lambda: figures.similarity_matrices({"one": PLAIN}, ["a", "b"]), r"'one' is \(3, 3\); give a finite matrix \(2, 2\)"),
    (lambda: figures.similarity_matrices({"one": PLAIN / 0}, ["a", "b", "c"]), "finite"),
    (lambda: figures.energy_beyond_width({"layer": torch.tensor([1.0, 2])}, 1), "the largest first"),
    (lambda: figures.energy_beyond_width({"layer": torch.tensor([1.0, -2])}, 1), "squared singular values"),
    (lambda: figures.energy_beyond_width({"layer": torch.ones(2)}, 0), "width=0"),
    (lambda: figures.agreement({"plain": torch.tensor([1.5])}), r"in \[-1, 1\]"),
    (lambda: figures.agreement({"plain": torch.ones(2, 2)}), r"\(2, 2\)"),
    (lambda: figures.agreement({"plain": [0.1]}), "'plain' is list"),
    (lambda: figures.agreement({}), "nothing to draw"),
    (lambda: figures.energy_beyond_width({}, 1), "nothing to draw")])
def test_what_does_not_fit_is_refused_in_words(call, expected):
    with pytest.raises(LabError, match=expected):
        call()


def test_similar_pictures_of_one_group_are_set_against_those_of_others_pair_by_pair_without_the_diagonal():
    matrix = torch.tensor([[9.0, 6, 2], [6, 9, 4], [2, 4, 9]])             # a, a, b: one pair of a, two of a with b
    meta = figures.similarity_matrices({"teacher": matrix, "student": torch.ones(3, 3)}, ["a", "a", "b"]).layout.meta
    assert meta["table"] == {"network": ["teacher", "student"], "similarity, same group": pytest.approx([6, 1]),
                             "similarity, other groups": pytest.approx([3, 1])}
    assert meta["finding"] == ("Two pictures of one group are 2.00 times (teacher) and 1.00 times (student) as alike as two "
                               "of different groups.")
    assert meta["alt"] == ("For teacher and student a square heat map of similarity, a row and a column for each of 3 "
                           "pictures of a and b.")


@pytest.mark.parametrize("matrix, groups", [(-torch.ones(3, 3), ["a", "a", "b"]), (PLAIN, ["a", "b", "c"]), (PLAIN, ["a", "a", "a"])])
def test_no_factor_is_said_of_similarities_below_zero_or_where_there_is_but_one_kind_of_pair(matrix, groups):
    assert "times" not in figures.similarity_matrices({"one": matrix}, groups).layout.meta["finding"]


def test_the_energy_that_no_student_reaches_is_said_for_the_layer_that_loses_most():
    energies = {"first": torch.tensor([6.0, 3, 1]), "last": torch.tensor([2.0, 1, 1]), "narrow": torch.tensor([5.0])}
    meta = figures.energy_beyond_width(energies, width=2).layout.meta
    assert meta["finding"] == "Beyond width 2 lies at most 25.0 % of a layer's energy (last)."          # 1 of 4
    assert meta["table"] == {"layer": ["first", "last", "narrow"], "channels": [3, 3, 1],
                             "beyond width 2 (%)": pytest.approx([10, 25, 0])}
    assert "first, last and narrow" in meta["alt"]


def test_agreement_says_the_highest_and_the_lowest_mean_and_tabulates_the_spread():
    correlations = {"plain": torch.tensor([0.1, 0.2, 0.3]), "distilled": torch.tensor([0.5, 0.9]), "other": torch.tensor([-0.5])}
    meta = figures.agreement(correlations).layout.meta
    assert meta["finding"] == ("The mean rank correlation with the teacher's map is highest with 0.70 (distilled) "
                               "and lowest with -0.50 (other).")
    assert meta["table"]["mean"] == pytest.approx([0.2, 0.7, -0.5])
    assert meta["table"]["10% lie below"] == pytest.approx([0.12, 0.54, -0.5])
    assert meta["table"]["90% lie below"] == pytest.approx([0.28, 0.86, -0.5])
    alone = figures.agreement({"plain": torch.tensor([0.1, 0.3])}).layout.meta
    assert alone["finding"] == "The mean rank correlation with the teacher's map is highest with 0.20 (plain)."


IMAGES = torch.linspace(0, 1, 3 * 3 * 8 * 8).view(3, 3, 8, 8)
RAMP = torch.arange(4.0).view(1, 2, 2).repeat(3, 1, 1)


def test_the_film_opens_with_the_last_student_and_says_the_agreement_of_each_over_all_pictures():
    half = torch.cat([RAMP[:1], 3 - RAMP[1:]])                      # one map as the teacher's, two upside down
    film = figures.agreement_film(IMAGES, RAMP, {"untrained": 3 - RAMP, "plain": half, "distilled": 7 * RAMP}, shown=2)
    captions = re.findall(r'class="lab-film-caption">(.*?)<', film.html)
    assert [caption.split(": ")[0] for caption in captions] == ["untrained", "plain", "distilled"]
    assert [re.search(r"(-?\d\.\d\d), over 3 pictures", caption)[1] for caption in captions] == ["-1.00", "-0.33", "1.00"]
    assert re.findall(r"<figcaption>(.*?)<", film.html) == ["-1.00", "-1.00", "1.00", "-1.00", "1.00", "1.00"]
    _, opened = film.html.split('class="lab-film-state lab-film-now"')
    assert "distilled: mean" in opened and "plain: mean" not in opened
    assert film.finding == ("The mean rank correlation with the teacher's map is highest with 1.00 (distilled) "
                            "and lowest with -1.00 (untrained).")


def test_a_strip_of_the_film_is_the_picture_the_teachers_map_over_it_and_the_students_below():
    film = figures.agreement_film(IMAGES, RAMP, {"plain": 3 - RAMP, "distilled": RAMP}, shown=1)
    plain, distilled = (numpy.asarray(Image.open(io.BytesIO(base64.b64decode(text)))) for text in
                        re.findall(r"data:image/png;base64,([^\"]+)", film.html))
    assert plain.shape == (3 * 8 + 2, 8, 3) and (plain[[8, 17]] == 128).all()
    assert numpy.array_equal(plain[:8], overlay.to_bytes(IMAGES[0]))
    assert numpy.array_equal(plain[9:17], overlay.blend(IMAGES[0], RAMP[0])) and numpy.array_equal(plain[9:17], distilled[18:])
    assert numpy.array_equal(plain[18:], overlay.blend(IMAGES[0], 3 - RAMP[0]))


@pytest.mark.parametrize("images, teacher, students, expected", [
    (IMAGES, RAMP, {"one": RAMP}, "at least two"),
    (IMAGES, RAMP, {}, "at least two"),
    (IMAGES, RAMP, {"one": RAMP, "other": RAMP[:2]}, r"'other' are \(2, 2, 2\)"),
    (IMAGES, RAMP[0], {"one": RAMP, "other": RAMP}, r"'teacher' are \(2, 2\)"),
    (IMAGES, RAMP, {"one": RAMP, "other": RAMP / 0}, "finite"),
    (IMAGES[0], RAMP, {"one": RAMP, "other": RAMP}, "images")])
def test_maps_that_do_not_fit_together_are_no_film(images, teacher, students, expected):
    with pytest.raises(LabError, match=expected):
        figures.agreement_film(images, teacher, students)
