"""A prediction: its HTML, its text, and what it does in a real browser (served over loopback)."""

import functools
import http.server
import re
import threading
from pathlib import Path

import numpy
import pytest
import torch

from lightvit_lab.cli.doctor import browser as browser_here
from lightvit_lab.errors import LabError
from lightvit_lab.exercises import examine, predict, prediction
from made_exercises import exercise as made

CHROMIUM = browser_here()
TOKENS = predict("How many tokens at 112 px?", answer=49, explain="`7 x 7`, one for each patch.")
TIME = predict("How long does one picture take?", answer=2.5, unit="ms")
SCORE = predict("How accurate?", answer=99.6, unit="%", distance="points")
WINNER = predict("Which wins?", answer="CNN", choices=["ViT", "CNN"], explain="At this size.")


# --- HTML and text

def test_everything_the_page_is_given_is_escaped():
    question = 'Is 1 < 2 & "3"?<script>alert(1)</script>'
    html = predict(question, answer="<b>", choices=["<b>", 'a"b'], explain="<i>so</i>")._repr_html_()
    assert html.count("<script>") == 1
    assert not any(raw in html for raw in ("alert(1)</script><", "<b>", "<i>", 'value="a"b"'))
    assert "&lt;script&gt;alert(1)" in html and "&lt;i&gt;so&lt;/i&gt;" in html


def test_the_same_question_has_the_same_id_and_another_question_another():
    assert predict("How many?", answer=1).id == predict("How many?", answer=2).id != predict("How much?", answer=1).id


def test_a_key_keeps_the_guess_of_a_question_whose_text_has_a_measured_number():
    one, other = (predict(f"It took {seconds} s. How many tokens?", answer=1, key="page.tokens") for seconds in (2.31, 2.35))
    assert one.id == other.id and one._repr_html_().count(one.id) > 1
    assert predict("Which?", answer="a", choices=["a", "b"], key="page.tokens").id == one.id
    assert predict("How many?", answer=1).id == "lab-predict-ba352e24c64c"      # what browsers keep by the question stays
    assert one.id != predict(one.question, answer=1).id
    for key in ("", " ", 3):
        with pytest.raises(LabError, match="key="):
            predict("q", answer=1, key=key)


def test_the_html_is_self_contained_and_has_a_fold_for_readers_without_javascript():
    html = TOKENS._repr_html_()
    assert html.count("<details") == html.count("<script>") == 1
    assert "<summary>The answer</summary>49." in html
    assert not any(outside in html for outside in ("src=", "href=", "http:", "https:", "import"))
    assert "lightvit-lab:predict:" in html and f'id="{TOKENS.id}"' in html


def test_the_text_shows_the_question_and_the_way_to_reveal_but_not_the_answer():
    assert "How many tokens" in repr(TOKENS) and "reveal" in repr(TOKENS)
    assert "49" not in repr(TOKENS)
    assert "ViT, CNN" in repr(WINNER) and "size" not in repr(WINNER)


@pytest.mark.parametrize("guess, expected", [
    (49, "You said 49, it is 49: right."), (10, "You said 10, it is 49: 4.9 times too low."),
    (48, "1.02 times too low"), (98, "2.0 times too high"), (49000, "You said 49,000, it is 49: 1,000 times too high."),
    (0, "it is 49: too low."), (-49, "it is 49: too low."), (49.1, "slightly too high"),
    (torch.tensor(10), "4.9 times")])
def test_the_reveal_says_by_what_factor_a_guess_was_off(guess, expected):
    assert expected in TOKENS.reveal(guess)


def test_units_fractions_and_zero_are_said_well():
    assert TIME.reveal(5) == "You said 5 ms, it is 2.5 ms: 2.0 times too high."
    assert "right" in TIME.reveal(2.51) and "right" not in TIME.reveal(2.6)
    assert "it is 0: too high" in predict("Zero?", answer=0).reveal(3)
    assert "it is 1,254,000" in predict("MACs?", answer=1_254_000).reveal(1)
    assert "it is 0.01235" in predict("Share?", answer=0.0123456).reveal(1)
    assert "right" in predict("About?", answer=100, tolerance=0.1).reveal(109)


def test_accuracies_are_told_in_points_and_costs_by_factors():
    assert SCORE.reveal(80) == "You said 80 %, it is 99.6 %: 20 points too low."
    assert SCORE.reveal(97.2).endswith("2.4 points too low.") and SCORE.reveal(99).endswith("right.")
    assert predict("More?", answer=2.0, unit="points", distance="points", tolerance=0.1).reveal(3).endswith("1.0 points too high.")
    with pytest.raises(LabError, match="distance"):
        predict("q", answer=1, distance="percent")
    with pytest.raises(LabError, match="hides"):
        predict("q", answer=1, hides=-1)


def test_choices_are_right_or_wrong():
    assert WINNER.reveal("CNN") == "You said CNN: right. At this size."
    assert WINNER.reveal("ViT") == "You said ViT: it is CNN. At this size."


def test_an_answer_may_come_out_of_a_computation():
    assert predict("How many?", answer=torch.tensor(196)).answer == 196
    assert predict("How many?", answer=numpy.float32(0.5)).answer == 0.5


@pytest.mark.parametrize("arguments, expected", [
    ({"question": " ", "answer": 1}, "question"), ({"question": None, "answer": 1}, "question"),
    ({"question": "q", "answer": float("nan")}, "finite"), ({"question": "q", "answer": float("inf")}, "finite"),
    ({"question": "q", "answer": "49"}, "finite"), ({"question": "q", "answer": True}, "finite"),
    ({"question": "q", "answer": torch.ones(2)}, "finite"),
    ({"question": "q", "answer": 1, "tolerance": -1}, "tolerance"),
    ({"question": "q", "answer": "CNN", "choices": ["CNN"]}, "at least two"),
    ({"question": "q", "answer": "CNN", "choices": ["CNN", "CNN"]}, "only once"),
    ({"question": "q", "answer": "CNM", "choices": ["CNN", "ViT"]}, 'Did you mean "CNN"')])
def test_a_prediction_that_cannot_work_is_refused(arguments, expected):
    with pytest.raises(LabError, match=expected):
        predict(**arguments)


def test_a_guess_that_is_no_number_or_no_choice_is_refused():
    with pytest.raises(LabError, match="finite number"):
        TOKENS.reveal("many")
    with pytest.raises(LabError, match='Did you mean "ViT"'):
        WINNER.reveal("VIT")


# --- in a browser

@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason='needs Playwright: pip install "lightvit-lab[test]"')
    if CHROMIUM is None:
        pytest.skip("needs a browser: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A static page with three predictions and two checks, light and dark; yields its address."""
    folder = tmp_path_factory.mktemp("site")
    exercise = made("sample.count", 196)
    parts = [TOKENS, TIME, SCORE, WINNER, examine(exercise, 196), examine(exercise, 4)]
    body = "".join(f"<div>{part._repr_html_()}</div>" for part in parts)
    for theme, colours in (("light", "#fff;color:#222"), ("dark", "#14181e;color:#ced6dd;color-scheme:dark")):
        (folder / f"{theme}.html").write_text(
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><link rel="icon" href="data:,">'
            f'<title>{theme}</title></head><body style="background:{colours}"><main><h1>Sample</h1>{body}</main></body>'
            "</html>", encoding="utf-8")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture
def page(browser, site):
    """The light page in a fresh profile; no error may reach its console."""
    with browser.new_context() as context:
        opened, errors = context.new_page(), []
        opened.on("pageerror", lambda error: errors.append(str(error)))
        opened.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        opened.set_default_timeout(5000)
        opened.goto(f"{site}/light.html")
        yield opened
        assert errors == []


def said(page, prediction):
    """What the live region of a prediction says."""
    return page.locator(f"#{prediction.id} [role=status]").inner_text().strip()


def commit(page, prediction, guess):
    """Type a guess and press Enter, no mouse."""
    page.locator(f"#{prediction.id}").get_by_label("Your guess").fill(str(guess))
    page.keyboard.press("Enter")


def test_a_committed_guess_is_judged_and_survives_a_reload(page):
    commit(page, TOKENS, 10)
    expected = TOKENS.reveal(10).replace("`", "")
    assert said(page, TOKENS) == expected
    page.reload()
    assert said(page, TOKENS) == expected
    assert said(page, TIME) == ""
    assert not page.locator(f"#{TOKENS.id} form").is_visible()


def test_guess_again_forgets_the_guess_and_gives_the_field_the_focus(page):
    commit(page, TOKENS, 10)
    assert page.evaluate("document.activeElement.textContent") == "Guess again"
    page.keyboard.press("Enter")
    assert said(page, TOKENS) == "" and page.evaluate("document.activeElement.tagName") == "INPUT"
    page.reload()
    assert said(page, TOKENS) == "" and page.locator(f"#{TOKENS.id} form").is_visible()


@pytest.mark.parametrize("prediction, guesses", [
    pytest.param(TOKENS, (49, 10, 48, 49.1, 98, 49000, 0, -3), id="count"),
    pytest.param(TIME, (2.51, 5, 0.3, 2.4), id="time"), pytest.param(SCORE, (80, 97.2, 99, 120), id="points")])
def test_the_browser_says_what_the_library_says(page, prediction, guesses):
    for guess in guesses:
        commit(page, prediction, guess)
        assert said(page, prediction) == prediction.reveal(guess).replace("`", "")
        page.locator(f"#{prediction.id}").get_by_text("Guess again").click()


NUMBERS = {-0.0: "0", 7: "7", 9999: "9,999", 12345: "12,345", 12345.6: "12,346", 12344.5: "12,345",
           -12344.5: "-12,345", 1254321.4: "1,254,321", 1e6: "1,000,000", 1234.5: "1,235", 9999.7: "10,000", 2.0625: "2.063",
           1.0005: "1.001", 0.0123456: "0.01235", 0.00012344: "0.0001234", 0.00001: "1e-5", 0.0000123456: "1.235e-5",
           999999999999999: "999,999,999,999,999", 1e15: "1e15", 1.23456e18: "1.235e18", -9.9996e20: "-1e21", 99.5: "99.5"}


def test_the_library_the_question_and_the_page_of_guesses_write_a_number_alike(page):
    assert {number: prediction._digits(number) for number in NUMBERS} == NUMBERS
    static = Path(__file__).parents[2] / "book" / "_static" / "guesses.js"
    for text, pattern, name in ((prediction._script(), r"function shown\(.*?\n  \}", "shown"),
                                (static.read_text(encoding="utf-8"), r"const digits = .*?\n  \};", "digits")):
        source = re.search(pattern, text, re.DOTALL)[0]
        written = page.evaluate(f"numbers => {{ {source}\nreturn numbers.map(number => {name}(number)); }}", list(NUMBERS))
        assert dict(zip(NUMBERS, written)) == NUMBERS


@pytest.mark.parametrize("asked, guesses", [
    pytest.param(predict("Points?", answer=0.0, distance="points"), (2.25, 12.5, 1234.5, 2.35), id="points"),
    pytest.param(predict("MACs?", answer=1_254_321, unit="MACs"), (12345.6, 1.5e6, 2e16, 1881481.5), id="factor")])
def test_verdicts_and_guesses_of_large_numbers_and_halves_are_said_alike(page, site, asked, guesses):
    page.route("**/asked.html", lambda route: route.fulfill(
        content_type="text/html", body=f"<!doctype html><title>x</title>{asked._repr_html_()}"))
    page.goto(f"{site}/asked.html")
    for guess in guesses:
        commit(page, asked, guess)
        assert said(page, asked) == asked.reveal(guess)
        page.get_by_text("Guess again").click()


def book_page(page, site, *outputs):
    """A page as the book has it: a cell for each of the outputs."""
    cell = '<div class="cell"><div class="cell_input"></div><div class="cell_output">{}</div></div>'
    style = (Path(__file__).parents[2] / "book" / "_static" / "lab.css").read_text(encoding="utf-8")
    page.route("**/lesson.html", lambda route: route.fulfill(
        content_type="text/html", body=f"<!doctype html><title>x</title><style>{style}</style>{''.join(map(cell.format, outputs))}"))
    page.goto(f"{site}/lesson.html")
    return page


TWO = TOKENS._repr_html_(), TIME._repr_html_()


@pytest.mark.parametrize("asked", [pytest.param(TWO, id="two cells"), pytest.param(["".join(TWO)], id="one cell")])
@pytest.mark.parametrize("first, second", [(TOKENS, TIME), (TIME, TOKENS)])
def test_an_output_that_answers_two_questions_is_covered_until_both_have_a_guess(page, site, asked, first, second):
    book_page(page, site, *asked, "<p>The answer to both.</p>")
    answer, boxes = page.get_by_text("The answer to both."), page.locator(".lab-predict-cover")
    assert not answer.is_visible() and boxes.count() == 1
    commit(page, first, 10)
    assert not answer.is_visible() and boxes.count() == 1
    page.reload()
    assert not answer.is_visible() and boxes.count() == 1
    commit(page, second, 3)
    assert answer.is_visible() and boxes.count() == 0
    page.reload()
    assert answer.is_visible()


def test_asking_to_see_an_output_that_answers_two_questions_shows_it_at_once(page, site):
    book_page(page, site, *TWO, "<p>The answer to both.</p>")
    page.get_by_role("button", name="show it").click()
    assert page.get_by_text("The answer to both.").is_visible()


@pytest.fixture
def lesson(page, site):
    """A page as the book has it: cells with a question, and with outputs that may answer it."""
    cell = '<div class="cell"><div class="cell_input"></div><div class="cell_output">{}</div></div>'
    cells = [cell.format("<p>before</p>"), cell.format(TOKENS._repr_html_()), '<div class="cell"></div>',
             cell.format('<p class="answer">It is 49.</p>'), cell.format('<p class="later">Later.</p>')]
    style = (Path(__file__).parents[2] / "book" / "_static" / "lab.css").read_text(encoding="utf-8")
    page.route("**/lesson.html", lambda route: route.fulfill(
        content_type="text/html", body=f"<!doctype html><title>x</title><style>{style}</style><main>{''.join(cells)}</main>"))
    page.goto(f"{site}/lesson.html")
    return page


def test_the_next_output_of_a_page_is_covered_until_a_guess_is_made(lesson):
    answer = lesson.get_by_text("It is 49.")
    assert not answer.is_visible() and lesson.get_by_text("Later.").is_visible() and lesson.get_by_text("before").is_visible()
    commit(lesson, TOKENS, 10)
    assert answer.is_visible() and lesson.locator(".lab-predict-cover").count() == 0
    lesson.reload()
    assert answer.is_visible(), "who has guessed sees it at once"


def test_the_cover_can_be_taken_off_and_paper_has_none(lesson):
    lesson.emulate_media(media="print")
    assert lesson.get_by_text("It is 49.").is_visible() and not lesson.get_by_text("show it").is_visible()
    lesson.emulate_media(media="screen")
    lesson.get_by_role("button", name="show it").focus()
    lesson.keyboard.press("Enter")
    assert lesson.get_by_text("It is 49.").is_visible() and said(lesson, TOKENS) == ""


def test_choices_are_answered_from_the_keyboard(page):
    box = page.locator(f"#{WINNER.id}")
    box.get_by_label("ViT").focus()
    page.keyboard.press("Space")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert said(page, WINNER) == WINNER.reveal("ViT")
    page.reload()
    assert said(page, WINNER) == WINNER.reveal("ViT")


def test_committing_to_nothing_reveals_nothing(page):
    page.locator(f"#{TOKENS.id}").get_by_role("button", name="Commit").click()
    page.locator(f"#{WINNER.id}").get_by_role("button", name="Commit").click()
    assert said(page, TOKENS) == "Give a number first." and said(page, WINNER) == "Choose one first."
    assert not page.get_by_text("The answer").first.is_visible()


def test_running_the_script_again_changes_nothing(page):
    commit(page, TIME, 5)
    page.evaluate("""document.querySelectorAll("script").forEach(function (old) {
        var again = document.createElement("script");
        again.textContent = old.textContent;
        document.body.append(again); })""")
    assert said(page, TIME) == TIME.reveal(5)
    page.evaluate("() => { window.writes = 0; Storage.prototype.setItem = function () { window.writes += 1; }; }")
    commit(page, TOKENS, 10)
    assert page.evaluate("window.writes") == 1


def test_blocked_or_spoilt_storage_does_no_harm(page, site):
    key = page.locator(f"#{TOKENS.id}").get_attribute("data-key")
    page.evaluate("key => localStorage.setItem(key, '{spoilt')", key)
    page.reload()
    assert said(page, TOKENS) == ""
    page.context.add_init_script(
        "Object.defineProperty(window, 'localStorage', {get() { throw new DOMException('x', 'SecurityError'); }})")
    page.goto(f"{site}/light.html")
    commit(page, TOKENS, 10)
    assert said(page, TOKENS) == TOKENS.reveal(10).replace("`", "")


def test_without_javascript_the_answer_stands_in_a_fold(browser, site):
    with browser.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(f"{site}/light.html")
        box = page.locator(f"#{TOKENS.id}")
        assert box.get_by_text("The answer").is_visible() and not box.locator("form").is_visible()
        box.get_by_text("The answer").click()
        assert "49" in box.locator("details").inner_text()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious_before_and_after_a_guess(page, site, theme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe: make test installs it")
    page.goto(f"{site}/{theme}.html")
    for guess in (None, 10):
        if guess is not None:
            commit(page, TOKENS, guess)
        found = axe.Axe().run(page).response["violations"]
        assert [item["id"] for item in found if item["impact"] in ("serious", "critical")] == []
