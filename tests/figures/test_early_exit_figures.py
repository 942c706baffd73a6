import re

import pytest
import torch

from lightvit_lab import data, figures
from lightvit_lab.dynamic.early_exit.report import Reliability
from lightvit_lab.errors import LabError
from lightvit_lab.figures.display import DARK

PIXELS = torch.randint(0, 256, (4, 3, 8, 8), generator=torch.Generator().manual_seed(0)).byte()
FOUR = data.Pictures("my <shapes>", "test", PIXELS, torch.tensor([0, 1, 0, 1]), ("a<b", "disc"), torch.ones(3) / 2, torch.ones(3) / 2)


def logits(*sure):
    """Two classes: the first one's probability, for each exit a row, for each picture a column."""
    share = torch.tensor(sure)
    return torch.stack([share.log(), (1 - share).log()], dim=-1)


# The first exit is 90, 60, 80 and 70 % sure, and wrong in the second picture; the final classifier is wrong in the third.
SAID = logits([0.9, 0.6, 0.8, 0.3], [0.95, 0.1, 0.2, 0.1])
LINES = {"confidence": [(30e6, 0.9), (20e6, 0.8)]}
EXITS = {"all leave here": [(20e6, 0.7, 0.6, 0.75)]}


def test_shades_of_depth_stay_as_they_are_in_the_dark():
    figure = figures.shares_leaving({"all": [0.5, 0.3, 0.2]}, ["first", "second", "end"])
    colours = {colour for trace in figure.data for colour in (trace.marker.color, trace.marker.pattern.fgcolor)}
    assert not {colour for colour in colours if colour in DARK and colour != "#FFFFFF"} and figure.data[-1].marker.color == "#000001"


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


def test_captions_and_table_of_the_film_count_who_left_who_is_right_and_the_mean_macs():
    film = figures.exits_by_threshold(FOUR, SAID, (10_000_000, 40_000_000), (0.5, 0.75, 1.0))
    captions = re.findall('lab-film-caption">(.*?)</p>', film.html)
    assert captions == [                                      # worked by hand: 4, 2 and no pictures leave at the first exit
        "Threshold 0.5: 100.0% of 4 pictures leave early, 75.0% of all are right. A picture costs 10.0 million MACs, "
        "25% of the full model.",
        "Threshold 0.75: 50.0% of 4 pictures leave early, 100.0% of all are right. A picture costs 25.0 million MACs, "
        "62% of the full model.",
        "Threshold 1: 0.0% of 4 pictures leave early, 75.0% of all are right. A picture costs 40.0 million MACs, "
        "100% of the full model."]
    assert film.finding == "A threshold of 0.5 gets 75.0% right for 25% of the full model's MACs, one of 1 gets 75.0% right."
    rows = re.findall('<tr><th scope="row">(.*?)</th>(.*?)</tr>', film.html)
    assert [(name, re.findall("<td>(.*?)</td>", cells)) for name, cells in rows][1] == ("0.75", ["50.0\xa0%", "100.0\xa0%", "25.0", "62\xa0%"])


def test_tiles_stand_from_the_least_sure_to_the_surest_and_say_exit_and_verdict_in_words_and_frames():
    film = figures.exits_by_threshold(FOUR, SAID, (10_000_000, 40_000_000), (0.75, 1.0))
    now, later = film.html.split('class="lab-film-state')[1:]
    assert re.findall('aria-label="([^"]*)"', now) == [
        "disc, final, right", "disc, final, right", "a&lt;b, exit 0, right", "a&lt;b, exit 0, right"]
    assert re.findall("<figcaption>(.*?)<", later) == ["\u2713 final", "\u2713 final", "\u2717 final", "\u2713 final"]
    assert re.findall('stroke-dasharray="(.*?)"', later) == ["none", "none", "12 7", "none"]
    places = [re.findall(r'<use href="#lab-my-shapes-test-4-(\d)"/>', state) for state in (now, later)]
    assert places == [["1", "3", "2", "0"]] * 2               # 60, 70, 80 and 90 % sure
    bars = re.findall(r'width="(\d+)" height="10" style="fill', now)
    assert bars == ["98", "98", "49", "49"]                   # the whole way, and the first of two exits


def test_each_picture_is_stored_once_for_all_states_under_an_id_that_the_tiles_use():
    html = figures.exits_by_threshold(FOUR, SAID, (1, 2), (0.1, 0.75, 1.0), count=3).html
    stored = re.findall('<image id="(.*?)"', html)
    assert len(stored) == 3 == html.count("data:image/png") and set(re.findall('<use href="#(.*?)"', html)) == set(stored)


def test_pictures_are_drawn_at_even_steps_of_the_first_exits_confidence_and_none_twice():
    ten = data.Pictures("ten", "test", PIXELS[:1].expand(10, -1, -1, -1), torch.zeros(10).long(), FOUR.class_names, FOUR.mean, FOUR.std)
    sure = [0.99, 0.6, 0.98, 0.8, 0.97, 0.96, 0.61, 0.95, 0.94, 0.93]
    drawn = [re.findall('<use href="#lab-ten-test-10-(.)"', figures.exits_by_threshold(
        ten, logits(sure, sure), (1, 2), count=count).html)[:count] for count in (2, 3, 4, 20)]
    assert drawn[:3] == [["1", "0"], ["1", "3", "0"], ["1", "3", "9", "0"]]     # steps of 0.39, 0.195 and 0.13 from 0.6
    assert drawn[3][:10] == ["1", "6", "3", "9", "8", "7", "5", "4", "2", "0"]


def test_the_film_opens_at_the_threshold_nearest_to_the_pages_own():
    film = figures.exits_by_threshold(FOUR, SAID, (1, 2), (0.5, 0.88, 0.95))
    assert [" lab-film-now" in state[:20] for state in film.html.split('class="lab-film-state')[1:]] == [False, True, False]


def test_the_films_last_state_that_of_paper_is_the_threshold_at_which_most_leave():
    films = figures.exits_by_threshold(FOUR, SAID, (1, 2)).html.split('class="lab-film-state')[1:]
    early = [state.count(", exit 0, ") for state in films]
    assert early[-1] == max(early) > early[0] == 0


@pytest.mark.parametrize("given, macs, how, says", [
    (SAID, (1, 2, 3), {}, "3 MACs"), (SAID[:, :3], (1, 2), {}, "4 pictures"), (SAID[0], (1, 2), {}, "every_logit"),
    (SAID[:1], (1,), {}, "exit_macs"), (SAID, (1, 2), {"thresholds": (0.5, 90)}, "threshold=90"),
    (SAID, (1, 2), {"count": 0}, "count=0"), (SAID, (1, 2), {"thresholds": (0.5,)}, "1 states")])
def test_a_film_of_parts_that_do_not_fit_is_refused(given, macs, how, says):
    with pytest.raises(LabError) as error:
        figures.exits_by_threshold(FOUR, given, macs, **how)
    assert says in str(error.value)


def words(figure):
    return [figure.layout.meta[name] for name in ("alt", "finding", "table")]


def test_a_frontier_says_which_rule_is_cheapest_within_a_point_or_that_none_is():
    alt, finding, table = words(figures.exit_frontier(LINES | {"patience": [(30e6, 0.95), (10e6, 0.94)]}, EXITS, (40e6, 0.95)))
    assert "confidence, patience and all leave here" in alt and table is None        # that of the points
    assert finding == "Within a point of the model without exits, patience needs 25% of its MACs."
    assert words(figures.exit_frontier(LINES, {}, (40e6, 0.95)))[1] == (
        "No rule comes within a point of the model without exits, 95.0%.")


def test_bars_of_who_leaves_name_the_groups_that_leave_first_most_and_least():
    shares = {"small": [0.25, 0.75], "large": [0.9, 0.1], "all": [0.5, 0.5]}
    alt, finding, table = words(figures.shares_leaving(shares, ["exit 0", "end"]))
    assert "small, large and all" in alt and "exit 0 and end" in alt
    assert finding == "The share that leaves at exit 0 is largest for large (90%) and smallest for small (25%)."
    assert table == {"group": ["small", "large", "all"], "exit 0": ["25.0%", "90.0%", "50.0%"], "end": ["75.0%", "10.0%", "50.0%"]}
    assert words(figures.shares_leaving({"small": [0.25, 0.75]}, ["exit 0", "end"]))[1] == "At exit 0 25% leave."


def test_a_diagram_says_the_largest_and_the_smallest_error_and_tables_the_bins_that_hold_pictures():
    found = {"exit 0": Reliability((10, 0, 90), (0.2, 0.0, 0.9), (0.3, 0.0, 0.8), 0.1),
             "end": Reliability((0, 0, 50), (0.0, 0.0, 0.96), (0.0, 0.0, 0.98), 0.02)}
    alt, finding, table = words(figures.reliability_diagram(found))
    assert "exit 0 and end" in alt
    assert finding == "The calibration error of exit 0 is 10.0 points, that of end 2.0."
    assert table["series"] == ["exit 0", "exit 0", "end"] and table["bin"] == ["up to 33%", "up to 100%", "up to 100%"]
    assert table["pictures"] == [10, 90, 50] and table["right (%)"] == pytest.approx([30, 80, 98])
    assert words(figures.reliability_diagram({"end": found["end"]}))[1] == "The calibration error of end is 2.0 points."


def test_a_diagram_hangs_each_exit_behind_its_block_with_what_a_picture_has_cost_up_to_there():
    figure = figures.exit_diagram([0, 2], 4, [0.3, 0.8, 1.0])
    boxes, shares = figure.data
    assert boxes.text == ("stem", "0", "1", "2", "3", "final", "exit 0", "exit 1") and shares.text == ("30%", "80%", "100%")
    assert boxes.x[-2:] == (1.5, 3.5) == shares.x[:2]             # between blocks 0 and 1, which stand at 1 and 2; 2 and 3
    down = [(line.x0, line.y0, line.y1) for line in figure.layout.shapes if line.type == "line" and line.x0 == line.x1]
    assert down == [(1.5, 1, 0.25), (3.5, 1, 0.25)]
    alt, finding, table = words(figure)
    assert "after block 0 and 2" in alt.lower() and finding.endswith("30% of the model's MACs, up to the final classifier 100%.")
    assert table["after block"] == ["0", "2", "3"]
    for wrong in (([0, 3], 4, [0.3, 0.8, 1.0]), ([0, 2], 4, [0.3, 1.0])):
        with pytest.raises(LabError, match="one cost more than exits"):
            figures.exit_diagram(*wrong)
