"""Figures under simulated colour-vision deficiencies (Machado et al. 2009, severity 1) and without colour at all."""

import re
from itertools import combinations
from pathlib import Path

import pytest

from lightvit_lab.figures import display, efficiency, overlay

coloraide = pytest.importorskip("coloraide", reason="simulates colour vision; pip install -e .[test] brings it")
Color = coloraide.Color
VISIONS = ("normal", "protan", "deutan", "tritan", "grey")
APART = 10        # CIEDE2000; 1 is just noticeable side by side, 2 to 10 at a glance
ON_WHITE = 2.8    # WCAG 1.4.11 asks 3 for lines and markers; one colour comes to 2.86 for deuteranopes alone


def seen(colour, vision):
    """A colour as somebody with that kind of vision sees it."""
    colour = Color(colour)
    if vision == "grey":
        return colour.filter("grayscale").convert("srgb").clip()
    return (colour if vision == "normal" else colour.filter(vision, method="machado")).convert("srgb").clip()


def closest_pair(colours, vision):
    """The CIEDE2000 distance of the two colours most alike, and which they are."""
    return min((seen(one, vision).delta_e(seen(other, vision), method="2000"), one, other)
               for one, other in combinations(colours, 2))


def test_the_simulation_is_that_of_machado_et_al():
    """Pure green in linear RGB becomes the second column of their table for protanopia."""
    red, green, blue = Color("srgb-linear", [0, 1, 0]).filter("protan", method="machado").convert("srgb-linear").coords()
    assert (red, green, blue) == pytest.approx((1.052583, 0.786281, -0.048116), abs=1e-4)


def test_the_distance_is_ciede2000():
    """A pair of Sharma, Wu and Dalal's test data (2005)."""
    one, other = Color("lab-d65", [50, 2.6772, -79.7751]), Color("lab-d65", [50, 0, -82.7485])
    assert one.delta_e(other, method="2000") == pytest.approx(2.0425, abs=1e-3)


@pytest.mark.parametrize("vision", VISIONS[:4])
@pytest.mark.parametrize("colours", [display.COLOURS, [display.DARK[colour] for colour in display.COLOURS]], ids=["light", "dark"])
def test_every_two_series_differ_by_colour_for_every_reader_who_sees_colour(vision, colours):
    distance, one, other = closest_pair(colours, vision)
    assert distance >= APART, f"{one} and {other} look alike ({distance:.1f})"


def test_two_colours_that_look_alike_to_some_would_be_seen():
    """Orange and dark gold, which this book had once, are one colour to deuteranopes."""
    assert closest_pair(["#D55E00", "#B8860B"], "normal")[0] > APART > closest_pair(["#D55E00", "#B8860B"], "deutan")[0]


@pytest.mark.parametrize("kind", ["marker", "line"])
def test_every_two_series_differ_without_colour_by_marker_and_by_dash(kind):
    looks = [display.style(index)[kind] for index in range(len(display.COLOURS))]
    assert len({look["symbol" if kind == "marker" else "dash"] for look in looks}) == len(looks) == 7


def test_bars_differ_without_colour_by_pattern():
    names = "abcde"
    figure = efficiency.errors_by_counter({name: {"model": 0.1} for name in names})
    assert len({trace.marker.pattern.shape for trace in figure.data}) == len(names)


@pytest.mark.parametrize("vision", VISIONS)
def test_every_series_and_the_looking_patch_stand_out_from_white(vision):
    pale = {colour: ratio for colour in (*display.COLOURS, overlay.QUERY)
            if (ratio := seen(colour, vision).contrast("white", method="wcag21")) < ON_WHITE}
    assert pale == {}


@pytest.mark.parametrize("vision", VISIONS)
def test_brighter_is_more_on_maps_for_every_reader(vision):
    stops = [seen("rgb({} {} {})".format(*stop), vision).convert("lab-d65")["lightness"] for stop in overlay.SCALE]
    steps = [after - before for before, after in zip(stops, stops[1:])]
    assert min(steps) > 0 and stops[-1] - stops[0] > 60


def test_maps_use_no_other_scale():
    for path in Path(display.__file__).parent.glob("*.py"):
        named = re.findall(r"colorscale=(?:dict\(sequential=)?[\"'](\w+)", path.read_text(encoding="utf-8"))
        assert set(named) <= {"Cividis"}, path.name
    assert display.TEMPLATE.layout.colorscale.sequential[0][1] == "#00224e"
