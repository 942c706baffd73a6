"""The map of the introduction: complete, linked where a page exists, honest where none does."""

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import forked
import lessons
import pytest
import taxonomy_map
from sphinx.cmd.build import main as sphinx_build

from lightvit_lab import survey

EXT = Path(taxonomy_map.__file__).parent
ROOT = EXT.parents[1]
PAGE = "---\norphan: true\nlesson:\n  weeks:\n    1: Why patches?\n---\n\n# Patches all the way\n\nText.\n"
PLANNED = sum(len(part["planned"]) for part in lessons.parts())
# The parts and stems of the design's table, typed here.
DESIGN = {
    "foundations": "vision_transformer measuring_efficiency",
    "components":
        "patch_embedding position_encoding efficient_attention attention_free hierarchical_frameworks lightvit",
    "dynamic": "token_pruning token_merging early_exit",
    "distillation": "response_distillation feature_distillation",
    "compression": "pruning quantization low_rank combining",
    "practice": "trade_offs why_not_faster reading_attention dense_prediction deployment budget_challenge",
}


def _write(root, pages=("foundations/vision_transformer",)):
    (root / "book").mkdir(parents=True)
    (root / "book/intro.md").write_text("# Map\n\n```{taxonomy-map}\n```\n\n```{taxonomy-map} to come\n```\n")
    (root / "conf.py").write_text(
        f"import sys\nsys.path.insert(0, {str(EXT)!r})\nextensions = ['myst_parser', 'taxonomy_map']\n"
        "root_doc = 'book/intro'\nsuppress_warnings = ['toc.not_included', 'toc.not_readable']\n")
    (root / "_toc.yml").write_text("")
    for page in pages:
        _add(root, page)
    return root


def _add(root, page):
    path = root / "chapters" / f"{page}.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(PAGE)
    with (root / "_toc.yml").open("a") as contents:
        contents.write(f"- file: chapters/{page}\n")


def _build(root, builder="html"):
    """Build with warnings as errors, in a process of its own since Sphinx registers nodes once a process."""
    out = root / "_build" / builder
    doctrees = root / "_build/doctrees"
    arguments = ["-W", "-q", "-b", builder, "-d", str(doctrees), str(root), str(out)]
    status, said = forked.run(lambda: sphinx_build(arguments), root / "said.txt")
    assert status == 0, said
    return (out / "book/intro").with_suffix({"html": ".html", "text": ".txt"}[builder]).read_text()


@pytest.fixture(scope="module")
def page_map(tmp_path_factory):
    """The outer lists of both maps, parsed: what is written, what is to come."""
    html = _build(_write(tmp_path_factory.mktemp("map")))
    start = html.index('<ul class="taxonomy-map')
    end = html.index("</section>", start)
    return ET.fromstring(f"<div>{html[start:end]}</div>")


def _with_class(tree, name):
    return [element for element in tree.iter() if name in element.get("class", "").split()]


def _text(element):
    return " ".join("".join(element.itertext()).split())


def test_no_part_and_no_stem_of_the_design_is_lost_and_parts_stand_in_its_order():
    found = {}
    for lesson in lessons.lessons(ROOT):
        found.setdefault(lesson.page.partition("/")[0], set()).add(lesson.page.partition("/")[2])
    assert [part["part"] for part in lessons.parts()] == list(DESIGN)
    assert {part: set(stems.split()) - found[part] for part, stems in DESIGN.items()} == dict.fromkeys(DESIGN, set())


def test_every_page_of_the_book_has_a_card_with_title_and_question(page_map):
    cards = _with_class(page_map, "taxonomy-page")
    assert len(cards) == 1 + PLANNED
    for card in cards:
        assert _text(_with_class(card, "taxonomy-title")[0])
        assert _text(_with_class(card, "taxonomy-question")[0]).endswith("?")
    assert "Why patches?" in _text(page_map)


def test_no_leaf_of_the_survey_is_missing_from_the_map():
    every = {lesson.page: lesson for lesson in lessons.lessons(ROOT)}
    assert {leaf.page for leaf in survey.taxonomy()} <= set(every)
    for leaf in survey.taxonomy():
        title = every[leaf.page].title
        assert leaf.leaf == title or leaf.leaf in taxonomy_map.leaves_of(leaf.page, title)


def test_an_existing_page_is_a_link_with_its_own_title(page_map):
    links = list(page_map.iter("a"))
    assert [link.get("href") for link in links] == ["../chapters/foundations/vision_transformer.html"]
    assert _text(links[0]) == "Patches all the way"


def test_a_page_to_come_says_so_in_words_and_has_no_link(page_map):
    to_come = _with_class(page_map, "taxonomy-to-come")
    assert len(to_come) == PLANNED
    for card in to_come:
        assert "to come" in _text(card)
        assert not list(card.iter("a"))
    existing = [card for card in _with_class(page_map, "taxonomy-page") if card not in to_come]
    assert len(existing) == 1 and "to come" not in _text(existing[0])


def test_what_is_to_come_stands_after_all_that_is_there(page_map):
    order = ["to come" in _text(card) for card in _with_class(page_map, "taxonomy-page")]
    assert order == sorted(order) and len(page_map) == 2
    text = (ROOT / "book/intro.md").read_text()
    assert text.index("```{taxonomy-map}\n") < text.index("## What is to come") < text.index("```{taxonomy-map} to come")


def test_the_maps_are_nested_lists_without_empty_parts_so_that_a_screen_reader_can_count_them(page_map):
    written, to_come = page_map
    assert written.tag == to_come.tag == "ul"
    planned = [len(part["planned"]) for part in lessons.parts() if part["planned"]]
    assert [child.tag for child in (*written, *to_come)] == ["li"] * (1 + len(planned))
    assert [len(cards) for cards in _with_class(written, "taxonomy-pages")] == [1]
    assert [len(cards) for cards in _with_class(to_come, "taxonomy-pages")] == planned


def test_a_page_added_later_becomes_a_link_although_the_introduction_did_not_change(tmp_path):
    root = _write(tmp_path)
    assert "pruning.html" not in _build(root)
    _add(root, "compression/pruning")
    assert "../chapters/compression/pruning.html" in _build(root)


def test_builders_without_html_get_the_same_map_as_text(tmp_path):
    text = _build(_write(tmp_path), builder="text")
    assert "Patches all the way" in text
    assert "Deployment to come" in text


def test_the_style_uses_the_themes_colours_only():
    css = (EXT.parent / "_static" / "taxonomy.css").read_text()
    assert "var(--pst-color-" in css
    assert not re.search(r"#[0-9a-fA-F]{3,8}\b|rgb\(|hsl\(", css)
