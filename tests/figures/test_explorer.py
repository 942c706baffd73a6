"""The explorer: what it refuses, what it says, and what it does in a real browser."""

import re
import sys
from pathlib import Path

import pytest
import torch

from lightvit_lab import figures
from lightvit_lab.errors import LabError

sys.path.insert(0, str(Path(__file__).parents[1] / "book"))
import browser as book_browser  # noqa: E402

FINDING = "Early blocks look around, later ones < the object."


def drawn(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def weights(*shape, seed=0):
    """Attention whose rows sum to 1, far from even."""
    return (8 * drawn(*shape, seed=seed)).softmax(-1)


BLOCKS = [weights(2, 3, 13, 13, seed=block) for block in range(2)]       # class token and 3 x 4 patches
BLOCKS[0][1, 2, 3] = torch.tensor([1.0] + [3e-9 * patch for patch in range(12)])     # all to the class token, or nearly
FLOW, GRID = weights(2, 13, 13, seed=7), drawn(2, 3, 4, seed=8) - 0.5
IMAGES = drawn(2, 3, 24, 32, seed=9)
SMALL = dict(attention=BLOCKS, flows={"rollout": FLOW}, grids={"signed": GRID}, grid=(3, 4))


def small(**changes):
    return figures.explorer(IMAGES, ["one", "two"], FINDING, **SMALL | changes)


# --- what is stored and said

def test_the_sentence_names_the_highest_patch_its_weight_and_how_many_fair_shares_that_is():
    row = torch.zeros(1, 1, 5, 5)
    row[..., 3] = 0.5                                   # patch 2 of 4: row 1, column 0
    row[..., 0], row[..., 1] = 0.375, 0.125
    said = repr(figures.explorer(drawn(1, 3, 8, 8), ["one"], FINDING, attention=[row]))
    assert "block 0, mean of heads: the class token looks most at row 1, column 0: 0.50, 2.5 times a fair share" in said
    assert "The class token gets 0.38." in said or "The class token gets 0.37." in said


def test_maps_below_zero_are_compared_with_no_share_and_rows_that_do_not_sum_to_one_with_their_mean():
    images = drawn(1, 3, 4, 4)
    signed = figures.explorer(images, ["one"], FINDING, grids={"signed": torch.tensor([[[-1.0, 0.5], [0.0, 0.25]]])})
    assert "signed is highest at row 0, column 1: 0.50." in repr(signed)
    plain = figures.explorer(images, ["one"], FINDING, grids={"plain": torch.tensor([[[1.0, 5.0], [0.0, 2.0]]])})
    assert "row 0, column 1: 5.0, 2.5 times the mean patch." in repr(plain)


def test_a_map_as_fine_as_pixels_is_read_as_the_mean_of_each_patch():
    fine = torch.zeros(1, 4, 4)
    fine[0, :2, 2:] = torch.tensor([[4.0, 0.0], [0.0, 4.0]])
    made = figures.explorer(drawn(1, 3, 4, 4), ["one"], FINDING, grids={"fine": fine}, grid=(2, 2))
    assert "fine is highest at row 0, column 1: 2.00, 4.0 times the mean patch." in repr(made)


def test_a_map_of_pixels_alone_is_read_by_sixteen_patches_a_side_and_a_coarse_one_by_its_own():
    images = drawn(1, 3, 64, 48)
    assert figures.explorer(images, ["one"], FINDING, grids={"fine": drawn(1, 64, 48)}).atlas.grid == (16, 16)
    assert figures.explorer(images, ["one"], FINDING, grids={"coarse": drawn(1, 20, 5)}).atlas.grid == (20, 5)


def test_a_page_with_the_labs_own_sizes_stays_far_under_three_megabytes():
    made = figures.explorer(drawn(6, 3, 32, 32), list("abcdef"), FINDING,
                            attention=[weights(6, 4, 65, 65) for _ in range(6)],
                            flows={"rollout": weights(6, 65, 65), "relevance": weights(6, 65, 65)})
    assert 0.8e6 < len(made._repr_html_()) < 1.1e6


def test_the_html_is_self_contained_escaped_and_says_all_without_javascript():
    html = small(grids={"</script><b>": GRID})._repr_html_()
    assert "later ones &lt; the object" in html and html.count("</script>") == 2 and "<b>" not in html
    assert not any(outside in html for outside in ('src="http', "href=", "http:", "https:", "import "))
    assert re.search(r'<img class="lab-explorer-still" src="data:image/png;base64,[^"]+" alt="[^"]*looks most at', html)
    assert html.count("<td>") == 12 and " id=" not in html


# --- what is refused

@pytest.mark.parametrize("changes, expected", [
    ({"attention": [BLOCKS[0][:1], BLOCKS[1]]}, r"block 0 has shape \(1, 3, 13, 13\); give \(2, heads, N, N\)"),
    ({"attention": [BLOCKS[0], BLOCKS[1][..., :9, :9]]}, "attention of block 1 .* the same heads and tokens"),
    ({"attention": [{"window": BLOCKS[0]}]}, "dict of window"),
    ({"flows": {"rollout": FLOW[:, :9, :9]}}, "rollout has shape .* the first map"),
    ({"flows": {"rollout": FLOW[0]}}, "rollout has shape"),
    ({"grids": {"coarse": drawn(2, 4, 3)}}, r"coarse has shape \(2, 4, 3\); give a tensor \(2, 3, 4\).*\(2, 24, 32\)"),
    ({"grids": {"few": drawn(1, 3, 4)}}, "few has shape"),
    ({"grid": (4, 4)}, "13 tokens, 1 of them in front, form no grid of 4 x 4"),
    ({"grid": None}, "13 tokens, 1 of them in front, form no square"),
    ({"flows": {"rollout": FLOW.index_fill(2, torch.tensor(3), float("nan"))}}, "rollout has 26 values that are"),
    ({"attention": (), "flows": None, "grids": None}, "no maps"),
    ({"prefix": -1}, "prefix"),
    ({"flows": {"attention": FLOW}}, "the name attention is taken"),
    ({"grids": {"array": GRID.numpy()}}, "array has shape ndarray; give a tensor"),
])
def test_maps_that_do_not_fit_are_refused_in_words(changes, expected):
    with pytest.raises(LabError, match=expected):
        small(**changes)


def test_more_maps_than_a_browser_takes_are_refused_before_they_are_packed():
    with pytest.raises(LabError, match="17.4 megabytes of maps, a page takes 16; give fewer pictures"):
        figures.explorer(drawn(50, 3, 8, 8), ["one"] * 50, FINDING,
                         attention=[torch.full((1, 1, 1, 1), 1 / 197).expand(50, 9, 197, 197)])


@pytest.mark.parametrize("finding", ["", "too few words", None])
def test_an_explorer_without_a_finding_is_refused(finding):
    with pytest.raises(LabError, match="say in one sentence"):
        figures.explorer(IMAGES, ["one", "two"], finding, **SMALL)


def test_a_caption_too_few_and_pictures_that_are_none_are_refused():
    with pytest.raises(LabError, match="2 pictures, 1 captions"):
        figures.explorer(IMAGES, ["one"], FINDING, **SMALL)
    with pytest.raises(LabError, match="channels"):
        figures.explorer(IMAGES[:, :1], ["one", "two"], FINDING, **SMALL)


# --- in a browser

@pytest.fixture(scope="module")
def site(stand_alone):
    """A page with two explorers, the second one of a class of its own: no prefix, one picture, one head."""
    other = figures.explorer(drawn(1, 3, 32, 32), ["alone"], FINDING, attention=[weights(1, 1, 16, 16)], prefix=0)
    return stand_alone(small()._repr_html_(), other._repr_html_())


def said(tab, number=0):
    return tab.page.locator(".lab-explorer-said").nth(number).inner_text()


def choose(tab, **choices):
    for name, label in choices.items():
        tab.page.locator(f"select[data-choice={name}]").first.select_option(label=label)


def over(tab, panel, row, column, rows=3, columns=4):
    """The middle of a patch on the screen."""
    box = tab.page.locator(panel).first.bounding_box()
    return box["x"] + (column + 0.5) * box["width"] / columns, box["y"] + (row + 0.5) * box["height"] / rows


def expected_of(row):
    """Place, weight and shares of the highest patch, straight from a row of weights (13,)."""
    best = max(range(12), key=lambda patch: row[1 + patch].item())
    return f"row {best // 4}, column {best % 4}", row[1 + best].item()


def assert_says(text, row):
    place, value = expected_of(row)
    found = re.search(r"looks most at (row \d, column \d): ([\d.]+), ([\d.]+) times a fair share", text)
    assert found and found[1] == place, text
    assert float(found[2]) == pytest.approx(value, abs=0.006) and float(found[3]) == pytest.approx(13 * value, abs=0.06)


def test_hovering_over_a_patch_says_where_it_looks_and_leaving_goes_back(tab):
    choose(tab, picture="two", block="1", head="2")
    before = said(tab)
    assert_says(before, BLOCKS[1][1, 2, 0])
    tab.page.mouse.move(*over(tab, ".lab-explorer-from", 2, 1))
    assert "the patch at row 2, column 1" in said(tab)
    assert_says(said(tab), BLOCKS[1][1, 2, 1 + 2 * 4 + 1])
    tab.page.mouse.move(5, 5)
    assert said(tab) == before
    tab.page.mouse.click(*over(tab, ".lab-explorer-from", 0, 3))
    tab.page.mouse.move(5, 5)
    assert_says(said(tab), BLOCKS[1][1, 2, 1 + 3])
    assert tab.page.locator("select[data-choice=from]").first.input_value() == "4"


def test_pointing_at_the_map_reads_the_weight_of_that_patch(tab):
    choose(tab, block="0", head="1")
    tab.page.mouse.move(*over(tab, ".lab-explorer-to", 1, 2))
    found = re.search(r"the class token gives row 1, column 2: ([\d.]+), ", said(tab))
    assert found and float(found[1]) == pytest.approx(BLOCKS[0][0, 1, 0, 1 + 4 + 2].item(), abs=0.006)


def test_the_keyboard_alone_reaches_every_choice(tab):
    page = tab.page
    seen = []
    for _ in range(6):
        page.keyboard.press("Tab")
        focused = page.locator(":focus")
        seen.append(focused.get_attribute("data-choice") or focused.get_attribute("role"))
    assert seen == ["picture", "method", "block", "head", "from", "application"]
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    for key in ("ArrowDown", "ArrowDown", "ArrowRight", "ArrowUp", "ArrowDown", "ArrowDown", "ArrowDown"):
        page.keyboard.press(key)
    assert "the patch at row 2, column 1" in said(tab)                    # never below the last row
    assert_says(said(tab), BLOCKS[1][0].mean(0)[1 + 2 * 4 + 1])
    page.keyboard.press("Home")
    assert "the class token looks most" in said(tab)
    page.locator("select[data-choice=head]").first.focus()
    page.keyboard.press("ArrowDown")
    assert_says(said(tab), BLOCKS[1][0, 0, 0])


def test_methods_without_heads_or_without_a_looking_patch_say_what_they_have(tab):
    choose(tab, method="rollout")
    assert tab.page.locator("select[data-choice=head]").first.is_disabled()
    place, _ = expected_of(FLOW[0, 0])
    assert said(tab).startswith(f"rollout: the class token rests most on {place}: ")
    choose(tab, method="signed")
    best = int(GRID[0].argmax())
    assert said(tab).startswith(f"signed is highest at row {best // 4}, column {best % 4}: ")
    assert "times" not in said(tab)
    tab.page.mouse.move(*over(tab, ".lab-explorer-from", 0, 0))
    here = float(re.search(r"Here, at row 0, column 0: (-?[\d.]+)\.$", said(tab))[1])
    assert here == pytest.approx(GRID[0, 0, 0].item(), abs=0.01)


def test_the_page_says_and_paints_what_python_does(tab):
    made = small().atlas
    start = made.start()
    for place in (start, start._replace(picture=1, block=0, head=1, query=6),
                  start._replace(picture=1, block=0, head=2, query=3)):
        choose(tab, picture=made.captions[place.picture], block=str(place.block))
        tab.page.locator("select[data-choice=head]").first.select_option(str(-1 if place.head is None else place.head))
        tab.page.locator("select[data-choice=from]").first.select_option(str(place.query))
        tab.page.wait_for_timeout(100)
        assert said(tab) == made.describe(place)
        canvas = tab.page.locator(".lab-explorer-to canvas").first
        painted = torch.tensor(canvas.evaluate("it => Array.from(it.getContext('2d').getImageData(0, 0, 32, 24).data)"))
        painted = painted.view(24, 32, 4)[..., :3]
        python = torch.from_numpy(figures.overlay.blend(made.images[place.picture], made.lookup(place).cells).copy())
        assert (painted - python.int()).abs().max() <= 3


def test_the_data_table_follows_the_map(tab):
    choose(tab, block="0", head="0", **{"from": "row 1, column 1"})
    tab.page.locator("summary").first.click()
    cells = [float(text) for text in tab.page.locator(".lab-explorer").first.locator("td").all_inner_texts()]
    assert torch.tensor(cells).allclose(BLOCKS[0][0, 0, 1 + 5, 1:], atol=0.0055)


def test_two_explorers_on_a_page_do_not_mix_and_leave_no_global_name(tab):
    before = said(tab, 1)
    assert "looks most" in before and "class token" not in before
    choose(tab, block="0", head="0")
    assert said(tab, 1) == before
    assert tab.page.evaluate("() => typeof reader + typeof setUp + typeof data") == "undefined" * 3
    assert not tab.errors and not tab.elsewhere


def test_nothing_is_cut_off_blank_or_inaccessible(any_tab):
    any_tab.unfold()
    assert any_tab.look("edges") == []
    pytest.importorskip("axe_playwright_python")
    assert book_browser.accessibility(any_tab) == []
    assert any_tab.page.locator(".lab-explorer-still").first.is_hidden()


def test_a_tap_chooses_the_looking_patch(chromium, site):
    with book_browser.open_tab(chromium, site, "page.html", "phone") as tab:
        tab.page.locator(".lab-explorer-from").first.scroll_into_view_if_needed()
        tab.page.touchscreen.tap(*over(tab, ".lab-explorer-from", 1, 0))
        assert_says(said(tab), BLOCKS[1][0].mean(0)[1 + 4])


def test_without_javascript_the_picture_and_the_table_stand_there(chromium, site):
    page = chromium.new_page(java_script_enabled=False)
    page.goto(f"{site}/page.html")
    assert page.locator(".lab-explorer-still").first.is_visible()
    assert page.locator(".lab-explorer-controls").first.is_hidden()
    page.close()


def test_the_script_may_run_before_the_html_is_there(chromium):
    html = small()._repr_html_()
    start = html.rindex("<script>")
    page = chromium.new_page()
    page.set_content(f"<!doctype html><head>{html[start:]}</head><body>{html[:start]}</body>")
    page.wait_for_selector(".lab-explorer[data-ready]", timeout=3000, state="attached")
    page.close()
