"""Words of the glossary on the pages: each leads to its entry, and says what it says."""

import re

import lab_terms
import notebooks
import pytest

GLOSSARY = notebooks.ROOT / "book" / "glossary.md"


def test_an_entry_is_told_in_plain_words(tmp_path):
    file = tmp_path / "glossary.md"
    file.write_text("# G\n\n```{glossary}\n2:4 sparsity\n  At most *two* of {term}`four <patch>`,\n  see {doc}`notation`, $x$.\n\n"
                    "class token\n  One `vector`.\n```\n\nend\n")
    assert lab_terms.entries(file) == {
        "term-2-4-sparsity": "At most two of four, see notation, x.", "term-class-token": "One vector."}


def test_every_entry_of_the_glossary_is_read_and_says_a_sentence():
    found = lab_terms.entries(GLOSSARY)
    assert len(found) > 80 and all(len(text.split()) > 3 and text.endswith((".", ".)")) for text in found.values())


@pytest.mark.parametrize("page", notebooks.pages(), ids=lambda page: page.stem)
def test_each_page_links_words_of_the_glossary_and_only_such(page):
    words = re.findall(r"\{term\}`(?:[^`<]*<)?([^`<>]+)>?`", page.read_text(encoding="utf-8"))
    assert len(words) >= 5 and len(set(words)) == len(words), "the first mention alone"
    assert {lab_terms.anchor(word) for word in words} <= set(lab_terms.entries(GLOSSARY))
