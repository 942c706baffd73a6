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
