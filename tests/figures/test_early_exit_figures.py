import pytest

from lightvit_lab import figures
from lightvit_lab.dynamic.early_exit.report import Reliability
from lightvit_lab.errors import LabError

LINES = {"confidence": [(30e6, 0.9), (20e6, 0.8)]}
EXITS = {"all leave here": [(20e6, 0.7, 0.6, 0.75)]}


def test_a_rule_is_drawn_from_cheap_to_dear_in_millions_and_percent_beside_exits_and_the_dense_model():
    rule, exits, dense = figures.exit_frontier(LINES, EXITS, (40e6, 0.95)).data
    assert list(rule.x) == [20, 30] and list(rule.y) == pytest.approx([80, 90])
    assert list(exits.error_y.array) == pytest.approx([5]) and list(exits.error_y.arrayminus) == pytest.approx([10])
    assert (list(dense.x), list(dense.y)) == ([40], [95])
    assert len({rule.marker.symbol, exits.marker.symbol, dense.marker.symbol}) == 3


@pytest.mark.parametrize("lines, says", [({}, "at least one"), ({"a": [(1, 90)]}, "90")])
def test_a_frontier_refuses_nothing_and_percent(lines, says):
    with pytest.raises(LabError, match=says):
        figures.exit_frontier(lines, {}, (1, 0.9))


def test_bars_of_who_leaves_add_up_to_all_and_stand_in_the_order_of_the_exits():
    first, last = figures.shares_leaving({"small": [0.25, 0.75], "large": [0.9, 0.1]}, ["exit 0", "end"]).data
    assert (first.name, last.name) == ("exit 0", "end")
    assert [a + b for a, b in zip(first.x, last.x)] == pytest.approx([100, 100]) and list(first.x) == [25, 90]
    assert first.marker.color != last.marker.color and first.marker.pattern.shape != last.marker.pattern.shape


@pytest.mark.parametrize("row", [[0.5, 0.2], [1.0]])
def test_shares_that_are_not_all_or_not_one_for_each_end_are_refused(row):
    with pytest.raises(LabError, match="'a'"):
        figures.shares_leaving({"a": row}, ["exit 0", "end"])


def test_bins_without_pictures_are_left_out_and_fuller_bins_are_larger():
    one = Reliability((10, 0, 90), (0.2, 0.0, 0.9), (0.3, 0.0, 0.8), 0.1)
    diagonal, bins = figures.reliability_diagram({"exit 0": one}).data
    assert list(diagonal.x) == list(diagonal.y) == [0, 100]
    assert list(bins.x) == pytest.approx([20, 90]) and list(bins.y) == pytest.approx([30, 80])
    assert bins.marker.size[1] > bins.marker.size[0] and "10.0 points" in bins.name


def test_a_diagram_of_nothing_is_refused():
    with pytest.raises(LabError, match="exit_report"):
        figures.reliability_diagram({})
