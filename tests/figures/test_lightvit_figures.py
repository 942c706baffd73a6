"""The film of LightViT's attention: its numbers by hand, and what it refuses."""

import html
import re

import pytest
import torch

from lightvit_lab import explain, figures, models
from lightvit_lab.errors import LabError

IMAGE = torch.rand(3, 8, 16, generator=torch.Generator().manual_seed(0))


def by_hand(**changes):
    """2 x 4 places in two windows of 2 x 2, one head, two global tokens."""
    window = torch.eye(4).expand(2, 1, 4, 4).clone()
    window[1, 0, 2] = torch.tensor([0.5, 0.25, 0.0, 0.25])          # place (1, 2): the right window's third
    aggregation = torch.tensor([[[0.5, 0.5, 0, 0, 0, 0, 0, 0], [0, 0, 0.25, 0, 0, 0, 0.75, 0]]])
    broadcast = torch.tensor([[0.5, 0.5]]).repeat(8, 1)[None].clone()
    broadcast[0, 6] = torch.tensor([0.8, 0.2])                      # place (1, 2) takes most of token 0
    return {"window": window, "aggregation": aggregation, "broadcast": broadcast} | changes


def film(place=(1, 2), window=None, **changes):
    return figures.windows_and_global_tokens(IMAGE, by_hand(**changes), place, window, grid=(2, 4))


def captions(card):
    return [html.unescape(text) for text in re.findall(r'lab-film-caption">([^<]*)<', card.html)]


def rows(card):
    return [re.findall(r"<t[dh][^>]*>([^<]*)</t[dh]>", row) for row in re.findall(r"<tr>(.*?)</tr>", card.html)][1:]


def test_captions_and_finding_say_what_was_worked_out_by_hand():
    card = film()
    own, gathers, back, both = captions(card)
    assert "row 1, column 2, attends to the 4 places of its window" in own
    assert "Global token 0 attends to all 8 places" in gathers and "100% of its weight lies outside" in gathers
    assert "gives token 0 80% of its weight" in back
    assert "from all 8 places, most from row 0, column 0" in both               # 0.8 * 0.5, as in column 1
    # through token 0: 0.8, all outside; through token 1: 0.2, all inside
    assert card.finding == ("Of what the global tokens hand this place, 80% comes from outside its window, where "
                            "50% of all places lie.")


def test_the_table_says_of_each_map_where_it_is_highest_and_how_much_lies_outside_the_window():
    assert rows(film()) == [["its window", "row 0, column 2", "0.5", "0\xa0%"],
                            ["token 0 gathers", "row 0, column 0", "0.5", "100\xa0%"],
                            ["token 0 hands back", "row 1, column 2", "0.8", f"{200 / 4.3:.0f}\xa0%"],
                            ["both steps", "row 0, column 0", "0.4", "80\xa0%"]]


def test_it_opens_where_the_token_gathers_and_ends_with_both_steps():
    card = film()
    states = re.findall(r'<div class="lab-film-state( lab-film-now)?"', card.html)
    assert states == ["", " lab-film-now", "", ""] and card.html.count("data:image/png") == 4


def test_heads_are_averaged():
    twice = by_hand()
    other = by_hand()["broadcast"].clone()
    other[0, 6] = torch.tensor([0.6, 0.4])
    twice["broadcast"] = torch.cat([twice["broadcast"], other])
    card = figures.windows_and_global_tokens(IMAGE, twice, (1, 2), grid=(2, 4))
    assert "gives token 0 70% of its weight" in captions(card)[2]


def test_a_map_that_is_no_multiple_of_the_window_leaves_the_empty_places_out():
    """A real block on 8 x 8 places in windows of 3 x 3: the last window holds 2 x 2 of its 9."""
    torch.manual_seed(0)
    model = models.create_model("lab_lightvit", window_size=3).eval()
    with torch.no_grad(), explain.record_attention(model) as blocks:
        model(torch.randn(1, 3, 32, 32))
    maps = {name: part[0] for name, part in blocks[0].items()}
    card = figures.windows_and_global_tokens(torch.rand(3, 32, 32), maps, (7, 7))
    assert "attends to the 4 places of its window" in captions(card)[0]
    through = maps["broadcast"].mean(dim=0)[63] @ maps["aggregation"].mean(dim=0)
    outside = 1 - through.view(8, 8)[6:, 6:].sum() / through.sum()
    assert f"{outside:.0%} comes from outside its window, where 94%" in card.finding      # 60 of 64


@pytest.mark.parametrize("changes, expected", [
    ({"broadcast": None}, r"broadcast is NoneType; give \(heads, N, T\)"),
    ({"window": torch.ones(1, 2, 1, 4, 4)}, r"window is \(1, 2, 1, 4, 4\).*of one picture"),
    ({"aggregation": torch.full((1, 2, 8), float("nan"))}, "aggregation has values that are no finite numbers"),
    ({"broadcast": torch.ones(1, 8, 3)}, "2 tokens and 8 places, broadcast of 3 and 8"),
    ({"window": torch.ones(3, 1, 4, 4)}, "3 windows of 2 x 2 do not make a map of 2 x 4"),
    ({"window": torch.ones(2, 1, 6, 6)}, "form no square"),
    ({"place": (2, 0)}, "row=2"), ({"place": (0, -1)}, "column=-1"), ({"place": 3}, r"give \(row, column\)"),
    ({"window": torch.ones(2, 1, 4, 4), "place": (0,)}, r"give \(row, column\)")])
def test_maps_that_do_not_fit_and_places_outside_are_refused(changes, expected):
    maps = by_hand(**{name: part for name, part in changes.items() if name != "place"})
    with pytest.raises(LabError, match=expected):
        figures.windows_and_global_tokens(IMAGE, maps, changes.get("place", (1, 2)), grid=(2, 4))
