"""The control "Was something unclear?" in a real browser, on a small page: its text, its keys, its words without scripts."""

import re

import browser
import lab_feedback
import pytest

CHROMIUM = browser.chromium()
if CHROMIUM is None:
    pytest.skip("needs a browser: apt-get install chromium", allow_module_level=True)
sync_api = pytest.importorskip("playwright.sync_api", reason='needs Playwright: pip install "lightvit-lab[test]"')

STATIC = browser.ROOT / "book" / "_static"
FILES = ("feedback.js", "feedback.css", "lab.css", "print.css")
ISSUES = "https://example.org/lab/issues/new"
HTML = """<!doctype html><html lang="en" data-theme="{theme}"><head><meta charset="utf-8"><link rel="icon" href="data:,">
<title>A page</title><meta name="viewport" content="width=device-width">{styles}<script src="feedback.js"></script></head>
<body style="{colours}"><a class="btn-source-issues-button" href="{issues}?title=Issue%20on%20page">Open issue</a>
<main><article class="bd-article"><section id="a-page"><h1>A <em>page</em><a class="headerlink" href="#a-page">¶</a></h1>
<section id="one"><h2><span class="section-number">1.1. </span>The first &amp; best<a class="headerlink" href="#one">¶</a></h2>
<p>Words.</p></section>
<section id="two"><h2>More of it</h2><details class="lab-further"><summary>How.</summary><p>Folded words.</p></details></section>
</section>{control}</article></main></body></html>"""
LIGHT, DARK = "background:#fff;color:#222", "background:#14181e;color:#ced6dd;color-scheme:dark"
PROJECT = {"version": "1.2.3", "authors": [{"name": "Nobody"}]}
WITH_MAIL = {"version": "1.2.3", "authors": [{"name": "Nobody"}], "maintainers": [{"email": "lab@example.org"}]}
PAGES = {"chapter": (PROJECT, True, LIGHT), "mail": (WITH_MAIL, True, LIGHT), "plain": (PROJECT, False, LIGHT),
         "dark": (WITH_MAIL, True, DARK)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("site")
    for name in FILES:
        (made / name).write_bytes((STATIC / name).read_bytes())
    styles = "".join(f'<link rel="stylesheet" href="{name}">' for name in FILES if name.endswith("css"))
    for name, (project, sections, colours) in PAGES.items():
        control = lab_feedback.control(f"chapters/{name}", project, "abc123", sections)
        theme = "dark" if name == "dark" else "light"
        (made / f"{name}.html").write_text(HTML.format(styles=styles, control=control, colours=colours, theme=theme,
                                                       issues=ISSUES), encoding="utf-8")
    return made


@pytest.fixture(scope="module")
def site(folder):
    with browser.serve(folder) as address:
        yield address


@pytest.fixture(scope="module")
def chromium():
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture
def show(chromium, site):
    """Opens a page in a fresh profile, by default as its server gives it; no error may reach its console."""
    contexts, errors = [], []

    def opened(name="chapter", address=None, **how):
        contexts.append(chromium.new_context(**how))
        page = contexts[-1].new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.set_default_timeout(5000)
        page.goto(address or f"{site}/{name}.html")
        return page
    yield opened
    for context in contexts:
        context.close()
    assert errors == []


def ready(page):
    return page.get_by_label("The text to send").input_value().split("\n")


def test_a_section_s_question_opens_a_text_with_page_section_address_and_commit(show, site):
    page = show()
    page.get_by_role("button", name="in this section").first.click()
    assert ready(page) == ["Page: A page", "Section: The first & best", f"Address: {site}/chapter.html#one",
                           "Book: version 1.2.3, commit abc123", "", "What was unclear:", "(write it here)"]
    page.get_by_label("What was unclear?").fill("Why  a\nroot?")
    page.get_by_label("Which section?").select_option("More of it")
    assert ready(page)[1:3] == ["Section: More of it", f"Address: {site}/chapter.html#two"]
    assert ready(page)[-2:] == ["Why  a", "root?"]
    page.get_by_label("Which section?").select_option("The whole page")
    assert ready(page)[1:3] == ["Section: The whole page", f"Address: {site}/chapter.html"]


def test_there_is_one_form_and_it_stands_below_the_question_that_was_pressed_last(show):
    page = show()
    first, second = page.get_by_role("button", name="in this section").first, page.get_by_role("button", name="on this page")
    first.click()
    assert page.locator("#one > .lab-feedback-form").is_visible() and first.get_attribute("aria-expanded") == "true"
    second.click()
    assert page.locator(".lab-feedback-form").count() == page.locator(".lab-feedback > .lab-feedback-form").count() == 1
    assert (first.get_attribute("aria-expanded"), second.get_attribute("aria-expanded")) == ("false", "true")
    assert ready(page)[1] == "Section: The whole page"
    second.click()
    assert not page.locator(".lab-feedback-form").is_visible() and second.get_attribute("aria-expanded") == "false"


def test_a_folded_section_asks_inside_its_fold(show):
    page = show()
    question = page.locator("#two > details button")
    assert question.count() == 1 and not question.is_visible()
    page.locator("#two summary").click()
    question.click()
    assert ready(page)[1] == "Section: More of it"


def test_it_works_by_keys_alone_and_escape_leads_back(show):
    page = show()
    page.get_by_role("button", name="in this section").first.focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.closest('label').innerText").startswith("What was unclear?")
    page.keyboard.type("Everything")
    assert ready(page)[-1] == "Everything"
    page.keyboard.press("Escape")
    assert not page.locator(".lab-feedback-form").is_visible()
    assert page.evaluate("document.activeElement.innerText") == "Was something unclear in this section?"


def test_the_text_is_copied_and_where_the_browser_refuses_it_is_selected_and_says_so(show):
    page = show(permissions=["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="on this page").click()
    page.get_by_role("button", name="Copy the text").click()
    page.get_by_text("Copied.").wait_for()
    assert page.evaluate("navigator.clipboard.readText()").split("\n") == ready(page)
    page.evaluate("navigator.clipboard.writeText = () => Promise.reject(); document.execCommand = () => false")
    page.get_by_role("button", name="Copy the text").click()
    page.get_by_text("press Ctrl+C").wait_for()
    assert page.evaluate("[document.activeElement.selectionStart, document.activeElement.selectionEnd]") == [
        0, len("\n".join(ready(page)))]


def test_the_issue_link_carries_the_text_and_a_mail_link_is_there_where_an_address_is_named(show):
    page = show()
    page.get_by_role("button", name="in this section").first.click()
    href = page.locator(".lab-feedback-form").get_by_role("link", name="Open an issue").get_attribute("href")
    assert href.startswith(f"{ISSUES}?title=Unclear%3A%20A%20page&body=Page%3A%20A%20page%0ASection%3A%20The%20first%20%26%20best%0A")
    assert page.get_by_role("link", name="Write a mail").count() == 0
    page = show("mail")
    page.get_by_role("button", name="on this page").click()
    href = page.get_by_role("link", name="Write a mail").get_attribute("href")
    assert href.startswith("mailto:lab@example.org?subject=Unclear%3A%20A%20page&body=Page%3A%20A%20page%0A")


def test_a_book_on_disk_works_and_names_no_folder_of_the_machine(show, folder):
    page = show(address=(folder / "chapter.html").as_uri())
    page.get_by_role("button", name="in this section").first.click()
    assert ready(page)[2] == "Address: chapters/chapter.html#one"
    page.get_by_role("button", name="Copy the text").click()
    page.locator(".lab-feedback-form [role=status]").get_by_text(re.compile("Copied|Ctrl")).wait_for()


def test_a_page_that_is_no_chapter_asks_once_at_its_end(show):
    page = show("plain")
    assert page.get_by_role("button").all_inner_texts() == ["Was something unclear on this page?"]


def test_without_scripts_it_is_a_sentence_with_the_address_if_there_is_one(show):
    text = show(java_script_enabled=False).locator(".lab-feedback").inner_text()
    assert text.startswith("Was something unclear? Write to the person who gave you this book, or use the button Open issue")
    mail = show("mail", java_script_enabled=False).locator(".lab-feedback")
    assert mail.get_by_role("link", name="lab@example.org").get_attribute("href") == "mailto:lab@example.org"


@pytest.mark.parametrize("name", ["chapter", "mail", "dark"])
def test_axe_finds_nothing_serious_with_the_form_open_and_its_buttons_are_large_enough(chromium, site, name):
    with browser.open_tab(chromium, site, f"{name}.html", "phone") as tab:
        tab.page.get_by_role("button", name="on this page").click()
        assert browser.accessibility(tab) == [] and tab.look("edges") == []
        assert tab.page.get_by_label("The text to send").evaluate("text => text.scrollHeight <= text.clientHeight + 1")
        sizes = tab.page.locator(".lab-feedback-form :is(button, a, select), .lab-feedback-ask button").evaluate_all(
            "all => all.filter(one => one.checkVisibility()).map(one => one.getBoundingClientRect().height)")
        assert min(sizes) >= 24


def test_nothing_of_it_is_printed(show):
    page = show()
    page.get_by_role("button", name="on this page").click()
    page.emulate_media(media="print")
    assert not any(part.is_visible() for part in page.locator("[class^=lab-feedback]").all())


def test_the_address_is_the_first_that_the_project_names():
    assert lab_feedback.mail(PROJECT) == lab_feedback.mail({}) == ""
    assert lab_feedback.mail({"authors": [{"name": "A"}, {"email": "b@c"}], "maintainers": [{"email": "d@e"}]}) == "b@c"
