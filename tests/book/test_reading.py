"""Each built page for readers without a mouse, without all colours, without eyes, and with something to say."""

import functools
import re
from urllib.parse import parse_qs, urlsplit

import browser
import pytest
from bs4 import BeautifulSoup

browser.skip_unless_asked()
pytestmark = pytest.mark.browser
PAGES = browser.pages()
LOOKED_AT = ["book/intro.html", "book/status.html", "chapters/foundations/measuring_efficiency.html"]
VISIONS = ("protan", "deutan", "tritan", "grey")
SENTENCE = re.compile(r"\S.*\w.*\.\s*$", re.DOTALL)


@functools.cache
def built(page):
    """What stands on a built page; read by the tests that ask, not by each process that collects them."""
    return BeautifulSoup((browser.HTML / page).read_text(encoding="utf-8"), "html.parser")


def name(page):
    return page.removesuffix(".html").split("/")[-1]


@pytest.mark.parametrize("markup, fault", [
    ("<a href=# style='outline:none;box-shadow:none'>pale</a>", "unseen"),
    ("<button style='opacity:0'>hidden</button>", "unseen"),
    ("<div tabindex=0 onkeydown='event.preventDefault()'>trap</div>", "caught"),
    ("<a href=# onfocus='last.focus()'>1</a><a href=#>2</a><a href=# id=last>3</a>", "missed"),
    ("<a href=#>sound</a><details><summary>fold</summary>text</details>", ""),
])
def test_each_fault_of_the_keyboard_would_be_seen(chromium, tmp_path, markup, fault):
    (tmp_path / "page.html").write_text(f"<!doctype html><title>t</title><link rel=icon href=data:,>{markup}")
    with browser.serve(tmp_path) as address, browser.open_tab(chromium, address, "page.html") as tab:
        _, missed, unseen, caught = browser.walk(tab)
    assert {"missed": bool(missed), "unseen": bool(unseen), "caught": bool(caught)} == {
        kind: kind == fault for kind in ("missed", "unseen", "caught")}


def test_folds_and_predictions_work_by_keys_alone(chromium, origin):
    with browser.open_tab(chromium, origin, "chapters/foundations/measuring_efficiency.html") as tab:
        fold = tab.page.locator("article details.hide > summary").first
        fold.focus()
        tab.page.keyboard.press("Enter")
        assert fold.evaluate("title => title.parentElement.open")
        question = tab.page.locator(".lab-predict:has(input[type=number])").first
        question.locator("input").focus()
        tab.page.keyboard.type("7.5")
        tab.page.keyboard.press("Enter")
        assert question.locator(".lab-predict-reveal").inner_text().startswith("You said 7.5")


@pytest.mark.parametrize("page", LOOKED_AT, ids=name)
def test_text_stays_legible_for_colour_blind_readers(chromium, origin, page):
    coloraide = pytest.importorskip("coloraide")
    with browser.open_tab(chromium, origin, page) as tab:
        for theme in ("light", "dark"):
            tab.use_theme(theme)
            pairs = text_colours(tab)
            assert len(pairs) >= 5
            pale = [f"{theme}, {vision}: {text} on {ground} {ratio:.2f}" for text, ground, least in pairs
                    for vision in VISIONS if (ratio := contrast(coloraide.Color, text, ground, vision)) < least]
            assert pale == []


def text_colours(tab):
    """The colours of text and ground that occur on a page, and the contrast that WCAG asks of them: what axe sees."""
    checks = [check.get("data") or {} for rule in browser.axe(tab, contrast=True, result="passes")["passes"]
              for node in rule["nodes"] for check in node["any"]]
    return {(data["fgColor"], data["bgColor"], float(data["expectedContrastRatio"].split(":")[0]))
            for data in checks if data.get("fgColor")}


def contrast(Color, text, ground, vision):
    """Contrast by WCAG between two colours as that vision sees them; Machado et al. (2009), or no colour at all."""
    def seen(colour):
        colour = Color(colour)
        found = colour.filter("grayscale") if vision == "grey" else colour.filter(vision, method="machado")
        return found.convert("srgb").clip()
    return seen(text).contrast(seen(ground), method="wcag21")


def test_a_text_legible_to_some_alone_would_be_seen():
    coloraide = pytest.importorskip("coloraide")
    assert coloraide.Color("#176de8").contrast("white", method="wcag21") > 4.5
    assert contrast(coloraide.Color, "#176de8", "white", "protan") < 4.5


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_figure_and_picture_says_in_a_sentence_what_is_to_be_seen(page):
    article = built(page).article
    said = [figure.get("aria-label", "") for figure in article.select(".lab-figure")]
    said += [image.get("alt", "") for image in article.select(".lab-explorer-still")]
    assert [text for text in said if not SENTENCE.fullmatch(text) or len(text.split()) < 6] == []
    stills = article.select(".lab-figure noscript > img.lab-still")      # of a figure that says it already
    assert [image["src"][:60] for image in article.select("img") if not image.get("alt") and image not in stills] == []
    source = (browser.ROOT / page).with_suffix(".md").read_text(encoding="utf-8")
    shown = len(re.findall(r"^ *show\(", source, re.MULTILINE))
    assert len(said) >= shown + len(re.findall(r"^ *figures\.explorer\(", source, re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_page_has_a_button_that_opens_an_issue_with_its_name(page):
    import tomllib

    project = tomllib.loads((browser.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    buttons = built(page).select("a.btn-source-issues-button")
    assert len(buttons) == 1 and buttons[0].get_text(strip=True) == "Open issue"
    address = urlsplit(buttons[0]["href"])
    assert f"{address.scheme}://{address.netloc}{address.path}" == f"{project['urls']['Repository']}/issues/new"
    assert parse_qs(address.query)["title"] == [f"Issue on page /{page}"]


FIRST_SCREEN = """() => [...document.querySelectorAll("article h1, article p:has(.lab-button), article .lab-drawing > svg")]
  .map(one => one.getBoundingClientRect()).map(box => [box.top, box.bottom, innerHeight])"""


@pytest.mark.parametrize("view", ["wide", "phone"])
def test_what_the_book_is_where_to_begin_and_a_picture_stand_on_the_first_screen(chromium, origin, view):
    with browser.open_tab(chromium, origin, "book/intro.html", view) as tab:
        places = tab.page.evaluate(FIRST_SCREEN)
        assert len(places) == 3 and all(0 <= top < bottom <= screen for top, bottom, screen in places), places
        target = tab.page.locator("a.lab-button").first.bounding_box()
        assert target["height"] >= 44                               # for a finger
        tab.page.locator("a.lab-button").first.click()
        tab.page.wait_for_url("**/vision_transformer.html")


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_a_shared_link_shows_the_question_of_the_page_and_a_picture_that_is_there(page):
    said = {one.get("property") or one.get("name"): one["content"] for one in built(page).head.select("meta[content]")}
    assert len(built(page).head.select("meta[name=viewport]")) == 1
    assert said["description"] == said["og:description"] and len(said["description"].split()) >= 5
    assert (browser.HTML / page).parent.joinpath(said["og:image"]).resolve().is_file() or said["og:image"].startswith("https:")
    if page.startswith("chapters/"):
        first = built(page).article.select_one("section > p:not(.lab-road)")
        question = " ".join(first.get_text().split())
        assert question.startswith(said["description"].removesuffix(" …"))
