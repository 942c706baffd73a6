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


# --- what they say

def words(figure):
    return figure.layout.meta


def test_rollout_says_how_high_its_maps_are_where_and_what_the_class_token_keeps():
    figure = figures.rollout_by_depth(IMAGE, [looks(0.6, 0.1, 0.2, 0.0, 0.1), looks(0.25, 0.05, 0.3, 0.4, 0)])
    assert words(figure)["finding"] == "The highest patch has 1.0 times a fair share after block 0, 2.0 after block 1."
    assert words(figure)["table"] == {"block": [0, 1], "class token's own share": pytest.approx([0.6, 0.25]),
                                      "highest patch": ["row 0, column 1", "row 1, column 0"],
                                      "times a fair share": pytest.approx([1.0, 2.0])}
    assert "2 in all" in words(figure)["alt"]


def test_rollout_of_one_block_and_rollout_without_a_class_token_read_well():
    assert words(figures.rollout_by_depth(IMAGE, [looks(0.6, 0.1, 0.3, 0, 0)]))["finding"] == (
        "The highest patch has 1.5 times a fair share after block 0.")
    found = words(figures.rollout_by_depth(IMAGE, [torch.tensor([[0.5, 0.5, 0, 0]]).repeat(4, 1)], prefix=0))
    assert found["finding"] == "The highest patch has 2.0 times a fair share after block 0."
    assert "class token's own share" not in found["table"] and "the mean token" in found["alt"]


def test_the_gallery_says_the_highest_patch_of_its_heads():
    maps = [torch.stack([looks(0.5, 0.5, 0, 0, 0), looks(0, 0.25, 0.25, 0.25, 0.25)]),
            torch.stack([looks(0, 0, 0, 1, 0), looks(0.2, 0.2, 0.2, 0.2, 0.2)])]
    found = words(figures.head_gallery(IMAGE, maps))
    assert found["finding"] == "The highest patch of a head has 1.0 to 5.0 times a fair share."
    assert found["table"] == {"block": [0, 1], "head 0: most": [2.5, 5], "head 1: most": [1.25, 1]}
    assert words(figures.head_gallery(IMAGE, [looks(0, 1, 0, 0, 0)[None]]))["finding"].endswith("has 5.0 times a fair share.")


def test_distances_say_their_span_and_what_attention_to_all_alike_would_be():
    figure = figures.attention_distance(torch.tensor([[1.0, 3.0], [2.0, 6.0]]), evenly=torch.tensor(3.75))
    assert words(figure)["finding"] == "Heads attend 1.0 to 6.0 patches far; one that attends to all alike, 3.8."
    assert words(figure)["table"] == {"block": [0, 1], "head 0": [1, 2], "head 1": [3, 6]}
    assert figure.layout.shapes[0].y0 == figure.layout.shapes[0].y1 == 3.75
    alone = figures.attention_distance(torch.tensor([[2.0]]), unit="pixels")
    assert words(alone)["finding"] == "Heads attend 2.0 pixels far." and not alone.layout.shapes


def test_global_tokens_say_how_far_they_differ_and_the_most_that_each_takes_and_gives():
    taken = torch.tensor([[1.0, 0, 0, 0], [0, 0.5, 0, 0.5]])
    handed = torch.tensor([[1.0, 0], [0.25, 0.75], [0.5, 0.5], [0, 1]])
    found = words(figures.global_tokens(IMAGE[None], taken[None, None], handed[None, None]))
    # shares 4, 0 of the first place are 2 from their mean; handed back 2 of 1
    assert found["finding"] == ("Where they take, tokens differ from their mean by up to 2.0 fair shares; what a place "
                                "gets back differs by up to 100.0% from an even mixture.")
    assert found["table"] == {"picture": [0, 0], "global token": [0, 1], "takes most (times a fair share)": [4, 2],
                              "gives most back (times a fair share)": [2, 2]}


def test_one_global_token_differs_from_no_other_and_nothing_of_the_kind_is_said():
    found = words(figures.global_tokens(IMAGE[None], torch.eye(4)[None, None, :1], torch.ones(1, 1, 4, 1)))
    assert found["finding"] == "From one place the token takes up to 4.0 times a fair share."


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
