"""The built book in a real browser, each page at the width of a desk and of a phone. `make test-browser` runs this.

Skipped unless LIGHTVIT_TEST_BROWSER=1 asks for it. LIGHTVIT_REQUIRE_BROWSER=1 asks too, and a missing browser or book
is then a failure.
"""

import json
import re
import tomllib
from contextlib import contextmanager
from urllib.parse import urlsplit

import browser
import pytest

browser.skip_unless_asked()
pytestmark = pytest.mark.browser
PAGES = browser.pages()
BUILT = {page: (browser.HTML / page).read_text(encoding="utf-8") for page in PAGES}
EXPLORED = ("chapters/foundations/vision_transformer.html", "chapters/practice/reading_attention.html")
SOLUTION = re.compile(r"^ *### BEGIN SOLUTION *\n(.*?)^ *### END SOLUTION", re.DOTALL | re.MULTILINE)


def _source(page):
    """The text that a built page was made from."""
    return (browser.ROOT / page).with_suffix(".md").read_text(encoding="utf-8")


def _name(page):
    return page.removesuffix(".html").split("/")[-1]


@pytest.fixture(scope="module", params=[(page, view) for page in PAGES for view in browser.VIEWS],
                ids=lambda param: f"{_name(param[0])}-{param[1]}")
def tab(request, chromium, origin):
    """One page at one width, opened once for all the tests that look at it."""
    with browser.open_tab(chromium, origin, *request.param) as opened:
        yield opened


def _fail_if(wrong):
    assert not wrong, "\n" + "\n".join(wrong)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_weighs_less_than_three_megabytes_beside_the_scripts_that_all_share(page):
    assert (browser.HTML / page).stat().st_size < 3 * 2**20


def test_no_script_complains_in_the_console(tab):
    _fail_if(tab.errors)


def test_no_file_of_the_page_is_missing(tab):
    _fail_if(tab.failed)


@pytest.mark.skipif(not (browser.HTML / "vendor" / "mathjax").is_dir(),
                    reason="MathJax comes from a CDN, as npm was not at hand when the book was built")
def test_the_page_asks_no_host_but_its_own(tab):
    _fail_if(tab.elsewhere)


def test_no_figure_is_left_out_or_blank(tab):
    asked_for = re.findall(r"^ *show\(", _source(tab.address), re.MULTILINE)
    assert tab.page.locator(".lab-figure .js-plotly-plot").count() >= len(asked_for)
    _fail_if(tab.look("figures"))


def test_no_label_of_a_figure_is_cut_off_or_covered_by_another(tab):
    _fail_if(tab.look("labels"))


def test_no_formula_stays_raw(tab):
    _fail_if(tab.look("formulas"))


def test_nothing_is_cut_off_at_the_edge(tab):
    tab.unfold()
    _fail_if(tab.look("edges"))


@pytest.mark.parametrize("theme, rules", [("light", None), ("dark", ["color-contrast"])], ids=["light", "dark"])
def test_axe_finds_nothing_serious_and_all_text_legible(tab, theme, rules):
    """Colours are all that a theme changes, so the dark one is held to the rule about them alone."""
    tab.use_theme(theme)
    tab.unfold()
    colour = tab.page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    brightness = int(re.search(r"\d+", colour)[0])
    assert (brightness > 200) == (theme == "light"), f"the {theme} theme is not on: background {colour}"
    _fail_if(browser.accessibility(tab, rules))


def test_every_fold_opens_when_its_title_is_clicked(tab):
    tab.page.evaluate("() => document.querySelectorAll('details').forEach(fold => { fold.open = false; })")
    for fold in tab.page.query_selector_all(".bd-article details:not([hidden])"):
        title = fold.query_selector("summary")
        title.click(timeout=5000)
        shown = fold.evaluate("fold => [...fold.children].some(child => child.tagName !== 'SUMMARY' &&"
                              " child.checkVisibility() && child.getBoundingClientRect().height > 0)")
        assert shown, f"nothing shows under {title.inner_text()!r}"


def test_every_slider_shows_what_it_names(tab):
    figures = tab.page.query_selector_all(".js-plotly-plot:has(.slider-container)")
    for number, figure in enumerate(figures):
        drawn = _drawn(figure)
        _slide(tab, figure)
        assert _drawn(figure) != drawn, f"the figure with slider {number} stays as it was"
        values = figure.evaluate(VALUES)
        assert values.get("shown") == values.get("named"), f"slider {number} names one thing, its figure shows another"


def test_arrow_keys_move_the_looking_patch_of_every_explorer(tab):
    explorers = tab.page.query_selector_all(".lab-explorer")
    assert len(explorers) == (tab.address in EXPLORED)
    for explorer in explorers:
        said = explorer.query_selector("[role=status]")
        explorer.query_selector("[role=application]").focus()
        sentences = []
        for key in ("Home", "ArrowRight", "ArrowDown"):
            tab.page.keyboard.press(key)
            sentences.append(said.inner_text())
        assert "the class token looks" in sentences[0] and len(set(sentences)) == 3, sentences


def test_arrow_keys_move_every_slider(tab):
    for number, figure in enumerate(tab.page.query_selector_all(".js-plotly-plot:has(.slider-container)")):
        figure.focus()
        tab.page.keyboard.press("Home")
        tab.page.keyboard.press("ArrowRight")
        active = "figure => figure._fullLayout.sliders[0].active"
        assert figure.evaluate(active) == 1, f"the right arrow does not move slider {number}"
        values = figure.evaluate(VALUES)
        assert values.get("shown") == values.get("named"), f"slider {number} moved, its figure did not"


# The numbers a figure shows, and those stored under the name that its slider stands on: heights of curves and maps.
VALUES = """figure => {
  const slider = figure._fullLayout.sliders[0], name = slider.steps[slider.active].args[0][0];
  const frame = figure._transitionData._frames.find(frame => frame.name === name);
  const heights = trace => trace.z || trace.y;
  if (!frame) return {};
  return {shown: frame.traces.map(index => heights(figure._fullData[index])), named: frame.data.map(heights)};
}"""


def _drawn(figure):
    return figure.evaluate("figure => figure.querySelector('.cartesianlayer').innerHTML")


def _slide(tab, figure):
    """Click a slider at three quarters of its rail."""
    figure.scroll_into_view_if_needed()
    rail = figure.query_selector(".slider-rail-touch-rect")
    rail.scroll_into_view_if_needed()
    box = rail.bounding_box()
    tab.page.mouse.click(box["x"] + 0.75 * box["width"], box["y"] + 0.5 * box["height"])
    tab.page.wait_for_timeout(500)


def test_a_prediction_hides_its_answer_until_the_guess_and_survives_a_reload(tab):
    asked = tab.page.locator(".lab-predict")
    assert asked.count() == len(re.findall(r"^\s*predict\(", _source(tab.address), re.MULTILINE))
    guesses = [_guess(asked.nth(number)) for number in range(asked.count())]
    if guesses:
        tab.page.reload(wait_until="load")
    for number, guess in enumerate(guesses):
        reveal = asked.nth(number).locator(".lab-predict-reveal").inner_text()
        assert reveal.startswith(f"You said {guess}"), f"prediction {number}: {reveal!r} after the reload"
        assert asked.nth(number).locator(".lab-predict-commit").is_hidden()


def _guess(question):
    """Commit to a guess; gives it back as the page shows it. Before, the answer must not be seen."""
    assert question.locator(".lab-predict-reveal").inner_text() == ""
    assert question.locator(".lab-predict-fold").is_hidden()
    if question.get_attribute("data-kind") == "choice":
        choice = question.locator("input[type=radio]").last
        choice.check()
        guess = choice.get_attribute("value").replace("`", "")
    else:
        question.locator("input.lab-predict-guess").fill(guess := "7.5")
    question.locator(".lab-predict-commit").click()
    assert question.locator(".lab-predict-reveal").inner_text().startswith(f"You said {guess}")
    return guess


def test_guesses_made_on_a_page_are_summed_up_on_the_page_of_guesses(chromium, origin):
    with browser.open_tab(chromium, origin, EXPLORED[0]) as tab:
        _guess(tab.page.locator(".lab-predict").first)
        tab.page.goto(f"{origin}/book/my_guesses.html")
        assert "You have answered 1 question" in tab.page.locator("#lab-guesses [role=status]").inner_text()
        _fail_if(tab.errors + tab.look("edges") + browser.accessibility(tab))
        tab.page.locator("#lab-guesses a").click()
        tab.page.wait_for_url(f"{origin}/{EXPLORED[0]}#lab-predict-*")


def test_the_address_that_make_book_names_opens_the_introduction(chromium, origin):
    page = chromium.new_page()
    page.goto(f"{origin}/index.html", wait_until="commit")
    page.wait_for_url("**/book/intro.html", timeout=10000)
    page.close()


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_colab_button_has_its_notebook_in_the_tree_and_every_notebook_its_button(page):
    project = tomllib.loads((browser.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    repository = urlsplit(project["urls"]["Repository"]).path.strip("/")
    targets = re.findall(r'href="https://colab\.research\.google\.com/github/([^"]*)"', BUILT[page])
    expected = browser.ROOT / page.replace(".html", ".ipynb")
    assert bool(targets) == expected.is_file()
    for target in targets:
        found = re.fullmatch(rf"{re.escape(repository)}/blob/[\w.-]+/(.+\.ipynb)", target)
        assert found, f"{target} is no notebook in {repository}"
        assert (browser.ROOT / found[1]).is_file() and browser.ROOT / found[1] == expected


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_what_the_page_offers_for_download_is_there_and_gives_no_solution_away(page):
    folder = (browser.HTML / page).parent
    for link in set(re.findall(r'href="([^"#?]*_(?:sources|downloads)/[^"#?]*)"', BUILT[page])):
        offered = (folder / link).resolve()
        assert offered.is_file(), f"{link} is not there"
        _fail_if(_solutions_in(offered, page))


def test_no_file_behind_the_pages_gives_a_solution_away():
    for page in PAGES:
        for path in (browser.HTML / "_sources" / page).parent.glob(f"{_name(page)}.*"):
            _fail_if(_solutions_in(path, page))


def _solutions_in(path, page):
    """Lines that stand only in the solutions of a page's source, and in the file at `path` all the same."""
    source = _source(page)
    answers = [line.strip() for block in SOLUTION.findall(source) for line in block.splitlines()]
    elsewhere = SOLUTION.sub("", source)
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        text = "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"])
        assert not SOLUTION.findall(source) or "NotImplementedError" in text or "answer = ..." in text
    wrong = [line for line in answers if line and line not in elsewhere and line in text]
    return [f"{path.name}: {line}" for line in wrong + [mark for mark in ("### BEGIN SOLUTION",) if mark in text]]


LOOKS = {
    "console": lambda tab: tab.errors,
    "files": lambda tab: tab.failed,
    "hosts": lambda tab: tab.elsewhere,
    "figures": lambda tab: tab.look("figures"),
    "labels": lambda tab: tab.look("labels"),
    "formulas": lambda tab: tab.look("formulas"),
    "edges": lambda tab: tab.look("edges"),
    "axe": browser.accessibility,
}
TWO_LABELS = ("<div class=js-plotly-plot><svg class=main-svg><text class=gtitle x={} y=20>one label</text>"
              "<text class=xtitle x=40 y=20>another</text></svg></div>")
FAULTS = [
    ("console", "<script>console.error('oops')</script>"),
    ("console", "<script>undefined.x</script>"),
    ("files", "<img src=gone.png alt=gone>"),
    ("hosts", "<img src=http://localhost.invalid/x.png alt=x>"),
    ("figures", "<figure class=lab-figure></figure>"),
    ("labels", TWO_LABELS.format(20)),
    ("labels", TWO_LABELS.format(280)),
    ("formulas", r"<p>with \(x^2\)</p>"),
    ("formulas", "<p>with $\\alpha$</p>"),
    ("formulas", "<span class=math>x^2</span>"),
    ("edges", "<div style='width:900px'>wide</div>"),
    ("edges", "<div style='width:90px;overflow:hidden;white-space:nowrap'>much more than fits in here</div>"),
    ("axe", "<p style='color:#ccc;background:#fff'>pale</p>"),
    ("axe", "<img src=here.svg>"),
]


@contextmanager
def _shown(chromium, folder, markup):
    """Some markup, shown on a phone."""
    (folder / "page.html").write_text(
        "<!doctype html><html lang=en><title>page</title><link rel=icon href=data:,><meta name=viewport "
        f"content='width=device-width'><main class=bd-article><h1>Page</h1>{markup}</main></html>")
    (folder / "here.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>")
    with browser.serve(folder) as address, browser.open_tab(chromium, address, "page.html", "phone") as tab:
        yield tab


def test_nothing_is_said_about_a_sound_page(chromium, tmp_path):
    sound = f"<p>sound, for 5 $ or 6 $</p>{TWO_LABELS.format(120)}<img src=here.svg alt=dot>"
    with _shown(chromium, tmp_path, sound) as tab:
        assert not any(said := {aspect: look(tab) for aspect, look in LOOKS.items()}.values()), said


@pytest.mark.parametrize("aspect, markup", FAULTS)
def test_each_fault_that_is_looked_for_would_be_seen(chromium, tmp_path, aspect, markup):
    with _shown(chromium, tmp_path, markup) as tab:
        assert LOOKS[aspect](tab)


@pytest.mark.parametrize("page", [page for page in PAGES if page.startswith("chapters/")])
def test_what_answers_a_prediction_is_covered_until_it_is_asked_for(page, chromium, origin):
    with browser.open_tab(chromium, origin, page, covered=True) as opened:
        hides = opened.page.locator(".lab-predict").evaluate_all("boxes => boxes.map(box => Number(box.dataset.hides))")
        covers = opened.page.locator(".lab-predict-cover")
        assert 0 < covers.count() <= sum(hides)
        for output in opened.page.locator(".lab-predict-covered").all():
            assert output.evaluate("box => box.getBoundingClientRect().height") < 200
        while covers.count():
            covers.first.get_by_role("button").click()
        assert opened.page.locator(".lab-predict-covered").count() == 0 and opened.errors == []
