from math import log10

import pytest

from lightvit_lab import figures
from lightvit_lab.profiling.timing import summary


def test_times_are_bars_with_the_ends_of_their_intervals():
    times = {"a": summary([0.001, 0.002, 0.003, 0.004, 0.005, 0.006, 0.007], 1), "b": summary([0.01] * 7, 1)}
    bars = figures.times_by_model(times).data
    assert [bar.y[0] for bar in bars] == ["a", "b"] and bars[0].x[0] == pytest.approx(4)
    assert bars[0].x[0] + bars[0].error_x.array[0] == pytest.approx(times["a"].interval_ms[1])
    assert bars[0].x[0] - bars[0].error_x.arrayminus[0] == pytest.approx(times["a"].interval_ms[0])


def test_errors_carry_their_numbers_and_a_pattern_for_each_counter():
    figure = figures.errors_by_counter({"hooks": {"m": -0.143, "n": 0.004}, "operators": {"m": 0.0, "n": 0.0}})
    assert figure.data[0].text == ("-14.3 %", "+0.4 %") and figure.data[0].x[0] == pytest.approx(-14.3)
    assert figure.data[0].marker.pattern.shape != figure.data[1].marker.pattern.shape


def test_models_are_numbered_points_in_giga_and_your_machine_has_its_own_marker_and_the_same_numbers():
    figure = figures.macs_and_time({"a": (5e8, 10), "b": (2e9, 40)}, {"b": 90})
    stored, here = figure.data
    assert (stored.x, stored.y, stored.text, stored.customdata) == ((0.5, 2.0), (10, 40), ("1", "2"), ("a", "b"))
    assert (here.x, here.y, here.text, here.name) == ((2.0,), (90,), ("2",), "your machine")
    assert stored.marker.symbol != here.marker.symbol and figure.layout.yaxis.range[1] > log10(90)
    assert len(figures.macs_and_time({"a": (5e8, 10)}).data) == 1
    low, high = figure.layout.xaxis.range
    assert low < log10(0.5) and high > log10(2)


def test_the_roof_is_the_smaller_of_slope_and_peak_and_layers_keep_their_names():
    figure = figures.roofline(8e10, 1e10, {"model": [("slow", 1.0, 5e9), ("fast", 64.0, 7e10)]})
    roof, layers = figure.data
    assert roof.x[1] == 8 and roof.y[1] == roof.y[2] == 80 and roof.y[0] == pytest.approx(10 * roof.x[0])
    assert roof.x[0] < 1 and roof.x[2] > 64
    assert layers.text == ("slow", "fast") and layers.y == (5, 70)


def words(figure):
    return figure.layout.meta["alt"], figure.layout.meta["finding"], figure.layout.meta["table"]


@pytest.mark.parametrize("slow, ends", [([0.01] * 7, "10.00 ms."),
                                        ([0.004] * 7, "4.00 ms; the shortest intervals overlap.")])
def test_times_say_which_is_shortest_and_whether_intervals_settle_that(slow, ends):
    times = {"b": summary(slow, 1), "a": summary([0.002] * 3 + [0.003] + [0.005] * 3, 1)}
    alt, finding, table = words(figures.times_by_model(times))
    assert alt == "Median time with its interval, a bar each: b and a."
    assert finding == f"a takes the shortest time, 3.00 ms, b the longest, {ends}"
    assert table["candidate"] == ["b", "a"] and table["milliseconds"][1] == "3.00"
    assert (table["low"][1], table["high"][1]) == ("2.00", "5.00")
    assert words(figures.times_by_model({"a": times["a"]}))[1] == "a takes 3.00 ms."


def test_errors_of_counters_say_how_many_are_too_low_and_which_is_furthest_off():
    alt, finding, table = words(figures.errors_by_counter(
        {"hooks": {"m": -0.143, "n": 0.2}, "operators": {"n": -0.05}}))
    assert alt.endswith("a bar for each model: hooks and operators.")
    assert finding == ("Counts that are too low: 2 of 3; the furthest off is that of hooks on n, "
                       "+20.0%.")
    assert table == {"model": ["m", "n"], "hooks": ["-14.3%", "+20.0%"], "operators": ["", "-5.0%"]}


def test_models_say_in_how_many_pairs_fewer_macs_take_longer():
    points = {"a": (5e8, 10.0), "b": (2e9, 8.0), "c": (3e9, 40.0), "d": (3e9, 9.0)}
    alt, finding, table = words(figures.macs_and_time(points, {"b": 90.0}))
    assert "stored run (4 points) and your machine (1 points)" in alt
    # a, b and a, d are the wrong way round; c and d have equal MACs and are no pair
    assert finding == "The model with fewer MACs takes longer in 2 of 5 pairs of models."
    assert table["model"] == ["1 a", "2 b", "3 c", "4 d"]
    assert table["GMACs"] == ["0.500", "2.000", "3.000", "3.000"]
    assert table["ms, your machine"] == ["", "90.0", "", ""]
    assert words(figures.macs_and_time({"a": (5e8, 10.0)}))[1] == ""


def test_a_roofline_says_how_many_parts_lie_where_memory_is_the_limit():
    layers = {"one": [("slow", 1.0, 5e9), ("fast", 64.0, 7e10)], "two": [("corner", 8.0, 8e10)]}
    alt, finding, table = words(figures.roofline(8e10, 1e10, layers))
    assert alt.endswith("a point for each part of one and two.")
    assert finding == ("Memory holds back what lies left of the corner: 1 of the 2 parts of one "
                       "and 0 of the 1 parts of two.")
    assert table == {"part": ["slow", "fast", "corner"], "model": ["one", "one", "two"],
                     "FLOP/byte": ["1.0", "64.0", "8.0"], "GFLOP/s": ["5.0", "70.0", "80.0"]}
