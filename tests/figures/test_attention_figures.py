import pytest
import torch

from lightvit_lab import figures
from lightvit_lab.errors import LabError

IMAGE = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0))


def looks(*weights):
    """Five tokens whose class token looks with these weights at itself and at 2 x 2 patches."""
    flow = torch.eye(5)
    flow[0] = torch.tensor(weights)
    return flow


def heats(figure):
    return [trace for trace in figure.data if trace.type == "heatmap"]


def test_rollout_shows_the_class_row_of_each_depth_in_fair_shares_on_one_upright_scale():
    figure = figures.rollout_by_depth(IMAGE, [looks(0.6, 0.1, 0.2, 0.0, 0.1), looks(0, 0.2, 0.4, 0.4, 0)])
    first, second = heats(figure)
    assert [list(row) for row in first.z] == [pytest.approx([0.5, 1.0]), pytest.approx([0.0, 0.5])]      # 5 tokens
    assert [list(row) for row in second.z] == [pytest.approx([1.0, 2.0]), pytest.approx([2.0, 0.0])]
    assert figure.layout.coloraxis.cmin == 0 and figure.layout.coloraxis.cmax == pytest.approx(2.0)
    assert {first.coloraxis, second.coloraxis} == {"coloraxis"}
    assert [title.text for title in figure.layout.annotations] == ["picture", "block 0", "block 1"]
    for trace in heats(figure):
        assert figure.layout["yaxis" + trace.yaxis[1:]].autorange == "reversed"


def test_six_blocks_and_their_picture_stand_three_to_a_row():
    figure = figures.rollout_by_depth(IMAGE, [looks(0.2, 0.2, 0.2, 0.2, 0.2)] * 6)
    assert len({trace.xaxis for trace in figure.data}) == 7
    lefts = {round(figure.layout["xaxis" + trace.xaxis[1:]].domain[0], 3) for trace in figure.data}
    assert len(lefts) == 3


def test_without_a_class_token_the_mean_looking_patch_is_drawn_on_a_grid_that_need_not_be_square():
    flow = torch.zeros(6, 6)
    flow[:3, 0], flow[3:, 5] = 1, 1
    figure = figures.rollout_by_depth(IMAGE, [flow], prefix=0, grid=(2, 3))
    assert [list(row) for row in heats(figure)[0].z] == [[3, 0, 0], [0, 0, 3]]


def test_the_gallery_puts_block_and_head_where_its_axes_and_its_hover_say():
    maps = [torch.stack([looks(0, 1, 0, 0, 0), looks(0, 0, 1, 0, 0)]),
            torch.stack([looks(0, 0, 0, 1, 0), looks(0, 0, 0, 0, 1)])]
    figure = figures.head_gallery(IMAGE, maps)
    (sheet,) = heats(figure)
    assert [list(row) for row in sheet.z] == [[5, 0, None, 0, 5], [0, 0, None, 0, 0], [None] * 5,
                                              [0, 0, None, 0, 0], [5, 0, None, 0, 5]]
    assert list(sheet.customdata[4][3]) == [1, 1, 1, 0] and list(sheet.customdata[0][4]) == [0, 1, 0, 1]
    assert "block %{customdata[0]}, head %{customdata[1]}" in sheet.hovertemplate
    assert list(figure.layout.xaxis2.tickvals) == [0.5, 3.5] and list(figure.layout.yaxis2.ticktext) == ["0", "1"]
    assert figure.layout.yaxis2.autorange == "reversed" and figure.layout.coloraxis.cmax == 5


def test_distances_are_drawn_a_point_a_head_with_the_mean_as_a_line():
    figure = figures.attention_distance(torch.tensor([[1.0, 3.0], [2.0, 6.0]]))
    points, means = figure.data
    assert list(points.x) == [0, 0, 1, 1] and list(points.y) == [1, 3, 2, 6] and points.text[3] == "head 1"
    assert list(means.y) == [2, 4] and "lines" in means.mode and points.mode == "markers"
    assert "patches" in figure.layout.yaxis.title.text and figure.layout.xaxis.title.text == "block"


def test_global_tokens_show_what_each_takes_and_where_it_is_handed_back_in_fair_shares():
    taken = torch.tensor([[1.0, 0, 0, 0], [0, 0.5, 0, 0.5]])                 # two tokens, four patches
    handed = torch.tensor([[1.0, 0], [0.25, 0.75], [0.5, 0.5], [0, 1]])
    figure = figures.global_tokens(IMAGE[None], torch.stack([taken, taken])[None], torch.stack([handed, handed])[None])
    found = [[list(row) for row in trace.z] for trace in heats(figure)]
    assert found == [[[4, 0], [0, 0]], [[0, 2], [0, 2]],                     # takes: of 4 patches
                     [[2, 0.5], [1, 0]], [[0, 1.5], [1, 2]]]                 # hands back: of 2 tokens
    titles = [axis.title.text for axis in figure.select_yaxes() if axis.title.text]
    assert titles == ["takes", "hands back"] and figure.layout.annotations[1].text == "token<br>0"


def test_two_pictures_keep_their_own_rows():
    aggregation = torch.stack([torch.eye(4)[:1], torch.eye(4)[3:]])[:, None]                 # (2, 1, 1, 4)
    figure = figures.global_tokens(torch.rand(2, 3, 8, 8), aggregation, torch.ones(2, 1, 4, 1))
    found = [[list(row) for row in trace.z] for trace in heats(figure)]
    assert found == [[[4, 0], [0, 0]], [[1, 1], [1, 1]], [[0, 0], [0, 4]], [[1, 1], [1, 1]]]


@pytest.mark.parametrize("call, expected", [
    (lambda: figures.rollout_by_depth(IMAGE[None], [looks(0, 0, 0, 0, 1)]), r"image=\(1, 3, 8, 8\)"),
    (lambda: figures.rollout_by_depth(IMAGE, []), "no maps"),
    (lambda: figures.rollout_by_depth(IMAGE, [torch.eye(5), torch.eye(6)]), r"block 1 is \(6, 6\)"),
    (lambda: figures.rollout_by_depth(IMAGE, [looks(0, 0, 0, 0, float("nan"))]), "give finite"),
    (lambda: figures.rollout_by_depth(IMAGE, [torch.eye(6)]), "6 tokens, 1 of them in front, form no square"),
    (lambda: figures.head_gallery(IMAGE, [torch.eye(5)]), r"\(heads, N, N\)"),
    (lambda: figures.head_gallery(IMAGE, [torch.eye(5).expand(13, 5, 5)]), "number of heads=13"),
    (lambda: figures.head_gallery(IMAGE, [torch.eye(5)[None]], grid=(1, 3)), "no grid of 1 x 3"),
    (lambda: figures.attention_distance(torch.ones(3)), r"distances=\(3,\)"),
    (lambda: figures.global_tokens(IMAGE[None], torch.ones(2, 1, 2, 4), torch.ones(1, 1, 4, 2)), "aggregation="),
    (lambda: figures.global_tokens(IMAGE[None], torch.ones(1, 1, 2, 4), torch.ones(1, 1, 2, 4)), "broadcast"),
    (lambda: figures.global_tokens(IMAGE[None], torch.ones(1, 1, 2, 6), torch.ones(1, 1, 6, 2)), "form no square")])
def test_what_does_not_fit_is_refused_in_words(call, expected):
    with pytest.raises(LabError, match=expected):
        call()
