"""The page "Your guesses" in a real browser: what it says of guesses made on another page, and that it forgets them."""

import csv
import json
import re

import browser
import pytest

from lightvit_lab.exercises import predict

CHROMIUM = browser.chromium()
if CHROMIUM is None:
    pytest.skip("needs a browser: apt-get install chromium", allow_module_level=True)
sync_api = pytest.importorskip("playwright.sync_api", reason='needs Playwright: pip install "lightvit-lab[test]"')

TOKENS = predict("How many `tokens` & <b>patches</b>?", answer=49)
TIME = predict("How long?", answer=2.5, unit="ms")
ZERO = predict("How many are left?", answer=0)
SCORE = predict("How accurate?", answer=99.6, unit="%", distance="points")
WINNER = predict("Which wins?", answer="CNN", choices=["ViT", "CNN", "MLP"])
STATIC = browser.ROOT / "book" / "_static"
HTML = """<!doctype html><html lang="en"><head><meta charset="utf-8"><link rel="icon" href="data:,">
<title>{title}</title><meta name="viewport" content="width=device-width"><link rel="stylesheet" href="guesses.css">
<script src="guesses.js"></script></head>
<body style="{colours}"><main class="bd-article"><h1>{title}</h1>{body}</main></body></html>"""
LIGHT, DARK = "background:#fff;color:#222", "background:#14181e;color:#ced6dd;color-scheme:dark"


def raw_html():
    """What the page gives the script to work on."""
    source = (browser.ROOT / "book" / "my_guesses.md").read_text(encoding="utf-8")
    return re.search(r"```\{raw\} html\n(.*?)```", source, re.DOTALL)[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A small book: a page with predictions, and the page that sums them up, light and dark; gives its address."""
    folder = tmp_path_factory.mktemp("site")
    for name in ("guesses.js", "guesses.css"):
        (folder / name).write_bytes((STATIC / name).read_bytes())
    asked = "".join(prediction._repr_html_() for prediction in (TOKENS, TIME, ZERO, SCORE, WINNER))
    for name, title, body, colours in (("page", "A page", asked, LIGHT), ("guesses", "Your guesses", raw_html(), LIGHT),
                                       ("dark", "Your guesses", raw_html(), DARK)):
        (folder / f"{name}.html").write_text(HTML.format(title=title, body=body, colours=colours), encoding="utf-8")
    with browser.serve(folder) as address:
        yield address


@pytest.fixture(scope="module")
def chromium():
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture
def page(chromium, site):
    """A tab of a fresh profile on the page with predictions; no error may reach its console."""
    with chromium.new_context(accept_downloads=True) as context:
        opened, errors = context.new_page(), []
        opened.on("pageerror", lambda error: errors.append(str(error)))
        opened.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        opened.set_default_timeout(5000)
        opened.goto(f"{site}/page.html")
        yield opened
        assert errors == []


def guess(page, prediction, value):
    """Commit to a guess on the page with predictions, again if there is one already."""
    box = page.locator(f"#{prediction.id}")
    if box.get_by_text("Guess again").is_visible():
        box.get_by_text("Guess again").click()
    if prediction.choices:
        box.get_by_label(value).check()
    else:
        box.get_by_label("Your guess").fill(str(value))
    box.get_by_role("button", name="Commit").click()


def summed_up(page, name="guesses"):
    page.goto(page.url.rsplit("/", 1)[0] + f"/{name}.html")
    return page.locator("#lab-guesses [role=status]").inner_text()


def rows(page, number):
    """The body of a table of the page, as texts."""
    table = page.locator("#lab-guesses table").nth(number)
    return [[cell.strip() for cell in row.locator("th, td").all_inner_texts()]
            for row in table.locator("tbody tr").all()]


def test_without_guesses_it_says_so_and_offers_nothing(page):
    assert summed_up(page) == "No guesses are kept in this browser yet."
    assert page.locator("#lab-guesses table, #lab-guesses button, #lab-guesses h2").count() == 0


def test_numbers_choices_and_factors_are_summed_up(page):
    for prediction, value in ((TOKENS, 10), (TIME, 7.5), (ZERO, 3), (WINNER, "ViT")):
        guess(page, prediction, value)
    said = summed_up(page)
    assert "You have answered 4 questions, 0 of them right." in said
    assert "Of 2 numbers, the median is off by a factor of 3.8; 1 too low, 1 too high." in said   # root of 4.9 x 3
    assert "Of 1 choice, 0 are right; choosing blindly gives 0.33 on average." in said
    assert "So few numbers say little" in said
    assert [row[0::2] for row in rows(page, 0)] == [
        ["within a factor of 1.5", "0 of 2 (0 %)"], ["within a factor of 2", "0 of 2 (0 %)"],
        ["within a factor of 5", "2 of 2 (100 %)"], ["within a factor of 10", "2 of 2 (100 %)"]]
    widths = page.locator(".lab-guesses-bar > div").evaluate_all("bars => bars.map(bar => bar.style.width)")
    assert widths == ["0%", "0%", "100%", "100%"]


def test_accuracies_are_summed_up_in_points_and_no_factor_counts_them(page):
    for prediction, value in ((SCORE, 80), (TOKENS, 10)):
        guess(page, prediction, value)
    on_its_page = page.locator(f"#{SCORE.id} [role=status]").inner_text()
    said = summed_up(page)
    assert "The one accuracy is off by 20 points; 1 too low, 0 too high." in said
    assert "The one number is off by a factor of 4.9; 1 too low, 0 too high." in said
    assert rows(page, 0)[0][2] == "0 of 1 (0 %)"
    (verdict,) = [row[3] for row in rows(page, 1) if row[0] == "How accurate?"]
    assert verdict == "20 points too low" and verdict in on_its_page


def test_the_list_has_question_guess_answer_verdict_and_a_link_to_the_question(page, site):
    for prediction, value in ((TOKENS, 10), (TIME, 2.5), (ZERO, 3), (WINNER, "CNN")):
        guess(page, prediction, value)
    summed_up(page)
    assert rows(page, 1) == [
        ["How many tokens & <b>patches</b>?", "10", "49", "4.9 times too low"],
        ["How long?", "2.5 ms", "2.5 ms", "right"],
        ["How many are left?", "3", "0", "too high"], ["Which wins?", "CNN", "CNN", "right"]]
    page.get_by_role("link", name="How long?").click()
    page.wait_for_url(f"{site}/page.html#{TIME.id}")
    assert "You said 2.5 ms" in page.locator(f"#{TIME.id}").inner_text()


def test_the_first_guess_counts_even_after_a_better_one(page):
    guess(page, TOKENS, 10)
    guess(page, TOKENS, 49)
    assert page.locator(f"#{TOKENS.id} [role=status]").inner_text().startswith("You said 49")
    assert "1 question, 0 of them right" in summed_up(page)
    assert rows(page, 1)[0][1] == "10"


def test_a_question_asked_again_but_not_yet_answered_keeps_its_first_guess(page):
    guess(page, TOKENS, 10)
    page.locator(f"#{TOKENS.id}").get_by_text("Guess again").click()
    summed_up(page)
    assert rows(page, 1)[0][1] == "10"


OLD = {"guess": "10", "answer": "49", "right": False}


def keep(page, prediction, value):
    key = page.locator(f"#{prediction.id}").get_attribute("data-key")
    page.evaluate("([key, value]) => localStorage.setItem(key, value)", [key, value])


def test_a_guess_kept_by_an_earlier_edition_counts_and_gets_its_question_when_its_page_is_opened(page):
    keep(page, TOKENS, json.dumps(OLD))
    address = page.url
    assert "1 question, 0 of them right" in summed_up(page)
    question, *_, verdict = rows(page, 1)[0]
    assert question.startswith("A guess kept by an earlier edition") and verdict == "4.9 times too low"
    page.goto(address)
    assert page.locator(f"#{TOKENS.id} [role=status]").inner_text().startswith("You said 10, it is 49")
    summed_up(page)
    assert rows(page, 1)[0][0].startswith("How many tokens")


@pytest.mark.parametrize("spoilt", [
    "{spoilt", "null", "3", "[]", '"10"', "{}", '{"guess": 3, "answer": "49"}',
    '{"guess": "ten", "answer": "49", "kind": "number"}', '{"guess": "", "answer": "49"}', '{"guess": null, "first": null, "answer": "49"}'])
def test_what_is_no_guess_is_passed_over(page, spoilt):
    keep(page, TOKENS, spoilt)
    guess(page, TIME, 5)
    assert "You have answered 1 question" in summed_up(page)


def test_a_kept_page_that_is_not_of_this_site_becomes_no_link(page):
    for prediction, link in ((TOKENS, "javascript:alert(1)"), (TIME, "https://elsewhere.example/x"), (ZERO, 5)):
        keep(page, prediction, json.dumps(OLD | {"question": "Asked?", "page": link}))
    summed_up(page)
    assert [row[0] for row in rows(page, 1)] == ["Asked?"] * 3 and page.locator("#lab-guesses a").count() == 0


def test_markup_in_what_is_kept_stays_text(page):
    markup = "<img src=x onerror=alert(1)>"
    keep(page, WINNER, json.dumps({"guess": markup, "answer": "<b>", "question": "<i>?", "kind": "choice"}))
    summed_up(page)
    assert rows(page, 0)[0][:2] == ["<i>?", markup] and page.locator("#lab-guesses img").count() == 0


def test_forgetting_asks_first_and_then_removes_the_guesses_and_nothing_else(page):
    guess(page, TOKENS, 10)
    page.evaluate("localStorage.setItem('mode', 'dark')")
    summed_up(page)
    asked = []
    page.once("dialog", lambda dialog: (asked.append(dialog.message), dialog.dismiss()))
    page.get_by_role("button", name="Forget all guesses").click()
    assert asked == ["Forget 1 guess? This cannot be undone."] and len(rows(page, 1)) == 1
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Forget all guesses").focus()
    page.keyboard.press("Enter")
    assert page.locator("#lab-guesses").inner_text().strip() == "No guesses are kept in this browser yet."
    assert page.evaluate("document.activeElement.className") == "lab-guesses-said"
    assert page.evaluate("Object.keys(localStorage)") == ["mode"]


def test_the_saved_table_holds_every_guess(page, tmp_path):
    for prediction, value in ((TOKENS, 10), (WINNER, "CNN")):
        guess(page, prediction, value)
    summed_up(page)
    with page.expect_download() as download:
        page.get_by_role("button", name="Save as a table").click()
    download.value.save_as(tmp_path / "saved.csv")
    with open(tmp_path / "saved.csv", newline="", encoding="utf-8") as file:
        saved = list(csv.DictReader(file))
    assert download.value.suggested_filename == "my_guesses.csv"
    assert [(row["question"], row["guess"], row["answer"], row["right"]) for row in saved] == [
        (TOKENS.question, "10", "49", "false"), (WINNER.question, "CNN", "CNN", "true")]
    assert float(saved[0]["factor"]) == pytest.approx(10 / 49) and saved[0]["page"].endswith(f"#{TOKENS.id}")


def test_a_guess_made_in_another_tab_appears(page, site):
    summed_up(page)
    other = page.context.new_page()
    other.goto(f"{site}/page.html")
    guess(other, TOKENS, 10)
    page.get_by_text("You have answered 1 question").wait_for()


def test_blocked_storage_is_said_and_breaks_nothing(page, site):
    page.context.add_init_script(
        "Object.defineProperty(window, 'localStorage', {get() { throw new DOMException('x', 'SecurityError'); }})")
    assert "keep nothing" in summed_up(page)


def test_without_javascript_the_page_says_what_is_missing(chromium, site):
    with chromium.new_context(java_script_enabled=False) as context:
        opened = context.new_page()
        opened.goto(f"{site}/guesses.html")
        assert "needs JavaScript" in opened.locator("main").inner_text()


@pytest.mark.parametrize("name", ["guesses", "dark"])
def test_axe_finds_nothing_serious_with_guesses_and_without(page, name):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe: make test installs it")
    for prediction, value in ((None, None), (TOKENS, 10), (WINNER, "CNN")):
        if prediction:
            page.go_back()
            guess(page, prediction, value)
        summed_up(page, name)
        found = axe.Axe().run(page).response["violations"]
        assert [item["id"] for item in found if item["impact"] in ("serious", "critical")] == []


def test_nothing_is_wider_than_a_phone_and_every_control_is_reached_by_tab(page):
    for prediction, value in ((TOKENS, 10), (TIME, 5)):
        guess(page, prediction, value)
    page.set_viewport_size({"width": 390, "height": 844})
    summed_up(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    reached = []
    for _ in range(6):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.textContent.slice(0, 8)"))
    assert [text for text in reached if text in ("How many", "How long", "Save as ", "Forget a")] == [
        "How many", "How long", "Save as ", "Forget a"]
