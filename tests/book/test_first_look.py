"""The first screen: two sentences, two links and a picture whose words are what a model of the zoo does."""

import re
from xml.etree import ElementTree

import diagrams
import first_look
import pytest
import torch

from lightvit_lab import training

INTRO = (first_look.ROOT / "book" / "intro.md").read_text(encoding="utf-8")
PATH = diagrams.FOLDER / f"{first_look.NAME}.svg"
DRAWN = ElementTree.fromstring(PATH.read_text(encoding="utf-8"))
LABELS = [label.text for label in DRAWN.iter(diagrams.SVG + "text")]


def test_what_it_is_for_whom_and_where_to_begin_is_said_in_two_sentences_above_buttons_and_picture():
    first, buttons, picture = INTRO.split("\n\n")[1:4]
    assert len(re.findall(r"[.?!](?:\s|$)", first)) == 2 and len(first.split()) < 75
    for word in ("students", "Vision Transformers", "start with"):
        assert word in first
    links = re.findall(r"\]\((\S+)\)\{\.lab-button", buttons)
    assert len(links) == 2 and links[0].endswith("vision_transformer.md")
    assert all((first_look.ROOT / "book" / link).is_file() for link in links)
    assert picture.startswith(f"```{{diagram}} {first_look.NAME}\n")


def test_the_drawing_is_light_and_says_in_words_what_its_labels_say():
    assert PATH.stat().st_size < 150_000
    said = DRAWN.findtext(diagrams.SVG + "desc")
    numbers = re.findall(r"[\d.]+%", " ".join(LABELS))
    assert len(LABELS) == 9 and [one for one in numbers[1:] if one not in said] == []
    assert f"{first_look.COUNT:,} test" in said and f"{first_look.COUNT:,} test" in " ".join(INTRO.split())


@pytest.fixture(scope="module")
def measured():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(first_look, "COUNT", 200)
        yield first_look.panels()


def test_the_labels_are_what_the_model_of_the_zoo_does(measured):
    for index, panel in enumerate(measured):
        patches, work, right = LABELS[3 * index:3 * index + 3]
        assert (patches, work) == panel.words[:2]
        low, high = training.wilson_interval(round(200 * panel.right), 200)
        assert low <= float(right.split("%")[0]) / 100 <= high, right
    assert [len(panel.kept) for panel in measured] == list(first_look.KEPT)
    where = ", ".join(f"{panel.touching} of {len(panel.kept)}" for panel in measured[1:])
    assert f"{where} touch the triangle" in DRAWN.findtext(diagrams.SVG + "desc")


def test_a_picture_that_the_model_does_not_know_is_refused(monkeypatch):
    monkeypatch.setattr(first_look, "COUNT", 20)
    monkeypatch.setattr(first_look.token_pruning, "prune_tokens", lambda *_, **__: lambda _: -torch.eye(10)[:1])
    monkeypatch.setattr(first_look.token_pruning, "kept_patches", lambda *_: [torch.zeros(1, 4)])
    with pytest.raises(first_look.LabError, match="with 16 patches the model does not know"):
        first_look.panels()
