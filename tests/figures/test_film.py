"""Figures that move: one state at a time, its caption with it; all that a reader without JavaScript or on paper needs."""

import re

import pytest
import torch

from lightvit_lab.errors import LabError
from lightvit_lab.figures.film import MILLISECONDS, State, film, pictures

STATES = [State(f"step {n}", f"<b>drawing {n}</b>", f"After {n} < 9 steps.") for n in range(4)]


def make(**changed):
    return film(STATES, "A number that grows", "steps", "It grows by one a step.", **{"start": 2, **changed})


def test_it_opens_at_its_start_and_all_states_are_there_with_escaped_captions():
    html = make(table={"step": [0, 1], "value": [0.5, 2]}).html
    shown = re.findall(r'<div class="lab-film-state( lab-film-now)?"><b>drawing (\d)</b>', html)
    assert shown == [("", "0"), ("", "1"), (" lab-film-now", "2"), ("", "3")]
    assert "After 3 &lt; 9 steps." in html and 'value="2"' in html and ">step 2</output>" in html
    assert '<th scope="row">1</th><td>2</td>' in html and "It grows by one a step." in html
    assert 'aria-label="A number that grows"' in html and "lab-card-said" not in html.split("<style>")[1].split("</style>")[1].split("<script>")[0]


@pytest.mark.parametrize("changed, said", [({"start": 4}, "start=4"), ({"start": -1}, "start=-1"), ({"start": 0.5}, "whole number")])
def test_a_start_that_is_no_state_is_refused(changed, said):
    with pytest.raises(LabError, match=said):
        make(**changed)


def test_one_state_is_no_film_and_a_finding_is_a_sentence():
    with pytest.raises(LabError, match="1 states; give at least two"):
        film(STATES[:1], "name", "steps", "It grows by one.", 0)
    with pytest.raises(LabError, match="say in one sentence"):
        film(STATES, "name", "steps", "Grows", 0)


def test_pictures_stand_side_by_side_with_their_words():
    html = pictures(torch.rand(2, 3, 4, 4), ["a <cat>", "dog"], alts=["a cat, half hidden", "a dog"])
    assert html.count("data:image/png;base64,") == 2 and 'alt="a cat, half hidden"' in html
    assert "<figcaption>a &lt;cat&gt;</figcaption>" in html


@pytest.fixture(scope="module")
def address(stand_alone):
    return stand_alone('<div style="height:3000px"></div>', make().html) + "/page.html"


def open_page(chromium, address, **settings):
    page = chromium.new_page(**settings)
    page.goto(address)
    return page, page.locator(".lab-film-state"), page.locator("input[type=range]")


def test_keys_move_it_and_its_play_button_plays_it(chromium, address):
    page, states, slider = open_page(chromium, address, reduced_motion="reduce")
    assert [states.nth(n).is_visible() for n in range(4)] == [False, False, True, False]
    slider.focus()
    page.keyboard.press("Home")
    assert states.nth(0).is_visible() and page.locator("output").inner_text() == "step 0"
    page.locator("button").click()
    page.wait_for_timeout(4 * MILLISECONDS)
    assert states.nth(3).is_visible() and slider.input_value() == "3"
    page.close()


def test_it_plays_when_scrolled_to_unless_less_motion_is_wanted_or_the_reader_has_begun(chromium, address):
    for settings, first, played in ((dict(reduced_motion="no-preference"), None, True),
                                    (dict(reduced_motion="reduce"), None, False),
                                    (dict(reduced_motion="no-preference"), "Home", False)):
        page, _, slider = open_page(chromium, address, **settings)
        if first:
            page.evaluate("document.querySelector('input').value = 1; document.querySelector('input').dispatchEvent("
                          "new Event('input', {bubbles: true}))")
        page.wait_for_timeout(300)
        assert slider.input_value() == ("1" if first else "2"), "it plays before it is reached"
        page.locator(".lab-card-drawing").scroll_into_view_if_needed()
        page.wait_for_timeout(300)
        assert slider.input_value() == ("0" if played else "1" if first else "2")
        page.close()


def test_paper_shows_the_last_state_and_without_scripts_the_first_shown_stands_there(chromium, address):
    page, states, _ = open_page(chromium, address)
    page.emulate_media(media="print")
    assert [states.nth(n).is_visible() for n in range(4)] == [False, False, False, True]
    page.close()
    context = chromium.new_context(java_script_enabled=False)
    page, states, slider = open_page(context, address)
    assert states.nth(2).is_visible() and not slider.is_visible()
    context.close()
