import json
import math
import re

import pytest
import torch

from lightvit_lab import figures
from lightvit_lab.errors import LabError

IMAGE = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0))
NAMES = ("ring", "disc", "cross")
LOGITS = torch.tensor([0.0, math.log(8), math.log(1)])        # ring and cross alike; disc eight times as probable


def row(leaf, *accuracies):
    return {"leaf": leaf, "runs": [{"seed": seed, "test": value} for seed, value in enumerate(accuracies)]}


ROWS = {"labels alone": row("none", 0.70, 0.72, 0.74), "annealed": row("Temperature", 0.74, 0.76, 0.78),
        "decoupled": row("Objective", 0.70, 0.80, 0.90), "hard targets": row("Objective", 0.71, 0.73, 0.75)}


def states(film):
    """Of each state of a film: the classes that are drawn, the percents beside them, the widths of the bars, the caption."""
    found = []
    for state in film.html.split('class="lab-film-state')[1:]:
        texts = re.findall("<text[^>]*>(.*?)</text>", state)
        widths = [float(width) for width in re.findall('<rect [^>]*width="(.*?)"', state)]
        found.append((texts[::2], texts[1::2], widths, re.findall('lab-film-caption">(.*?)</p>', state)[0]))
    return found


def test_each_state_is_the_softmax_at_its_temperature_with_the_likeliest_class_on_top():
    film = figures.soft_labels(IMAGE, LOGITS, NAMES, (1.0, 3.0))      # eight to the power of 1/3 is 2
    (names, percents, widths, _), (names_3, percents_3, widths_3, _) = states(film)
    assert names == names_3 == ["disc", "ring", "cross"]
    assert percents == ["80.00%", "10.00%", "10.00%"] and percents_3 == ["50.00%", "25.00%", "25.00%"]
    assert widths[0] / widths[1] == pytest.approx(8) and widths[0] / widths_3[0] == pytest.approx(80 / 50)
    assert json.loads(re.search('json">(.*?)</script>', film.html)[1])["labels"] == ["1", "3"]


def test_the_caption_has_the_first_choice_and_the_entropy_in_bits():
    (*_, plain), (*_, soft) = states(figures.soft_labels(IMAGE, LOGITS, NAMES, (1.0, 3.0)))
    bits = 0.8 * math.log2(1 / 0.8) + 0.2 * math.log2(10)
    assert plain == (f"At temperature 1 the teacher gives disc 80.00% and ring 10.00%; the entropy is {bits:.2f} of at most "
                     "1.58 bits.")
    assert "disc 50.00%" in soft and "entropy is 1.50 of" in soft


def test_the_film_opens_at_temperature_4_or_the_nearest_and_its_finding_compares_that_with_1():
    film = figures.soft_labels(IMAGE, LOGITS, NAMES)
    shown = [" lab-film-now" in state[:20] for state in film.html.split('class="lab-film-state')[1:]]
    assert shown.index(True) == figures.distillation.TEMPERATURES.index(4.0) and sum(shown) == 1
    near = figures.soft_labels(IMAGE, LOGITS, NAMES, (0.5, 3.0, 10.0))
    assert near.finding == "The teacher says disc; next comes ring, with 10.00% at temperature 1 and 25.00% at temperature 3."
    heads = re.findall('<th scope="col">(.*?)</th>', near.html)
    assert heads == ["class", "temperature 0.5 (%)", "temperature 3 (%)", "temperature 10 (%)"]
    disc, *_ = re.findall('<tr><th scope="row">(.*?)</th>(.*?)</tr>', near.html)
    assert disc[0] == "disc" and re.findall("<td>(.*?)</td>", disc[1])[1] == "50"


def test_a_share_too_small_to_print_is_given_by_its_power_of_ten_and_not_as_zero():
    _, percents, _, _ = states(figures.soft_labels(IMAGE, torch.tensor([0.0, 20.0, 0.0]), NAMES, (1.0, 2.0)))[0]
    assert percents[1] == "2e-07%"


def test_of_many_classes_the_twelve_likeliest_are_drawn_long_names_cut_and_all_stand_in_the_table():
    film = figures.soft_labels(IMAGE, torch.arange(30.0), [f"<{place}> of thirty classes here" for place in range(30)])
    names, *_ = states(film)[0]
    assert len(names) == 12 and names[0] == "&lt;29&gt; of thirty classe\u2026"
    assert film.html.count('<tr><th scope="row">') == 30


@pytest.mark.parametrize("logits, temperatures, says", [
    (LOGITS[None], (1.0, 2.0), "model(inputs)[0]"), (LOGITS[:2], (1.0, 2.0), "3 classes"), (LOGITS, (1.0, 0.0), "temperature"),
    (LOGITS, (1.0,), "1 states")])
def test_soft_labels_refuses_a_batch_other_classes_temperature_zero_and_one_state(logits, temperatures, says):
    with pytest.raises(LabError) as error:
        figures.soft_labels(IMAGE, logits, NAMES, temperatures)
    assert says in str(error.value)


def test_soft_labels_of_one_class_are_refused():
    with pytest.raises(LabError, match="two classes"):
        figures.soft_labels(IMAGE, LOGITS[:1], NAMES[:1])


def test_directions_draws_each_distribution_in_percent_under_its_name():
    teacher, student = figures.directions({"teacher": [0.5, 0.5], "student": [0.9, 0.1]}).data
    assert (teacher.name, student.name) == ("teacher", "student") and list(student.y) == [90, 10]
    assert teacher.line.dash != student.line.dash and teacher.marker.symbol != student.marker.symbol


def test_gains_draws_the_mean_and_the_interval_of_three_seeds_by_students_t():
    figure = figures.gains(ROWS)
    decoupled = next(trace for trace in figure.data if trace.name == "Objective")
    assert list(decoupled.y) == ["decoupled", "hard targets"] and list(decoupled.x) == pytest.approx([80, 73])
    half = 4.303 * 10 / math.sqrt(3)                                            # t(0.975, 2 degrees), by hand
    assert decoupled.error_x.arrayminus[0] == pytest.approx(half) and decoupled.error_x.array[0] == pytest.approx(20)  # to 100


def test_gains_shows_every_single_run_in_the_marker_of_its_leaf():
    points = [trace for trace in figures.gains(ROWS).data if trace.showlegend is False]
    assert sum(len(trace.x) for trace in points) == 12
    assert sorted(points[1].x) == pytest.approx([74, 76, 78]) and set(points[1].y) == {"annealed"}
    assert len({trace.marker.symbol for trace in points}) == 3


def test_gains_keeps_the_order_of_the_rows_and_marks_the_baseline():
    figure = figures.gains(ROWS)
    assert list(figure.layout.yaxis.categoryarray) == list(ROWS) and figure.layout.yaxis.autorange == "reversed"
    band, line = figure.layout.shapes
    assert line.x0 == line.x1 == pytest.approx(72) and band.x0 < 72 < band.x1
    assert figure.data[0].name == "labels alone"


def test_gains_without_its_baseline_is_refused_by_name():
    with pytest.raises(LabError, match="labels alone"):
        figures.gains({"annealed": ROWS["annealed"]})


def words(figure):
    return [figure.layout.meta[name] for name in ("alt", "finding", "table")]


def test_directions_says_which_line_is_most_pointed():
    alt, finding, table = words(figures.directions({"teacher": [0.5, 0.5], "student": [0.9, 0.1], "other": [0.6, 0.4]}))
    assert "teacher, student and other" in alt and table is None                # that of the points
    assert finding == "student gives one class up to 90%, teacher 50%."
    assert words(figures.directions({"teacher": [0.5, 0.5]}))[1] == "teacher gives one class up to 50%."


def test_gains_says_how_far_the_best_is_from_the_baseline_and_that_seeds_do_not_settle_it():
    alt, finding, table = words(figures.gains(ROWS))
    assert "4 objectives" in alt and "labels alone" in alt
    # differences seed by seed 0, 8 and 16: 8 -+ 4.303 * 8 / sqrt(3)
    assert finding == ("decoupled is best: +8.0 points (-11.9 to +27.9, seed by seed) from labels alone, which has 72.0 %; "
                       "3 seeds do not settle it.")
    assert table["objective"] == list(ROWS) and table["leaf"] == ["none", "Temperature", "Objective", "Objective"]
    assert table["test accuracy (%)"] == pytest.approx([72, 76, 80, 73])
    assert table["high"][1] == pytest.approx(76 + 4.303 * 2 / math.sqrt(3), abs=1e-3)     # t(0.975, 2 degrees)


def test_gains_pairs_seeds_so_that_a_small_gain_in_every_one_is_settled_where_intervals_overlap():
    apart = {"labels alone": row("none", 0.60, 0.70, 0.80), "hard": row("Objective", 0.61, 0.711, 0.812)}
    # +1.0, +1.1, +1.2: 1.1 -+ 4.303 * 0.1 / sqrt(3) = 0.248; unpaired, both intervals are 50 points wide
    assert words(figures.gains(apart))[1] == ("hard is best: +1.1 points (+0.9 to +1.3, seed by seed) from labels alone, "
                                              "which has 70.0 %.")
    assert words(figures.gains(apart, baseline="hard"))[1] == "Nothing is above hard, 71.1 %."


def test_gains_pairs_by_the_seed_of_a_run_and_not_by_its_place():
    rows = {"labels alone": row("none", 0.60, 0.70, 0.80), "hard": row("Objective", 0.61, 0.711, 0.812)}
    for each in rows.values():
        each["runs"] = [run | {"seed": seed} for seed, run in enumerate(each["runs"])]
    rows["hard"]["runs"].reverse()
    assert "+1.1 points (+0.9 to +1.3, seed by seed)" in words(figures.gains(rows))[1]


def test_gains_cuts_intervals_at_a_hundred_percent():
    rows = {"labels alone": row("none", 0.90, 0.95, 0.999), "hard": row("Objective", 0.95, 0.97, 1.0)}
    table = words(figures.gains(rows))[2]
    assert table["high"] == [100, 100] and min(table["low"]) > 0
