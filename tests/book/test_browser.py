"""The built book in a real browser, each page at the width of a desk and of a phone. `make test-browser` runs this.

Skipped unless LIGHTVIT_TEST_BROWSER=1 asks for it. LIGHTVIT_REQUIRE_BROWSER=1 asks too, and a missing browser or book
is then a failure.
"""

import json
import re
import tomllib
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, urlsplit

import browser
import pytest
import yaml

browser.skip_unless_asked()
pytestmark = pytest.mark.browser
PAGES = browser.pages()
BUILT = {page: (browser.HTML / page).read_text(encoding="utf-8") for page in PAGES}
FILMED = "chapters/dynamic/token_merging.html"
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


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_figure_of_a_page_has_its_sentence_for_those_who_do_not_see_it_and_a_finding(page):
    figures = re.findall(r'<figure class="lab-figure" role="group" aria-label="([^"]*)">(.*?)</figure>', BUILT[page], re.DOTALL)
    assert len(figures) == BUILT[page].count('class="lab-figure"')
    wrong = [f"{alt!r}: no sentence" for alt, _ in figures if not re.search(r"\w.*\.$", alt)]
    assert wrong + [f"{alt!r}: no finding" for alt, rest in figures if "<figcaption><p>" not in rest] == []


def test_no_script_complains_in_the_console(tab):
    _fail_if(tab.errors)


def test_no_file_of_the_page_is_missing(tab):
    _fail_if(tab.failed)


@pytest.mark.skipif(not (browser.HTML / "vendor" / "mathjax").is_dir(),
                    reason="MathJax comes from a CDN, as npm was not at hand when the book was built")
def test_the_page_asks_no_host_but_its_own(tab):
    _fail_if(tab.elsewhere)


def test_a_chapter_is_no_longer_than_sixteen_screens_and_shows_a_figure_in_every_two_and_a_half(tab):
    """While its further sections are folded, which take half of it at most."""
    if tab.view != "wide" or not tab.address.startswith("chapters/"):
        pytest.skip("a screen is that of a desk, and only chapters are read from top to end")
    screen, (whole, core, longest) = 900, (tab.reading[name] for name in ("whole", "core", "longest"))
    said = f"{core / screen:.1f} screens, {whole / screen:.1f} unfolded, {longest / screen:.1f} without a figure"
    assert core <= 16 * screen and longest <= 2.5 * screen and whole <= 2 * core, said


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


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious_and_all_text_legible(tab, theme):
    """Colours are looked at in both themes, at one width: no style that depends on the width has any.

    They take axe most of its time. All other rules are held at both widths, in one theme: it changes colours alone.
    """
    if (tab.view, theme) == ("phone", "dark"):
        pytest.skip("the wide page has these colours too")
    tab.use_theme(theme)
    tab.unfold()
    colour = tab.page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    brightness = int(re.search(r"\d+", colour)[0])
    assert (brightness > 200) == (theme == "light"), f"the {theme} theme is not on: background {colour}"
    _fail_if(browser.accessibility(tab, contrast=tab.view == "wide", others=theme == "light"))


def test_no_style_for_some_widths_alone_sets_a_colour():
    sheets = [*browser.ROOT.glob("book/_static/*.css"), *browser.ROOT.glob("lightvit_lab/figures/*.css")]
    texts = {sheet.name: re.sub(r"/\*.*?\*/", "", sheet.read_text(encoding="utf-8"), flags=re.DOTALL) for sheet in sheets}
    blocks = [(name, found[0]) for name, text in texts.items()
              for found in re.finditer(r"@media[^{]*width[^{]*\{(?:[^{}]*\{[^{}]*\})*[^{}]*\}", text)]
    assert len(blocks) >= 3
    assert [name for name, block in blocks if re.search(r"[{;\s](color|background(-color)?|fill|stroke|opacity|filter)\s*:", block)] == []


def test_every_fold_opens_when_its_title_is_clicked(tab):
    _fail_if(tab.look("folds"))


def test_every_film_opens_at_one_state_and_its_arrow_keys_show_the_others_with_their_captions(tab):
    for number, film in enumerate(tab.page.query_selector_all(".lab-card[data-kind=film]")):
        states = film.query_selector_all(".lab-film-state")
        slider = film.query_selector("input[type=range]")
        shown = [state.is_visible() for state in states]
        assert shown.count(True) == 1 and shown.index(True) == int(slider.input_value()), f"film {number}: {shown}"
        slider.focus()
        tab.page.keyboard.press("Home")
        captions = []
        for state in states:
            assert state.is_visible() and [one.is_visible() for one in states].count(True) == 1
            assert slider.get_attribute("aria-valuetext") == film.query_selector("output").inner_text()
            captions.append(state.query_selector(".lab-film-caption").inner_text())
            tab.page.keyboard.press("ArrowRight")
        assert len(set(captions)) == len(states), f"film {number}: two states say the same"


def test_a_film_plays_once_when_it_is_reached_and_stays_at_its_last_state(chromium, origin):
    with browser.open_tab(chromium, origin, FILMED, motion="no-preference") as tab:
        film = tab.page.locator(".lab-card[data-kind=film]").first
        last = film.locator(".lab-film-state").count() - 1
        film.locator(".lab-card-drawing").scroll_into_view_if_needed()
        tab.page.wait_for_function("film => film.querySelector('input').value === '0'", arg=film.element_handle(), timeout=5000)
        tab.page.wait_for_function("([film, last]) => film.querySelector('input').value === String(last)",
                                   arg=[film.element_handle(), last], timeout=1500 * (last + 2))
        assert film.locator(".lab-film-state").nth(last).is_visible()
        tab.page.wait_for_timeout(1500)
        assert film.locator("input").input_value() == str(last), "it plays again"


def test_figures_follow_the_dark_theme_and_come_back(tab):
    if tab.view != "wide":
        pytest.skip("a question about the other tab")       # no style that depends on the width sets a colour
    colours = """() => [...document.querySelectorAll(".lab-plot .xtitle, .lab-plot .ytitle")]
                        .map(text => getComputedStyle(text).fill)"""
    tab.use_theme("light")
    light = tab.page.evaluate(colours)
    tab.use_theme("dark")
    tab.page.wait_for_timeout(100)
    dark = tab.page.evaluate(colours)
    tab.use_theme("light")
    tab.page.wait_for_timeout(100)
    assert set(light) <= {"rgb(34, 34, 34)"} and set(dark) <= {"rgb(228, 230, 234)"} and len(dark) == len(light)
    assert tab.page.evaluate(colours) == light


CHAPTERS = [page for page in PAGES if page.startswith("chapters/")]
SLOW_LINE = {"offline": False, "latency": 60, "downloadThroughput": 10e6 / 8, "uploadThroughput": 10e6 / 8}


def _first_paint(chromium, origin, page):
    """Milliseconds to the first content of a page, nothing of it cached, on a line of 10 Mbit/s.

    That line is Chromium's own imitation, which now and then passes nothing on at all: then another is taken.
    """
    found = next(filter(None, (_paint(chromium, origin, page) for _ in range(5))), None)
    return found or pytest.fail(f"{page} is not painted in five tries")


def _paint(chromium, origin, page):
    """The same in one try, None where there is no paint in eight seconds."""
    context = chromium.new_context()
    tab = context.new_page()
    line = context.new_cdp_session(tab)
    line.send("Network.enable")
    line.send("Network.emulateNetworkConditions", SLOW_LINE)
    tab.goto(f"{origin}/{page}", wait_until="commit")
    paints = "performance.getEntriesByName('first-contentful-paint').map(paint => paint.startTime)"
    for _ in range(160):
        if found := tab.evaluate(paints):
            break
        tab.wait_for_timeout(50)
    context.close()
    return found[0] if found else None


@pytest.mark.xdist_group("first paint")
def test_a_chapter_is_painted_nearly_as_soon_as_the_introduction(chromium, origin):
    """Once, and the best of four where it is late: neighbours only delay a paint."""
    intro = min(_first_paint(chromium, origin, "book/intro.html") for _ in range(4))
    ratios = {page: _first_paint(chromium, origin, page) / intro for page in CHAPTERS}
    late = [page for page, ratio in ratios.items() if ratio > 1.3]
    ratios |= {page: min(_first_paint(chromium, origin, page) for _ in range(4)) / intro for page in late}
    print(f"introduction {intro:.0f} ms; chapters", " ".join(f"{_name(page)} {ratio:.2f}" for page, ratio in ratios.items()))
    assert {page: ratio for page, ratio in ratios.items() if ratio > 1.3} == {}


@pytest.mark.parametrize("width", [390, 1200, 1400])
def test_no_output_scrolls_sideways(tab, width):
    if (tab.view == "phone") != (width == 390):
        pytest.skip("a question about the other tab")
    before = tab.page.viewport_size
    tab.page.set_viewport_size({"width": width, "height": before["height"]})
    tab.page.wait_for_timeout(500)           # Plotly draws anew for the new width
    wide = _that_scroll(tab)
    tab.page.set_viewport_size(before)
    _fail_if(wide)


def _that_scroll(tab):
    """Outputs outside of folds that are wider than their boxes."""
    return tab.page.evaluate("""() => [...document.querySelectorAll(".bd-article .cell_output, .bd-article .cell_output *")]
        .filter(box => box.checkVisibility() && !box.closest("details:not(.lab-further)") && box.scrollWidth > box.clientWidth + 1)
        .filter(box => ["auto", "scroll"].includes(getComputedStyle(box).overflowX))
        .map(box => `${box.className || box.tagName} is ${box.scrollWidth} pixels wide: ${box.textContent.trim().slice(0, 60)}`)""")


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


def test_what_answers_a_prediction_is_covered_until_it_is_asked_for(tab):
    hides = tab.page.locator(".lab-predict").evaluate_all("boxes => boxes.map(box => Number(box.dataset.hides))")
    assert bool(tab.covers) == (tab.address in CHAPTERS) and tab.covers <= sum(hides)
    assert len(tab.covered) >= tab.covers and [height for height in tab.covered if height >= 200] == []
    assert tab.page.locator(".lab-predict-covered").count() == 0        # they were asked for when the page was opened


def test_a_prediction_hides_its_answer_until_the_guess_and_survives_a_reload(tab):
    asked = tab.page.locator(".lab-predict")
    assert asked.count() == len(re.findall(r"^\s*predict\(", _source(tab.address), re.MULTILINE))
    guesses = [_guess(asked.nth(number)) for number in range(asked.count())]
    if tab.view != "wide":
        return
    if guesses:
        tab.page.reload(wait_until="load")
        tab.unfold()                # a question in a folded section is read there
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


QUERIES = yaml.safe_load(Path(__file__).with_name("search_queries.yml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def searching(chromium):
    page = chromium.new_page()
    yield page
    page.close()


@pytest.mark.parametrize("query", QUERIES)
def test_a_search_leads_first_to_the_section_that_one_means(searching, origin, query):
    searching.goto(f"{origin}/search.html?q={quote(query)}")
    first = searching.locator("#search-results li a").first
    first.wait_for(timeout=20_000)
    found = urlsplit(first.get_attribute("href"))
    assert f"{found.path}#{found.fragment}".removeprefix("chapters/") == QUERIES[query].replace("#", ".html#")


LOOKS = {
    "console": lambda tab: tab.errors,
    "files": lambda tab: tab.failed,
    "hosts": lambda tab: tab.elsewhere,
    "figures": lambda tab: tab.look("figures"),
    "labels": lambda tab: tab.look("labels"),
    "formulas": lambda tab: tab.look("formulas"),
    "edges": lambda tab: tab.look("edges"),
    "folds": lambda tab: tab.look("folds"),
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
    ("folds", "<details><summary>nothing</summary></details>"),
    ("folds", "<details><summary onclick='event.preventDefault()'>stays shut</summary><p>text</p></details>"),
    ("folds", "<details><summary>covered</summary><p>text</p></details><div style='position:fixed;inset:0'></div>"),
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
    sound = f"<p>sound, for 5 $ or 6 $</p>{TWO_LABELS.format(120)}<img src=here.svg alt=dot>" \
            "<details><summary>fold</summary><p>text</p></details>"
    with _shown(chromium, tmp_path, sound) as tab:
        assert not any(said := {aspect: look(tab) for aspect, look in LOOKS.items()}.values()), said


@pytest.mark.parametrize("aspect, markup", FAULTS)
def test_each_fault_that_is_looked_for_would_be_seen(chromium, tmp_path, aspect, markup):
    with _shown(chromium, tmp_path, markup) as tab:
        assert LOOKS[aspect](tab)


def test_tab_reaches_everything_shows_where_it_is_and_leaves_the_page(tab):
    if tab.view != "wide":
        pytest.skip("a phone has no Tab key")
    tab.unfold()
    stops, missed, unseen, caught = browser.walk(tab)
    asked = tab.page.locator("article summary, article .lab-predict, article .lab-explorer select").count()
    assert stops > asked + 10
    assert caught == ""
    assert missed == [] and unseen == []


def test_every_page_asks_at_its_end_what_was_unclear_and_names_page_and_commit(tab):
    """The last test of a tab: it leaves the focus where it pressed."""
    tab.page.get_by_role("button", name="unclear on this page").click()
    said = tab.page.get_by_label("The text to send").input_value()
    assert f"Address: {urlsplit(tab.page.url)._replace(fragment='').geturl()}\n" in said
    assert re.search(r"^Page: \S.*\nSection: The whole page\n", said) and re.search(r"commit [0-9a-f]{12}\n", said)
    tab.page.keyboard.press("Escape")
