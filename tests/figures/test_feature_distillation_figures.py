import pytest
import torch

from lightvit_lab import figures
from lightvit_lab.errors import LabError

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
    (lambda: figures.agreement({"plain": [0.1]}), "'plain' is list")])
def test_what_does_not_fit_is_refused_in_words(call, expected):
    with pytest.raises(LabError, match=expected):
        call()
