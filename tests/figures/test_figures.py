import json
import re
from pathlib import Path

import plotly.graph_objects as go
import pytest
import torch

from lightvit_lab import figures
from lightvit_lab.errors import LabError
from lightvit_lab.experiments.results import StoredResult
from lightvit_lab.figures import curves, display
from lightvit_lab.figures.pictures import to_bytes

ALT = "One line that rises from left to right."
RESULT = StoredResult("trial", "a <device>", "2026-01-02T00:00:00", [0], {"torch": "9"}, "c", "command", 1.0, {})


@pytest.fixture
def shown(monkeypatch):
    found = []
    monkeypatch.setattr("IPython.display.display", found.append)
    return found


def test_page_figure_has_its_alt_text_no_copy_of_plotly_and_a_line_about_its_origin(monkeypatch, shown):
    monkeypatch.setenv("LIGHTVIT_BOOK", "1")
    figures.show(go.Figure(go.Scatter(y=[1, 2])), alt=ALT + ' "quoted"', result=RESULT)
    html = shown[0].data
    assert f'aria-label="{ALT} &quot;quoted&quot;"' in html and "a &lt;device&gt;" in html and "2026-01-02" in html
    packed = json.loads(re.search(r'<script type="application/json">(.*?)</script>', html)[1])
    assert packed["data"][0]["y"] == [1, 2] and "cdn.plot.ly" not in html and len(html) < 10_000


def test_notebook_figure_is_plotlys_own_and_the_alt_text_follows(monkeypatch, shown):
    monkeypatch.delenv("LIGHTVIT_BOOK", raising=False)
    figures.show(go.Figure(go.Scatter(y=[1, 2])), alt=ALT)
    assert isinstance(shown[0], go.Figure) and ALT in shown[1].data


@pytest.mark.parametrize("in_the_book", [True, False])
def test_finding_and_folded_table_stand_below_the_figure(monkeypatch, shown, in_the_book):
    monkeypatch.setenv("LIGHTVIT_BOOK", "1") if in_the_book else monkeypatch.delenv("LIGHTVIT_BOOK", raising=False)
    figures.show(go.Figure(), alt=ALT, finding="Heads differ & so do blocks.", table={"block": ["0", "<1>"], "far": [1.23456, 2]})
    html = shown[-1].data
    assert "<p>Heads differ &amp; so do blocks.</p>" in html and "<summary>Data table</summary>" in html
    assert html.count("<tr>") == 3 and '<th scope="row">&lt;1&gt;</th><td>2</td>' in html and "<td>1.23</td>" in html


def test_a_figure_brings_its_words_and_its_table_which_what_is_given_replaces(monkeypatch, shown):
    monkeypatch.setenv("LIGHTVIT_BOOK", "1")
    line = go.Figure(go.Scatter(x=[4, 8], y=[1.0, 2.5], name="a<br>b", error_y=dict(array=[0.5, 1], arrayminus=[0.25, 1])))
    line.update_xaxes(title="rank").update_yaxes(title="error (%)")
    figures.show(figures.described(line, ALT, "It rises to 2.5."))
    html = shown[0].data
    assert f'aria-label="{ALT}"' in html and "<p>It rises to 2.5.</p>" in html
    heads = re.findall('<th scope="col">(.*?)</th>', html)
    cells = re.findall(r"<t[dh][^>]*>([^<]*)</t[dh]>", html.split("<tbody>")[1])
    assert heads == ["series", "rank", "error (%)", "low", "high"]
    assert cells == ["a b", "4", "1", "0.75", "1.5", "a b", "8", "2.5", "1.5", "3.5"]
    figures.show(figures.described(line, ALT, "It rises to 2.5."), finding="Another.", table={"n": [7]})
    assert "<p>Another.</p>" in shown[1].data and "It rises" not in shown[1].data and ">7</th>" in shown[1].data


def test_a_legend_stands_above_the_plot_which_keeps_its_height_and_one_line_needs_none():
    plain, named = (display.arranged(go.Figure([go.Scatter(y=[1, 2], name=name) for name in names])) for names in ("a", ["a<br>of two lines", "b"]))
    assert not plain.layout.showlegend and plain.layout.height == 310
    assert named.layout.showlegend and named.layout.legend.y > 1
    heights = [one.layout.height - one.layout.margin.t - 55 for one in (plain, named)]
    assert heights[0] == heights[1] and named.layout.margin.t == plain.layout.margin.t + 3 * display.LEGEND_LINE


def test_colours_of_the_dark_theme_are_legible_there_and_the_script_has_the_same():
    script = (Path(__file__).parents[2] / "book" / "_static" / "plots.js").read_text(encoding="utf-8")
    assert dict(re.findall(r'"(#\w{6}|white)": "([^"]+)"', script)) == display.DARK
    def light(colour):
        parts = [int(colour[i:i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear))
    for colour in (*display.COLOURS, "#222222"):
        assert (light(display.DARK[colour]) + 0.05) / (light("#121212") + 0.05) > 4.5, colour


def test_a_column_of_a_table_can_be_drawn_as_bars_from_zero(shown):
    rows = [{"model": "a", "MACs": "1,000"}, {"model": "b", "MACs": "250 (25%)"}, {"model": "c", "MACs": "-"},
            {"model": "d", "MACs": "conv-3 500"}]
    figures.table(rows, bars="MACs")
    html = shown[0]._repr_html_()
    assert html.startswith('<figure class="lab-bars"')
    assert re.findall(r"32\) ([\d.]+%)", html) == ["100.0%", "25.0%", "0.0%", "50.0%"]
    for wrong in ("model", "mac"):
        with pytest.raises(LabError, match="name one of the columns"):
            figures.table(rows, bars=wrong)
    with pytest.raises(LabError, match="from zero up"):
        figures.table([{"model": "a", "gain": -1.0}], bars="gain")


def test_a_table_is_html_in_notebooks_and_text_in_terminals(shown):
    figures.table([{"model": "a<b", "accuracy": 0.51234}, {"model": "c", "accuracy": 2}], caption="Scores")
    html = shown[0]._repr_html_()
    assert "<caption>Scores</caption>" in html and '<th scope="row">a&lt;b</th><td>0.512</td>' in html
    assert repr(shown[0]).split("\n") == ["Scores", "model  accuracy", "a<b    0.512", "c      2"]
    assert "data-head" not in html and "lab-table-wide" not in html


def test_columns_of_words_begin_at_the_left_and_numbers_of_any_form_end_at_the_right(shown):
    figures.table({"row": ["a", "b"], "words": ["yes", "no"], "signs": ["+1.5 %", "\u22120.2"], "mixed": ["", "3 of 4"],
                   "interval": ["(0.1 to 0.2)", "no ratio"], "text with digits": ["rank 4", "2:4, rank"]})
    html = shown[0]._repr_html_()
    left = re.findall('<td style="text-align:left"[^>]*>([^<]*)<', html)
    assert left == ["yes", "no"] and html.count('<th scope="col" style="text-align:left">') == 1


def test_percent_has_one_form_in_tables_and_findings_whatever_python_wrote(shown, monkeypatch):
    figures.table({"share of 10%": ["9.4%", "78.7 %"]}, "Up to 100%, in a 95 % interval")
    html = shown[0]._repr_html_()
    assert "9.4\xa0%" in html and "78.7 %" in html and "of 10\xa0%" in html and "100\xa0%, in a 95 %" in html
    assert re.search(r"\d%", html) is None
    shown.clear()
    figures.show(go.Figure(), alt=ALT, finding="It saves 12.5% of it.")
    assert "It saves 12.5\xa0% of it." in "".join(str(getattr(one, "data", one)) for one in shown)


def test_rows_of_many_columns_say_their_heads_for_phones(shown):
    figures.table({name: [1] for name in "abcde"})
    html = shown[0]._repr_html_()
    assert "lab-table-wide" in html and re.findall('data-head="(.)"', html) == list("bcde")


@pytest.mark.parametrize("rows, said", [([], "nothing to show"), ({}, "nothing to show"),
                                        ({"a": []}, "nothing to show"), ({"a": 3}, "column 'a' is 3; give a list"),
                                        ([{"a": 1}, {"b": 2}], r"row 1 has \['b'\]"), ({"a": [1], "b": []}, "differ in length")])
def test_a_table_of_nothing_or_with_holes_is_refused(rows, said):
    with pytest.raises(LabError, match=said):
        figures.table(rows)


@pytest.mark.parametrize("make", [
    figures.loss_curves, figures.training_curves, lambda none: figures.scores_by_model(none, {}), figures.times_by_model,
    figures.errors_by_counter, lambda none: figures.macs_and_time(none, none), figures.directions,
    lambda none: figures.shares_leaving(none, ["end"]), figures.reliability_diagram, lambda none: figures.kept_counts(none, 9),
    figures.promised_and_arrived, figures.four_columns, lambda none: figures.errors_over_rank([1], none),
    lambda none: figures.accuracy_over(none, "rank"), figures.agreement, lambda none: figures.energy_beyond_width(none, 3)])
def test_a_figure_of_nothing_is_refused_in_words(make):
    with pytest.raises(LabError, match=r'nothing to draw; give \{"a name": '):
        make({})


@pytest.mark.parametrize("meta", ["mine", ["a"], {"author": "me"}])
def test_a_readers_own_figure_may_have_any_meta(shown, meta):
    figures.show(go.Figure(go.Scatter(y=[1, 2]), layout=dict(meta=meta)), alt=ALT)
    assert ALT in shown[1].data


def test_the_interval_of_any_other_model_can_leave_the_best_unsettled():
    scores = {"a": (0.8, 0.75, 0.85), "b": (0.7, 0.69, 0.71), "c": (0.68, 0.5, 0.9)}
    assert curves.ranking(scores).endswith("c the lowest, 68.0%; an interval reaches that of the best.")
    assert curves.ranking({**scores, "c": (0.68, 0.6, 0.7)}) == "a has the highest accuracy, 80.0%, c the lowest, 68.0%."


def test_a_table_with_a_hole_is_refused():
    with pytest.raises(LabError, match="columns of the table differ in length .*'a' 1, 'b' 2"):
        figures.show(go.Figure(), alt=ALT, table={"a": [1], "b": [1, 2]})


def test_show_leaves_the_figure_as_it_was(shown):
    figure = go.Figure(go.Scatter(y=[1, 2]))
    before = figure.to_json()
    figures.show(figure, alt=ALT)
    assert figure.to_json() == before


@pytest.mark.parametrize("alt", ["", "plot", None])
def test_a_figure_without_words_is_refused(alt):
    with pytest.raises(LabError, match="say in one sentence"):
        figures.show(go.Figure(), alt=alt)


def test_no_figure_is_refused():
    with pytest.raises(LabError, match="expected a Plotly figure, got list"):
        figures.show([1, 2], alt=ALT)


def test_series_differ_without_colour():
    figure = figures.loss_curves({name: [2.0, 1.0] for name in "abcd"})
    assert len({trace.line.dash for trace in figure.data}) == 4
    figure = figures.training_curves({name: [[(1, 0.5)]] for name in "abcd"})
    assert len({trace.marker.symbol for trace in figure.data}) == 4


def test_running_mean_of_a_loss_is_that_of_the_last_steps():
    assert list(figures.loss_curves({"a": [3.0, 1.0, 2.0]}, smooth=2).data[0].y) == [3.0, 2.0, 1.5]


def test_patches_are_laid_out_in_reading_order_each_under_its_number():
    image = torch.zeros(3, 4, 4)
    image[:, :2, 2:] = 1.0                                     # patch 1, above on the right, is white
    grid, numbers, sequence, _ = figures.patch_sequence(image, 2).data
    assert (grid.z[1:3, 4:6] == 255).all() and (grid.z[1:3, 1:3, :3] == 0).all()
    assert (grid.z[4:6, 4:6] == [0, 0, 0, 255]).all()
    assert (grid.z[:, 0, 3] == 0).all() and (grid.z[0, :, 3] == 0).all()    # gaps are transparent
    assert sequence.z.shape[0] == 3 and (sequence.z[1:3, 4:6] == 255).all()
    assert (sequence.z[1:3, 7:9] == [0, 0, 0, 255]).all()
    assert list(numbers.text) == ["0", "1", "2", "3"]
    assert (numbers.x[1], numbers.y[1]) == (4.5, 0.0) and numbers.y[2] > numbers.y[1]


def test_intervals_and_single_runs_are_drawn():
    figure = figures.scores_by_model({"a": (0.5, 0.4, 0.7)}, {"a": [0.45, 0.55]})
    assert figure.data[0].error_x.array[0] == pytest.approx(20) and figure.data[0].error_x.arrayminus[0] == pytest.approx(10)
    assert list(figure.data[1].x) == pytest.approx([45, 55])


def test_pixels_are_blown_up_not_blurred():
    assert to_bytes(torch.tensor([[[0.0, 1.0]]]).expand(3, 1, 2), scale=2)[:, :, 0].tolist() == [[0, 0, 255, 255]] * 2


def test_curves_say_where_they_end_and_which_score_is_best():
    losses = figures.loss_curves({"a": [3.0, 1.0], "b": [2.0, 0.5]}, smooth=1).layout.meta
    assert losses["finding"] == "At the end the loss of b is 0.50, the lowest."
    alone = figures.loss_curves({"a": [3.0, 1.0]}, smooth=2).layout.meta
    assert alone["finding"] == "At the end the loss of a is 2.00."
    seeds = {"a": [[(1, 0.2), (2, 0.5)], [(2, 0.7)]], "b": [[(2, 0.4)]]}
    curves = figures.training_curves(seeds).layout.meta
    assert curves["finding"] == "At the end a reaches 60.0%, mean of its seeds, the highest."
    assert curves["alt"].endswith("a line a seed. Mean at the end: a 60.0% and b 40.0%.")


@pytest.mark.parametrize("best, ending", [((0.8, 0.75, 0.85), "."),
                                          ((0.8, 0.65, 0.9), "; an interval reaches that of the best.")])
def test_scores_say_best_and_worst_and_whether_intervals_settle_it(best, ending):
    scores = {"a": (0.5, 0.4, 0.6), "b": best, "c": (0.65, 0.6, 0.7)}
    found = figures.scores_by_model(scores, {name: [] for name in scores}).layout.meta
    assert found["finding"] == ("b has the highest accuracy, 80.0%, a the lowest, 50.0%" + ending)
    assert found["table"]["model"] == ["a", "b", "c"]
    assert found["table"]["test accuracy"] == ["50.0%", "80.0%", "65.0%"]
    assert found["table"]["low"][0] == "40.0%" and found["table"]["high"][0] == "60.0%"


def test_costs_over_tokens_say_what_grows_most_and_least():
    found = figures.cost_over_tokens([10, 1000], {"line": [2, 200]}, {"square": [1, 10_000]},
                                     unit="MACs").layout.meta
    assert found["finding"] == ("From 10 to 1,000 tokens, square grows 10,000-fold, line 100-fold.")
    assert found["alt"].endswith("both axes logarithmic: line and square.")


def test_pictures_are_counted_and_named_in_words():
    patches = figures.patch_sequence(torch.zeros(3, 4, 6), 2).layout.meta
    assert patches["finding"].endswith("what lies below it comes 3 tokens later.")
    assert "2 by 3 patches" in patches["alt"] and "the same 6 patches" in patches["alt"]
    gallery = figures.gallery(torch.rand(2, 3, 4, 4), ["a disc", "a ring"]).layout.meta
    assert gallery["alt"] == "2 pictures side by side: a disc and a ring."
    maps = [torch.tensor([[[0.0, 1.0]]]), torch.tensor([[[4.0, 2.0]]])]
    maps = figures.pictures_and_maps(torch.rand(1, 3, 4, 4), maps, ["one", "two"], "weight")
    assert maps.layout.meta["table"] == {"map": ["one", "two"], "highest weight": [1.0, 4.0],
                                         "mean weight": [0.5, 3.0]}


def test_a_figure_of_pictures_is_shown(shown, monkeypatch):
    monkeypatch.setenv("LIGHTVIT_BOOK", "1")
    figures.show(figures.gallery(torch.rand(2, 3, 4, 4), ["a disc", "a ring"]))
    assert 'aria-label="2 pictures side by side' in shown[0].data


def test_axes_carry_units():
    figure = figures.cost_over_tokens([1, 10], {"a": [1, 10]}, {"b": [1, 10]}, unit="MACs")
    assert figure.layout.yaxis.title.text == "MACs" and figure.layout.xaxis.type == figure.layout.yaxis.type == "log"


def test_maps_stand_beside_their_own_picture_on_one_scale_and_upright():
    images = torch.rand(2, 3, 8, 8)
    maps = [torch.arange(8.0).view(2, 2, 2), torch.full((2, 4, 4), 3.0)]
    figure = figures.pictures_and_maps(images, maps, ["one", "two three"], unit="weight")
    heat = [trace for trace in figure.data if trace.type == "heatmap"]
    assert [len(trace.z) for trace in heat] == [2, 4, 2, 4]                # one row of maps per picture
    assert [list(row) for row in heat[2].z] == [[4, 5], [6, 7]]            # those of the second picture
    assert {trace.coloraxis for trace in heat} == {"coloraxis"} and figure.layout.coloraxis.cmax == 7
    for trace in heat:
        assert figure.layout["yaxis" + trace.yaxis[1:]].autorange == "reversed"     # row 0 on top, as in a picture


def test_what_a_module_of_figures_exports_is_exported_by_the_room_and_no_two_have_one_name():
    found = [(name, module) for module in figures._MODULES for name in getattr(module, "__all__", ())]
    assert len(found) >= 46 and len({name for name, _ in found}) == len(found)
    assert all(getattr(figures, name) is getattr(module, name) for name, module in found)
    assert {"show", "explorer", "loss_curves"} <= set(figures.__all__) == {name for name, _ in found}
