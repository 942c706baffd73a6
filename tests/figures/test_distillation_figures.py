import math

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


def test_bars_are_the_softmax_with_the_likeliest_class_on_top_beside_its_own_name():
    bars, picture = figures.soft_labels(IMAGE, LOGITS, NAMES, (1.0,)).data
    assert list(bars.y) == ["disc", "ring", "cross"] and picture.type == "image"
    assert list(bars.x) == pytest.approx([80, 10, 10]) and bars.text[0] == "80.00 %"


def test_the_slider_divides_the_logits_by_the_temperature_it_names_and_every_frame_can_be_reached():
    figure = figures.soft_labels(IMAGE, LOGITS, NAMES, (1.0, 3.0))
    (slider,) = figure.layout.sliders
    assert [step.args[0][0] for step in slider.steps] == [frame.name for frame in figure.frames] == ["1", "3"]
    assert list(figure.frames[1].data[0].x) == pytest.approx([50, 25, 25])      # eight to the power of 1/3 is 2
    assert list(figure.frames[1].data[0].y) == ["disc", "ring", "cross"] and list(figure.frames[1].traces) == [0]
    assert slider.steps[1].args[1]["frame"]["redraw"] is True                   # or Plotly leaves bars as they were


def test_the_figure_begins_at_temperature_1_where_the_slider_stands():
    figure = figures.soft_labels(IMAGE, LOGITS, NAMES)
    start = figure.layout.sliders[0].active
    assert figure.frames[start].name == "1" and list(figure.data[0].x) == list(figure.frames[start].data[0].x)


def test_a_share_too_small_to_print_is_given_by_its_power_of_ten_and_not_as_zero():
    bars = figures.soft_labels(IMAGE, torch.tensor([0.0, 20.0, 0.0]), NAMES, (1.0,)).data[0]
    assert bars.text[1] == "2e-07 %"


@pytest.mark.parametrize("logits, temperatures, says", [
    (LOGITS[None], (1.0,), "model(inputs)[0]"), (LOGITS[:2], (1.0,), "3 classes"), (LOGITS, (1.0, 0.0), "temperature")])
def test_soft_labels_refuses_a_batch_other_classes_and_temperature_zero(logits, temperatures, says):
    with pytest.raises(LabError) as error:
        figures.soft_labels(IMAGE, logits, NAMES, temperatures)
    assert says in str(error.value)


def test_directions_draws_each_distribution_in_percent_under_its_name():
    teacher, student = figures.directions({"teacher": [0.5, 0.5], "student": [0.9, 0.1]}).data
    assert (teacher.name, student.name) == ("teacher", "student") and list(student.y) == [90, 10]
    assert teacher.line.dash != student.line.dash and teacher.marker.symbol != student.marker.symbol


def test_gains_draws_the_mean_and_the_interval_of_three_seeds_by_students_t():
    figure = figures.gains(ROWS)
    decoupled = next(trace for trace in figure.data if trace.name == "Objective")
    assert list(decoupled.y) == ["decoupled", "hard targets"] and list(decoupled.x) == pytest.approx([80, 73])
    half = 4.303 * 10 / math.sqrt(3)                                            # t(0.975, 2 degrees), by hand
    assert decoupled.error_x.array[0] == pytest.approx(half) == decoupled.error_x.arrayminus[0]


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
