import pytest
import torch

from lightvit_lab import figures
from lightvit_lab.errors import LabError
from lightvit_lab.figures.low_rank import crossing

ENERGIES = {"weight": {"qkv": torch.tensor([3.0, 1.0]), "fc1": torch.tensor([1.0, 1.0, 2.0]).flip(0)},
            "inputs": {"qkv": torch.tensor([9.0, 1.0]), "fc1": torch.tensor([2.0, 1.0, 1.0])}}
POINTS = {"one-shot": [(64, 0.9, 0.85, 0.92), (16, 0.4, 0.3, 0.6)], "fine-tuned": [(16, 0.8, 0.7, 0.85)]}


def test_a_spectrum_keeps_nothing_at_rank_0_and_all_of_the_energy_at_full_rank():
    weight, inputs = (line for line in figures.spectra(ENERGIES).data if line.xaxis == "x")
    assert (weight.name, inputs.name) == ("weight", "inputs")
    assert list(weight.x) == [0, 1, 2] and list(weight.y) == pytest.approx([0, 75, 100])
    assert list(inputs.y) == pytest.approx([0, 90, 100])


def test_each_kind_of_layer_has_a_panel_under_its_name_and_each_label_stands_once_in_the_legend():
    figure = figures.spectra(ENERGIES)
    assert [title.text for title in figure.layout.annotations] == ["qkv", "fc1"]
    assert [line.name for line in figure.data if line.showlegend] == ["weight", "inputs"]
    assert {line.xaxis for line in figure.data} == {"x", "x2"}


def test_a_panel_ends_where_its_shortest_line_does():
    longer = {"weight": {"fc2": torch.ones(2)}, "inputs": {"fc2": torch.ones(5)}}
    assert list(figures.spectra(longer).layout.xaxis.range) == [0, 2]


def test_the_break_even_stands_in_the_panel_of_its_own_kind():
    first, second = figures.spectra(ENERGIES, {"qkv": 1.5, "fc1": 2.5}).layout.shapes
    assert (first.xref, first.x0) == ("x", 1.5) and (second.xref, second.x0) == ("x2", 2.5)


@pytest.mark.parametrize("energies, says", [
    ({}, "no energies"), ({"a": {"qkv": torch.tensor([1.0, 2.0])}}, "largest first"),
    ({"a": {"qkv": torch.tensor([1.0, -2.0])}}, "largest first"),
    ({"a": {"qkv": torch.ones(2)}, "b": {"fc1": torch.ones(2)}}, "the same kinds")])
def test_spectra_refuses_nothing_rising_negative_and_other_kinds(energies, says):
    with pytest.raises(LabError, match=says):
        figures.spectra(energies)


def test_the_middle_layer_is_the_point_and_the_bars_reach_the_best_and_the_worst():
    (line,) = figures.errors_over_rank([8, 16], {"plain": [[0.5, 0.2, 0.3], [0.1, 0.3]]}).data
    assert list(line.y) == pytest.approx([30, 20]) and list(line.customdata) == [8, 16]
    assert list(line.error_y.array) == pytest.approx([20, 10])
    assert list(line.error_y.arrayminus) == pytest.approx([10, 10])


def test_errors_for_fewer_ranks_than_named_are_refused():
    with pytest.raises(LabError, match="2"):
        figures.errors_over_rank([8, 16], {"plain": [[0.5]]})


def test_accuracies_are_in_percent_in_order_of_what_was_turned_with_their_own_intervals():
    one_shot, tuned = figures.accuracy_over(POINTS, "rank").data
    assert list(one_shot.x) == [16, 64] and list(one_shot.y) == pytest.approx([40, 90])
    assert list(one_shot.error_y.array) == pytest.approx([20, 2])
    assert list(one_shot.error_y.arrayminus) == pytest.approx([10, 5])
    assert tuned.name == "fine-tuned" and tuned.marker.symbol != one_shot.marker.symbol


def test_the_whole_model_is_a_line_with_a_band_and_the_axis_names_the_values_that_were_tried():
    figure = figures.accuracy_over(POINTS, "rank", (0.95, 0.94, 0.96), log=True)
    band, line = figure.layout.shapes
    assert (band.y0, band.y1, line.y0) == pytest.approx((94, 96, 95))
    assert list(figure.layout.xaxis.ticktext) == ["16", "64"] and figure.layout.xaxis.type == "log"


def test_percent_in_place_of_shares_are_refused():
    with pytest.raises(LabError, match="90"):
        figures.accuracy_over({"a": [(1, 90, 89, 91)]}, "rank")


def test_lines_go_down_where_counted_and_measured_costs_reach_the_whole_layer():
    times = [(0.9, 0.8, 1.0), (1.1, 1.0, 1.3), (1.3, 1.2, 1.4)]
    figure = figures.time_over_rank([10, 20, 30], [0.5, 1.0, 1.5], times)
    whole, counted, measured = figure.layout.shapes
    assert (whole.y0, counted.x0, measured.x0) == pytest.approx((100, 20, 15))
    assert list(figure.data[1].error_y.arrayminus) == pytest.approx([10, 10, 10])


def test_costs_that_stay_below_the_whole_layer_get_no_line():
    assert len(figures.time_over_rank([10, 20], [0.5, 0.9], [(0.9, 0.8, 1.0), (1.1, 1.0, 1.3)]).layout.shapes) == 2


def test_times_for_fewer_ranks_than_named_are_refused():
    with pytest.raises(LabError, match="1 times"):
        figures.time_over_rank([10, 20], [0.5, 0.9], [(0.9, 0.8, 1.0)])


@pytest.mark.parametrize("shares, rank", [([0.5, 1.5, 2.0], 5.0), ([0.5, 0.6, 0.7], None), ([1.2, 1.3, 1.4], None),
                                          ([0.5, 1.5, 0.5], 5.0), ([0.0, 0.5, 1.0], 20.0)])
def test_a_crossing_is_where_rising_shares_reach_the_level_and_none_where_they_do_not(shares, rank):
    assert crossing([0, 10, 20], shares) == (rank if rank is None else pytest.approx(rank))


def test_of_several_crossings_the_last_counts():
    assert crossing([0, 10, 20, 30], [0.5, 1.5, 0.5, 1.5]) == pytest.approx(25)
