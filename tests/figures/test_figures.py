import plotly.graph_objects as go
import pytest
import torch

from lightvit_lab import figures
from lightvit_lab.errors import LabError
from lightvit_lab.experiments.results import StoredResult
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
    assert "Plotly.newPlot" in html and "cdn.plot.ly" not in html and len(html) < 50_000


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
    assert (grid.z[1:3, 4:6] == 255).all() and (grid.z[1:3, 1:3] == 0).all() and (grid.z[4:6, 4:6] == 0).all()
    assert sequence.z.shape[0] == 3 and (sequence.z[1:3, 4:6] == 255).all() and (sequence.z[1:3, 7:9] == 0).all()
    assert list(numbers.text) == ["0", "1", "2", "3"]
    assert (numbers.x[1], numbers.y[1]) == (4.5, 0.0) and numbers.y[2] > numbers.y[1]


def test_intervals_and_single_runs_are_drawn():
    figure = figures.scores_by_model({"a": (0.5, 0.4, 0.7)}, {"a": [0.45, 0.55]})
    assert figure.data[0].error_x.array[0] == pytest.approx(20) and figure.data[0].error_x.arrayminus[0] == pytest.approx(10)
    assert list(figure.data[1].x) == pytest.approx([45, 55])


def test_pixels_are_blown_up_not_blurred():
    assert to_bytes(torch.tensor([[[0.0, 1.0]]]).expand(3, 1, 2), scale=2)[:, :, 0].tolist() == [[0, 0, 255, 255]] * 2


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
