"""The cards: cost explorer, two models, training curves. What they say and refuse, and what they do in a browser."""

import html
import re
import sys
from itertools import product
from pathlib import Path

import pytest

from lightvit_lab import figures, models, profiling, survey
from lightvit_lab.errors import LabError
from lightvit_lab.experiments import results
from lightvit_lab.figures import axes, cost, runs, two_models

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


# --- what is said and refused

@pytest.mark.parametrize("kind", ["cost", "two_models", "runs"])
def test_a_card_is_small_self_contained_escaped_and_says_all_without_javascript(kind):
    made = cards()[kind]
    text = made._repr_html_()
    assert len(text) < 40_000 and text.count("</script>") == 2 and " id=" not in text
    assert not any(outside in text for outside in ('src="http', "href=", "http:", "https:", "import "))
    assert html.escape(made.summary) in text and "Something &lt; there" in text and made.summary in repr(made)
    assert re.search(r'role="status"', text) and "<td>" in text


@pytest.mark.parametrize("finding", ["", "too few words"])
def test_a_card_with_an_empty_finding_is_refused(finding):
    for make in (figures.cost_explorer, lambda finding: figures.compare_models(ROWS, finding=finding),
                 lambda finding: figures.training_explorer(LOSSES, finding=finding)):
        with pytest.raises(LabError, match="say in one sentence"):
            make(finding=finding)


def test_cards_find_their_own_sentence_where_none_is_given():
    low, high = (2 * n / (12 * 192 + 2 * n) for n in (5, 2305))     # of a block: N tokens, d = 192
    ends = re.findall(r"([\d.]+) %.* at 32 px, ([\d.]+) % at 768 px", figures.cost_explorer().finding)
    assert [float(end) / 100 for end in ends[0]] == pytest.approx([low, high], rel=0.2)
    assert figures.training_explorer({"a": [2.5, 1.25]}).finding == (
        "The loss of a begins at 2.50 and ends at 1.25.")
    several = figures.training_explorer({"a": [2.5, 1.25], "b": [1.0, 1.5], "c": [3.0, 0.25]})
    assert several.finding == ("Losses that end below where they began: 2 of 3; the lowest end is "
                               "0.25 (c), the highest 1.50 (b).")
    cost_of = {"light": dict(params=1, macs=10**9, weight_bytes=1, activation_bytes=1)}
    cost_of["heavy"] = cost_of["light"] | {"macs": 4 * 10**9}
    assert figures.compare_models(cost_of).finding == (
        "MACs are fewest in light, 1.00 G, and most in heavy, 4.00 G.")
    times = {"light": dict(latency_ms=9.0, interval_ms=(8, 10)),
             "heavy": dict(latency_ms=5.0, interval_ms=(4, 6))}
    assert figures.compare_models(cost_of, times).finding == (
        "The model with fewer MACs takes longer in 1 of 1 pairs of models.")


@pytest.mark.parametrize("value, digits, text", [
    (0.0625, 3, "0.063"), (0.1875, 3, "0.188"), (-2.5, 0, "-3"), (1.005, 2, "1.00"), (3, 1, "3.0")])
def test_halves_are_rounded_away_from_zero_as_in_javascript(value, digits, text):
    assert axes.fixed(value, digits) == text


@pytest.mark.parametrize("value, text", [(5, "5"), (0.05, "0.05"), (999.6, "1000"), (1125, "1.13 k"),
                                         (999_600, "1000 k"), (12_345_678, "12.3 M")])
def test_numbers_in_short_have_three_digits(value, text):
    assert axes.short(value) == text


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


# One call moves a card's controls through many states and tells what it shows in each.
WALK = """([kind, states]) => {
  const root = document.querySelector(`.lab-card[data-kind=${kind}]`);
  const texts = selector => Array.from(root.querySelectorAll(selector), it => it.textContent);
  const given = (selector, name) =>
    Array.from(root.querySelectorAll(selector), it => it.getAttribute(name));
  return states.map(state => {
    for (const [name, place] of Object.entries(state)) {
      root.querySelector(`[data-choice="${name}"]`).value = place;
    }
    root.querySelector("[data-choice]").dispatchEvent(new Event("input", { bubbles: true }));
    return { said: texts(".lab-card-said"), cells: texts("td"), values: texts("output"),
      heads: texts("thead th"), labels: given(".lab-card-chart", "aria-label"),
      lines: given(".lab-card-charts .line", "d"), cursors: given(".cursor", "d"),
      bars: given(".lab-card-bar i", "style"), sides: given(".lab-card-bar i", "class"),
      dots: given(".here", "cx").concat(given(".here", "cy")) };
  });
}"""


def walked(chromium, stand_alone, made, kind, states):
    """What a card shows in each state, a state being the places of its controls by name."""
    with book_browser.open_tab(chromium, stand_alone(made._repr_html_()), "page.html") as opened:
        found = opened.page.evaluate(WALK, [kind, states])
        assert not opened.errors
    return found


def numbers(texts):
    """All numbers in texts; a line without points has none."""
    return [float(number) for text in texts for number in re.findall(r"-?[\d.]+", text)]


def assert_drawn_alike(found, drawn):
    """Lines, cursors and dots lie where Python draws them, to a tenth of a pixel."""
    charts = drawn.partition("lab-card-charts")[2]
    for kind, pattern in {"lines": r'class="line" d="([^"]*)"', "cursors": r'cursor" d="([^"]+)"',
                          "labels": r'role="img" aria-label="([^"]+)"'}.items():
        expected = [html.unescape(text) for text in re.findall(pattern, charts)]
        assert len(found[kind]) == len(expected)
        if kind == "labels":
            assert found[kind] == expected
        else:
            assert numbers(found[kind]) == pytest.approx(numbers(expected), abs=0.11)
    dots = re.findall(r'class="here" r="5" cx="([^"]+)" cy="([^"]+)"', charts)
    expected = [float(dot[side]) for side in (0, 1) for dot in dots]
    assert [float(dot) for dot in found["dots"]] == pytest.approx(expected, abs=0.11)


def cost_states():
    """Each slider at every place, the others as they start, and a grid; with all quantities."""
    start = {"image_size": 224, "patch_size": 16, "dim": 192, "depth": 12}
    sizes = [start | {name: value} for name in start for value in cost.SIZES[name]]
    grid = product((32, 224, 768), (4, 8, 32), (64, 384, 768), (4, 24))
    return product(sizes + [dict(zip(start, one)) for one in grid], cost.QUANTITIES)


def test_in_every_state_the_cost_card_says_draws_and_lists_what_python_does(chromium, stand_alone):
    states = list(cost_states())
    quantities = list(cost.QUANTITIES)
    places = [{name: cost.SIZES[name].index(value) for name, value in sizes.items()}
              | {"drawn": quantities.index(quantity)} for sizes, quantity in states]
    found = walked(chromium, stand_alone, figures.cost_explorer(), "cost", places)
    assert len(found) == len(states) > 300
    for shown, (sizes, quantity) in zip(found, states):
        assert shown["said"] == [cost.cost_sentence(sizes, 1000)]
        assert_drawn_alike(shown, cost._charts(sizes, 1000, (quantity,), quantity))
        table = cost.cost_table(sizes, 1000)
        assert shown["cells"] == re.findall(r"<td>([^<]+)</td>", table)
        assert shown["values"] == [f"{sizes[name]}{unit}" for name, (_, unit)
                                   in cost.LABELS.items()]


def test_the_axis_of_the_chosen_quantity_alone_is_shown(tab):
    for quantity in cost.QUANTITIES:
        box(tab, "cost").locator("select").select_option(label=quantity)
        axes = box(tab, "cost").locator("g[data-quantity]:visible")
        shown = axes.evaluate_all("all => all.map(it => it.dataset.quantity)")
        assert shown == [quantity] * 3
        assert box(tab, "cost").locator("[data-legend]").is_visible() == (quantity == "MACs")


PARTIAL = {"timed": two_models.Compared(10, 80, 30, 40, 5.0, (4.0, 6.0), 70.25),
           "slower": two_models.Compared(25, 90, 30, 41, 12.5, (12.0, 13.0), 70.0),
           "untimed": two_models.Compared(10**8, 10**12, 2**28, 2**28, None, None, 71.0),
           "unpublished_one": two_models.Compared(125, 800, 30, 45, 5.125, (5.0, 7.0), None)}


@pytest.mark.parametrize("rows", ["stored", "partial"])
def test_all_pairs_of_models_are_compared_as_python_does(chromium, stand_alone, monkeypatch, rows):
    times = {name: row["one"] for name, row in ROWS.items()}
    gathered = {name: two_models.compared(name, row, row["one"]) for name, row in ROWS.items()}
    costs = ROWS
    if rows == "partial":
        costs = times = gathered = PARTIAL
        monkeypatch.setattr(two_models, "compared", lambda name, *others: PARTIAL[name])
    made = figures.compare_models(costs, times)
    pairs = list(product(gathered, repeat=2))
    names = list(gathered)
    places = [{"first": names.index(a), "second": names.index(b)} for a, b in pairs]
    for shown, (a, b) in zip(walked(chromium, stand_alone, made, "two_models", places), pairs):
        assert shown["said"] == [two_models.comparison_sentence(a, gathered[a], b, gathered[b])]
        table = two_models.comparison_table(a, gathered[a], b, gathered[b])
        cells = re.findall(r"<td>(.*?)</td>", table)
        assert shown["cells"] == [re.sub(r"<[^>]+>", "", cell) for cell in cells]
        assert shown["heads"] == ["for one picture", a, b, "second / first"]
        bars = re.findall(r'<i( class=more)? style="([^"]+)"', table)
        assert numbers(shown["bars"]) == numbers(bar for _, bar in bars)
        assert [side == "more" for side in shown["sides"]] == [bool(more) for more, _ in bars]


def test_at_every_smoothing_and_step_runs_are_read_as_python_does(chromium, stand_alone):
    # halves of the last digit, in which the two languages' own rounding differs
    ties = [1.3125, 0.0625, 0.1875, -0.4375, 2.5625]
    losses = {"ties": ties * 5 + [3.0], "<b> & co": [2.0 / (1 + step) for step in range(19)]}
    made = runs.pool_runs(losses, SCORES, stretch=4)
    states = list(product(range(1, runs.longest_mean(made) + 1), range(made.count)))
    places = [{"smooth": smooth, "index": index} for smooth, index in states]
    card = figures.training_explorer(losses, SCORES, stretch=4, smooth=3)
    found = walked(chromium, stand_alone, card, "runs", places)
    assert len(found) == 6 * 26
    for shown, (smooth, index) in zip(found, states):
        assert shown["said"] == [runs.loss_sentence(made, smooth, index)]
        assert_drawn_alike(shown, runs.loss_charts(made, smooth, index))
        table = runs.loss_table(made, smooth)
        assert shown["cells"] == re.findall(r"<td>([^<]*)</td>", table)
        assert shown["values"] == [runs.steps_text(smooth, made), f"step {4 * (index + 1):,}"]


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
