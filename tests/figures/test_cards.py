"""The cards: cost explorer, two models, training curves. What they say and refuse, and what they do in a browser."""

import html
import re
import sys
from pathlib import Path

import pytest
import torch

from lightvit_lab import figures, models, profiling, survey
from lightvit_lab.errors import LabError
from lightvit_lab.experiments import results
from lightvit_lab.figures import cost, runs, two_models

sys.path.insert(0, str(Path(__file__).parents[1] / "book"))
import browser as book_browser  # noqa: E402

FINDING = "Something < there is to find, in a sentence."
STORED = results.load("light_models")
ROWS = STORED.data["models"]
LOSSES = {"plain": [2.5 - 0.01 * step + 0.3 * (step % 3) for step in range(60)],
          "stem": [2.0 / (1 + step) for step in range(40)]}
SCORES = {"plain": [(120, 0.31), (240, 0.625)], "stem": [(160, 0.5)]}


def cards():
    times = {name: row["one"] for name, row in ROWS.items()}
    return {"cost": figures.cost_explorer(FINDING), "two_models": figures.compare_models(
                ROWS, times, finding=FINDING, first="deit_tiny_patch16_224", second="lightvit_tiny", result=STORED),
            "runs": figures.training_explorer(LOSSES, SCORES, finding=FINDING, stretch=4, smooth=3)}


def paths(drawing):
    """Numbers of the lines that a drawing holds; a line without points is left out."""
    found = re.findall(r'<path class="line" d="(M[^"]+)" stroke="[^"]+" stroke-dasharray="[^"]+"[ />]', drawing)
    return [torch.tensor([float(number) for number in re.findall(r"-?[\d.]+", path)]) for path in found]


# --- what is said and refused

@pytest.mark.parametrize("kind", ["cost", "two_models", "runs"])
def test_a_card_is_small_self_contained_escaped_and_says_all_without_javascript(kind):
    made = cards()[kind]
    text = made._repr_html_()
    assert len(text) < 40_000 and text.count("</script>") == 2 and " id=" not in text
    assert not any(outside in text for outside in ('src="http', "href=", "http:", "https:", "import "))
    assert html.escape(made.summary) in text and "Something &lt; there" in text and made.summary in repr(made)
    assert re.search(r'role="status"', text) and "<td>" in text


@pytest.mark.parametrize("finding", ["", "too few words", None])
def test_a_card_without_a_finding_is_refused(finding):
    for make in (figures.cost_explorer, lambda finding: figures.compare_models(ROWS, finding=finding),
                 lambda finding: figures.training_explorer(LOSSES, finding=finding)):
        with pytest.raises(LabError, match="say in one sentence"):
            make(finding=finding)


def test_the_cost_card_says_the_count_of_a_real_model_to_the_last_digit():
    real = profiling.count(models.create_model("deit_tiny_patch16_224"))
    own = 12 * 2 * 197**2 * 192 / real.macs
    said = figures.cost_explorer(FINDING).summary
    assert f"{real.params:,} parameters and {real.macs:,} MACs" in said and "197 tokens" in said
    assert f"{100 * own:.1f} % of them in attention's own" in said and "1,152 tokens" in said


def test_every_offered_size_makes_a_model_and_stays_on_the_axes():
    for image_size in cost.SIZES["image_size"]:
        for patch_size in cost.SIZES["patch_size"]:
            assert image_size % patch_size == 0
            for dim in cost.SIZES["dim"]:
                for depth in cost.SIZES["depth"]:
                    found = profiling.estimate_vit(image_size, patch_size, dim, depth, 1000)
                    for quantity in cost.QUANTITIES:
                        axis = cost.y_axis(quantity, 1000)
                        assert axis.low < cost.values(found, quantity)[0] < axis.high


def test_a_size_that_is_not_offered_is_refused_with_those_that_are():
    with pytest.raises(LabError, match="dim=100 .*64, 128"):
        figures.cost_explorer(FINDING, dim=100)


def test_the_comparison_names_ratio_interval_and_published_accuracy():
    said = cards()["two_models"].summary
    one, two = ROWS["deit_tiny_patch16_224"], ROWS["lightvit_tiny"]
    assert f"{two['macs'] / one['macs']:.2f} times the MACs" in said
    assert f"{two['params'] / one['params']:.2f} times the parameters" in said
    assert f"takes {two['one']['latency_ms'] / one['one']['latency_ms']:.2f} times its time" in said
    top1 = {row.model.partition(".")[0]: row.top1 for row in survey.published()}
    assert f"{top1['lightvit_tiny'] - top1['deit_tiny_patch16_224']:.1f} points higher" in said


def test_times_whose_intervals_overlap_are_called_undecided_and_unknown_ones_are_left_out():
    row = two_models.Compared(10, 10, 10, 10, 5.0, (4.0, 6.0))
    assert "does not settle" in two_models.comparison_sentence("a", row, "b", row._replace(latency_ms=5.5, interval_ms=(5.0, 7.0)))
    assert "settle" not in two_models.comparison_sentence("a", row, "b", row._replace(latency_ms=9.0, interval_ms=(8.0, 9.9)))
    untimed = row._replace(latency_ms=None, interval_ms=None)
    assert "takes" not in two_models.comparison_sentence("a", row, "b", untimed)
    assert "every ratio is 1" in two_models.comparison_sentence("a", row, "a", row)


def test_published_accuracy_is_that_of_the_size_of_picture():
    assert two_models.top1("deit_tiny_patch16_224", 224) == 72.19
    assert two_models.top1("deit_tiny_patch16_224", 288) is None
    assert two_models.top1("lab_vit", 32) is None


def test_a_bar_grows_with_the_logarithm_from_the_middle_and_stops_at_its_end():
    assert two_models._bar(8) == two_models._bar(100) == "left:50.0%;width:50.0%"
    assert two_models._bar(2) == "left:50.0%;width:16.7%" and two_models._bar(0.5) == "left:33.3%;width:16.7%"


def test_models_that_cannot_be_compared_are_refused():
    with pytest.raises(LabError, match="1 models; give the costs of two"):
        figures.compare_models({"one": ROWS["lightvit_tiny"]}, finding=FINDING)
    with pytest.raises(LabError, match='Did you mean "lightvit_tiny"'):
        figures.compare_models(ROWS, finding=FINDING, first="lightvit_tyni")


def test_the_training_card_reads_the_running_mean_at_a_step():
    said = cards()["runs"].summary
    assert f"step 240, mean of the last 12 steps. plain: {sum(LOSSES['plain'][-3:]) / 3:.3f}." in said
    assert "stem" not in said


def test_of_a_long_run_means_of_stretches_are_kept():
    found = runs.pool_runs({"long": [float(step % 2) for step in range(4001)]}, {})
    assert found.stretch == 3 and found.count == 1334 and found.steps == 4001
    assert found.losses["long"][:2] == [0.3333, 0.6667] and found.losses["long"][-1] == pytest.approx(0.5, abs=0.17)


@pytest.mark.parametrize("losses, said", [({}, "give one run at least"), ({"a": []}, "some losses"),
                                          ({"a": [1.0, float("nan")]}, "1 losses that are not finite")])
def test_runs_without_losses_or_with_broken_ones_are_refused(losses, said):
    with pytest.raises(LabError, match=said):
        figures.training_explorer(losses, finding=FINDING)


# --- in a browser

@pytest.fixture(scope="module")
def site(stand_alone):
    return stand_alone(*(made._repr_html_() for made in cards().values()))


def box(tab, kind):
    return tab.page.locator(f".lab-card[data-kind={kind}]")


def said(tab, kind):
    return box(tab, kind).locator(".lab-card-said").inner_text()


def slide(tab, kind, name, place):
    box(tab, kind).locator(f"[data-choice='{name}']").fill(str(place))


def lines(tab, kind):
    shown = box(tab, kind).locator(".lab-card-charts").evaluate("it => it.outerHTML")
    return paths(re.sub(r"></path>", "/>", shown))


def assert_same_lines(found, expected):
    assert len(found) == len(expected) > 0
    assert all(one.shape == two.shape and (one - two).abs().max() < 0.11 for one, two in zip(found, expected))


@pytest.mark.parametrize("image_size, patch_size, dim, depth, quantity", [
    (224, 16, 384, 12, "MACs"), (32, 4, 64, 4, "parameters"), (768, 8, 128, 24, "share of attention"),
    (96, 32, 768, 6, "tokens"), (512, 4, 192, 12, "MACs")])
def test_the_cost_card_says_and_draws_what_python_does(tab, image_size, patch_size, dim, depth, quantity):
    sizes = dict(image_size=image_size, patch_size=patch_size, dim=dim, depth=depth)
    for name, value in sizes.items():
        slide(tab, "cost", name, cost.SIZES[name].index(value))
    box(tab, "cost").locator("select").select_option(label=quantity)
    assert said(tab, "cost") == cost.cost_sentence(sizes, 1000)
    drawn = cost.cost_charts(sizes, 1000, quantity)
    assert_same_lines(lines(tab, "cost"), paths(drawn.partition("lab-card-charts")[2]))
    labels = box(tab, "cost").locator(".lab-card-chart").evaluate_all("all => all.map(it => it.ariaLabel)")
    assert labels == re.findall(r'role="img" aria-label="([^"]+)"', drawn)
    cells = box(tab, "cost").locator("td").all_text_contents()
    assert cells == re.findall(r"<td>([^<]+)</td>", cost.cost_table(sizes, 1000))
    assert box(tab, "cost").locator("g[data-quantity]:visible").count() == 3


def test_any_two_models_are_compared_as_python_does(tab):
    names = list(ROWS)
    gathered = {name: two_models.compared(name, row, row["one"]) for name, row in ROWS.items()}
    for first, second in zip(names, names[3:] + names[:3]):
        box(tab, "two_models").locator("select").nth(0).select_option(label=first)
        box(tab, "two_models").locator("select").nth(1).select_option(label=second)
        assert said(tab, "two_models") == two_models.comparison_sentence(first, gathered[first], second, gathered[second])
        expected = two_models.comparison_table(first, gathered[first], second, gathered[second])
        cells = [re.sub(r"<[^>]+>", "", cell) for cell in re.findall(r"<td>(.*?)</td>", expected)]
        assert box(tab, "two_models").locator("td").all_text_contents() == cells
        bars = box(tab, "two_models").locator(".lab-card-bar i")
        bars = bars.evaluate_all("all => all.map(it => parseFloat(it.style.width))")
        assert bars == pytest.approx([float(width) for width in re.findall(r"width:([\d.]+)%", expected)])
    box(tab, "two_models").locator("select").nth(0).select_option(label=second)
    assert "every ratio is 1" in said(tab, "two_models")


def test_smoothing_and_reading_a_run_give_what_python_does(tab):
    made = runs.pool_runs(LOSSES, SCORES, stretch=4)
    for smooth, index in ((1, 0), (7, 20), (15, 59)):
        slide(tab, "runs", "smooth", smooth)
        slide(tab, "runs", "index", index)
        assert said(tab, "runs") == runs.loss_sentence(made, smooth, index)
        drawn = runs.loss_charts(made, smooth, index)
        assert_same_lines(lines(tab, "runs"), paths(drawn.partition("lab-card-charts")[2]))
        cursors = box(tab, "runs").locator(".cursor").evaluate_all("all => all.map(it => it.getAttribute('d'))")
        assert cursors == re.findall(r'class="cursor" d="([^"]+)"', drawn) and len(cursors) == 2
        cells = re.findall(r"<td>([^<]*)</td>", runs.loss_table(made, smooth))
        assert box(tab, "runs").locator("td").all_text_contents() == cells


def test_the_keyboard_alone_reaches_and_moves_every_control(tab):
    seen = []
    for _ in range(11):
        tab.page.keyboard.press("Tab")
        if (name := tab.page.evaluate("document.activeElement.dataset.choice")) is not None:
            seen.append(name)
            assert tab.page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
            before = tab.page.locator(".lab-card").all_inner_texts()
            keys = {"drawn": "ArrowDown", "first": "ArrowDown", "second": "ArrowUp"}
            tab.page.keyboard.press(keys.get(name, "ArrowLeft"))
            assert tab.page.locator(".lab-card").all_inner_texts() != before or name == "smooth", name
    assert seen == ["image_size", "patch_size", "dim", "depth", "drawn", "first", "second", "smooth", "index"]
    assert box(tab, "cost").locator("[data-choice=image_size]").get_attribute("aria-valuetext") == "192 px"
    assert "192 px in patches of 8 px" in said(tab, "cost")


def test_cards_do_not_mix_and_leave_no_global_name_and_ask_no_one(tab):
    before = said(tab, "runs")
    slide(tab, "cost", "depth", 0)
    assert said(tab, "runs") == before
    assert tab.page.evaluate("() => typeof setUpCards + typeof line + typeof estimate") == "undefined" * 3
    assert not tab.errors and not tab.elsewhere


def test_no_card_is_cut_off_or_inaccessible(any_tab):
    any_tab.unfold()
    for place, longest in enumerate(("efficientformerv2_s0", "xcit_nano_12_p16_224")):
        box(any_tab, "two_models").locator("select").nth(place).select_option(label=longest)
    assert any_tab.look("edges") == []
    pytest.importorskip("axe_playwright_python")
    assert book_browser.accessibility(any_tab) == []


def test_without_javascript_drawing_sentence_and_table_stand_there(chromium, site):
    page = chromium.new_page(java_script_enabled=False)
    page.goto(f"{site}/page.html")
    assert page.locator(".lab-card-controls:visible").count() == 0
    assert page.locator(".lab-card-chart:visible").count() == 5 and page.locator(".lab-card-said:visible").count() == 3
    page.close()


def test_the_script_may_run_before_the_card_is_there(chromium):
    text = figures.cost_explorer(FINDING)._repr_html_()
    start = text.rindex("<script>")
    page = chromium.new_page()
    page.set_content(f"<!doctype html><head>{text[start:]}</head><body>{text[:start]}</body>")
    page.wait_for_selector(".lab-card[data-ready]", timeout=3000, state="attached")
    page.close()
