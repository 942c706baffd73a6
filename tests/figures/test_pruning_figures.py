import math

import pytest
import torch

from lightvit_lab import figures
from lightvit_lab.errors import LabError
from lightvit_lab.figures import compression

MAPS = [torch.full((2, 5, 5), 0.2) for _ in range(3)]           # 3 blocks of 2 heads, a class token and 2 x 2 patches
IMAGE = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0))


def row(label="taylor", stage="one-shot", test=0.8, macs=50e6, latency_ms=5.0, size=2**20, seed=0, **more):
    return {"label": label, "recipe": f"prune_mlp(model, 0.5, '{label}')", "method": label, "part": "mlp", "ratio": 0.5,
            "budget": "layer", "stage": stage, "seed": seed, "zeros": 0.0, "test": test, "test_low": test - 0.01,
            "test_high": test + 0.02, "bytes": size, "params": 1000, "macs": macs, "latency_ms": latency_ms, **more}


DENSE = row("dense", test=0.9, macs=100e6, latency_ms=10.0, size=4 * 2**20)


def scanned(layer, ratio, accuracy, **more):
    ends = {"low": accuracy - 0.1, "high": accuracy + 0.05}
    return {"layer": layer, "ratio": ratio, "accuracy": accuracy, **ends, **more}


def test_sensitivity_has_a_line_for_each_share_removed_over_blocks_in_order_with_intervals():
    figure = figures.sensitivity_curves([scanned(f"blocks.{block}.mlp", ratio, 0.9 - ratio / 2 + block / 100)
                                         for block in range(3) for ratio in (0.25, 0.5)], dense=0.95)
    assert [trace.name for trace in figure.data] == ["25% removed", "50% removed"]
    half = figure.data[1]
    assert list(half.x) == [0, 1, 2] and list(half.y) == pytest.approx([65, 66, 67])
    assert half.error_y.arrayminus[0] == pytest.approx(10) and half.error_y.array[0] == pytest.approx(5)
    assert figure.layout.shapes[0].y0 == pytest.approx(95) and half.text[2] == "blocks.2.mlp"


def test_sensitivity_draws_a_panel_for_each_part_on_one_scale_that_holds_all_intervals():
    rows = [scanned("blocks.0.mlp", 0.5, 0.3, part="mlp"), scanned("blocks.0.attn", 0.5, 0.9, part="heads")]
    figure = figures.sensitivity_curves(rows, dense=0.95)
    assert [note.text for note in figure.layout.annotations] == ["mlp", "heads"]
    assert [trace.yaxis for trace in figure.data] == ["y", "y2"]
    assert figure.layout.yaxis.range == figure.layout.yaxis2.range
    assert figure.layout.yaxis.range[0] < 20 and figure.layout.yaxis.range[1] > 95


def test_sensitivity_says_where_accuracy_is_lowest_and_tabulates_every_point_with_its_interval():
    rows = [scanned("blocks.0.mlp", 0.5, 0.625), scanned("blocks.1.mlp", 0.5, 0.3), scanned("blocks.1.mlp", 0.25, 0.9)]
    meta = figures.sensitivity_curves(rows, dense=0.95).layout.meta
    assert meta["finding"] == ("Accuracy is lowest, 30.0 %, where 50% of blocks.1.mlp is removed; the original model has 95.0 %.")
    assert meta["table"] == {"layer": ["blocks.0.mlp", "blocks.1.mlp", "blocks.1.mlp"], "removed": ["50%", "50%", "25%"],
                             "accuracy (%)": ["62.5", "30.0", "90.0"], "low": ["52.5", "20.0", "80.0"],
                             "high": ["67.5", "35.0", "95.0"]}
    assert "50% removed and 25% removed" in meta["alt"] and "panel" not in meta["alt"]


def test_sensitivity_of_several_parts_names_the_part_of_its_lowest_point():
    rows = [scanned("blocks.0", 0.5, 0.3, part="mlp"), scanned("blocks.0", 0.5, 0.2, part="heads")]
    meta = figures.sensitivity_curves(rows, dense=0.95).layout.meta
    assert "50% of blocks.0 (heads) is removed" in meta["finding"] and meta["table"]["part"] == ["mlp", "heads"]
    assert "a panel for each of mlp and heads" in meta["alt"]


def test_a_stored_row_and_a_row_of_a_scan_are_scored_alike():
    assert compression.score(row(test=0.8)) == pytest.approx(compression.score(scanned("x", 0.5, 0.8) | {
        "low": 0.79, "high": 0.82}))


def test_pareto_front_is_that_of_a_case_worked_by_hand():
    points = [(5, 90), (1, 50), (3, 70), (3, 60), (4, 70), (2, 40), (6, 90)]
    assert compression.pareto_front(points) == [1, 2, 0]
    assert compression.pareto_front([(1, 1), (1, 1)]) == [0] and compression.pareto_front([]) == []


def test_rows_that_differ_by_seed_alone_become_one_with_students_interval():
    runs = [(0.7, 4), (0.72, 5), (0.74, 6)]
    rows = [row(test=value, latency_ms=time, seed=seed) for seed, (value, time) in enumerate(runs)]
    (one,) = compression.by_recipe(rows)
    assert one["test"] == pytest.approx(0.72) and one["latency_ms"] == pytest.approx(5)
    assert one["test_high"] - one["test"] == pytest.approx(4.303 * 0.02 / math.sqrt(3))       # t(0.975, 2 degrees)


def test_seeds_that_change_nothing_leave_the_interval_of_the_test_pictures():
    (one,) = compression.by_recipe([row(test=0.7, latency_ms=time, seed=seed) for seed, time in enumerate((4, 6))])
    assert (one["test_low"], one["test_high"]) == pytest.approx((0.69, 0.72)) and one["latency_ms"] == pytest.approx(5)


def test_tables_of_stored_rows_have_heads_in_words_and_the_units_of_the_axes():
    rows = [row(test=0.7, macs=2244904, latency_ms=17.93, size=3 * 2**19), row("wanda", "fine-tuned", 0.85)]
    assert figures.trade_off(rows, DENSE).layout.meta["table"] == {
        "recipe": ["original model", "taylor", "wanda"], "stage": ["original model", "one-shot", "fine-tuned"],
        "accuracy (%)": ["90.0", "70.0", "85.0"], "low": ["89.0", "69.0", "84.0"], "high": ["92.0", "72.0", "87.0"],
        "million MACs": ["100.0", "2.2", "50.0"], "ms": ["10", "17.9", "5"], "KiB": ["4,096", "1,536", "1,024"],
        "made by": ["", "prune_mlp(model, 0.5, 'taylor')", "prune_mlp(model, 0.5, 'wanda')"]}
    tokens = figures.stages([row(tokens=24.0), row("wanda")], DENSE).layout.meta["table"]
    assert tokens["tokens"] == ["24", ""] and "ms" not in tokens


def test_rows_of_another_stage_or_label_stay_apart():
    rows = [row(), row(stage="fine-tuned"), row("taylor, 25%"), row("taylor, global"), row(seed=1)]
    labels = [one["label"] for one in compression.by_recipe(rows)]
    assert labels == ["taylor", "taylor", "taylor, 25%", "taylor, global"]


def test_trade_off_draws_each_stage_with_its_recipe_to_read_and_the_whole_model():
    figure = figures.trade_off([row(test=0.7), row("wanda", "fine-tuned", 0.85)], DENSE)
    front, whole, one_shot, tuned = figure.data
    assert (whole.name, one_shot.name, tuned.name) == ("original model", "one-shot", "fine-tuned")
    assert list(one_shot.x) == [50] and list(one_shot.y) == pytest.approx([70])
    assert "prune_mlp(model, 0.5, 'taylor')" in one_shot.customdata[0].replace("<br>", " ")
    assert "70.0 % (69.0 to 72.0)" in one_shot.customdata[0]
    assert list(front.x) == [50, 100] and list(front.y) == pytest.approx([85, 90])
    assert len({trace.marker.symbol for trace in (whole, one_shot, tuned)}) == 3


def test_each_button_moves_every_point_and_the_front_to_its_own_cost():
    rows = [row("fast", test=0.7, macs=90e6, latency_ms=2.0), row("few", test=0.7, macs=10e6, latency_ms=9.0)]
    (menu,) = figures.trade_off(rows, DENSE).layout.updatemenus
    macs, time, size = menu.buttons
    assert [button.label for button in menu.buttons] == ["MACs", "time", "bytes"]
    assert macs.args[0]["x"] == [[10, 100], [100], [90, 10]]
    assert time.args[0]["x"] == [[2, 10], [10], [2, 9]] and "milliseconds" in time.args[1]["xaxis.title.text"]
    assert size.args[0]["x"][1] == [4096]


@pytest.mark.parametrize("rows, costs, says", [([], ("macs",), "no rows"), ([row()], ("mac",), '"macs"')])
def test_trade_off_refuses_no_rows_and_an_unknown_cost_with_the_closest(rows, costs, says):
    with pytest.raises(LabError, match=says):
        figures.trade_off(rows, DENSE, costs)


def test_stages_of_a_recipe_stand_on_one_line_each_in_its_own_marker():
    values = {"one-shot": 0.5, "compensated": 0.7, "fine-tuned": 0.8}
    rows = [row(stage=stage, test=value) for stage, value in values.items()]
    figure = figures.stages([*rows, row("magnitude", "one-shot", 0.4)], DENSE)
    one_shot, mended, tuned = figure.data
    assert list(one_shot.y) == ["taylor", "magnitude"] and list(one_shot.x) == pytest.approx([50, 40])
    assert list(mended.y) == list(tuned.y) == ["taylor"]
    assert len({trace.marker.symbol for trace in figure.data}) == 3
    band, line = figure.layout.shapes
    assert line.x0 == pytest.approx(90) and (band.x0, band.x1) == pytest.approx((89, 92))


def test_a_stage_looks_the_same_in_both_figures():
    of_stages = figures.stages([row()], DENSE).data[0].marker
    of_costs = figures.trade_off([row()], DENSE).data[2].marker
    assert (of_stages.symbol, of_stages.color) == (of_costs.symbol, of_costs.color)


@pytest.mark.parametrize("rows, says", [([], "no rows"), ([row(stage="finetuned")], '"fine-tuned"')])
def test_stages_refuses_no_rows_and_a_misspelt_stage(rows, says):
    with pytest.raises(LabError, match=says):
        figures.stages(rows, DENSE)


def test_the_four_columns_never_mix_units_and_compare_with_the_first_row():
    sparse = DENSE | {"zeros": 0.8}
    (cells,) = figures.four_columns({"whole": DENSE, "zeros": sparse, "small": row(zeros=0.25)}).data
    assert [list(line) for line in cells.text] == [["0%", "4,096", "100.0", "10"], ["80%", "4,096", "100.0", "10"],
                                                   ["25%", "1,024", "50.0", "5"]]
    assert list(cells.z[1]) == pytest.approx([0.2, 1, 1, 1])
    assert list(cells.z[2]) == pytest.approx([0.75, 0.25, 0.5, 0.5])
    assert [head.split("<br>")[1] for head in cells.x] == ["(share)", "(KiB)", "(million)", "(ms)"]


def test_a_frame_stands_around_each_pruned_head_and_no_other():
    figure = figures.pruned_heads(IMAGE, MAPS, [(0, 1), (2, 0)])
    frames = [(shape.x0, shape.x1, shape.y0, shape.y1) for shape in figure.layout.shapes]
    assert frames[0] == pytest.approx((2.1, 4.9, -0.9, 1.9))                # maps of 2 x 2, 3 apart
    assert frames[1:] == [pytest.approx((-0.9, 1.9, 5.1, 7.9))]
    assert {(shape.xref, shape.yref) for shape in figure.layout.shapes} == {("x2", "y2")}


def test_pruned_heads_are_counted_by_the_block_that_lost_most_and_listed():
    meta = figures.pruned_heads(IMAGE, MAPS, [(0, 1), (2, 0), (2, 1)]).layout.meta
    assert meta["finding"] == "3 of 6 heads are pruned, 2 of them in block 2."
    assert meta["table"] == {"block": [0, 2, 2], "head": [1, 0, 1]} and "3 heads" in meta["alt"]
    assert figures.pruned_heads(IMAGE, MAPS, []).layout.meta["finding"] == "None of the 6 heads is pruned."


def test_a_head_that_is_not_there_is_refused():
    with pytest.raises(LabError, match="no head 2 in block 0"):
        figures.pruned_heads(IMAGE, MAPS, [(0, 2)])
