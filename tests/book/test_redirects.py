"""Renamed pages, in a tiny book of two pages built by Sphinx with the extension alone."""

from pathlib import Path

import lab_redirects
import pytest
from bs4 import BeautifulSoup
from sphinx.application import Sphinx
from sphinx.errors import ConfigError

from lightvit_lab.errors import LabError

ROOT = Path(__file__).parents[2]


def build(folder, redirects):
    """Build a book with the pages `index` and `part/new` and that map; gives the folder of its HTML."""
    (folder / "part").mkdir()
    (folder / "conf.py").write_text("extensions = ['lab_redirects']\n")
    (folder / "index.rst").write_text("Start\n=====\n\n.. toctree::\n\n   part/new\n")
    (folder / "part" / "new.rst").write_text("The <new> page\n==============\n\nA heading\n---------\n\nText.\n")
    (folder / "_redirects.yml").write_text(redirects)
    app = Sphinx(folder, folder, folder / "out", folder / "trees", "html", status=None, warning=None)
    app.build()
    return folder / "out"


def test_an_old_address_leads_to_the_new_page_by_itself_and_by_a_link(tmp_path):
    out = build(tmp_path, "part/old: part/new\nolder/deep/page: part/new#a-heading\n")
    for old, link in {"part/old": "new.html", "older/deep/page": "../../part/new.html#a-heading"}.items():
        page = BeautifulSoup((out / f"{old}.html").read_text(), "html.parser")
        assert page.find("meta", {"http-equiv": "refresh"})["content"] == f"0; url={link}"
        assert page.find("link", rel="canonical")["href"] == page.a["href"] == link
        assert page.a.text == "The <new> page" and page.html["lang"] == "en"
        assert (out / old).parent.joinpath(link.partition("#")[0]).resolve().is_file()
    assert 'id="a-heading"' in (out / "part" / "new.html").read_text()


@pytest.mark.parametrize("redirects, said", [
    ("part/old: part/gone", "part/old leads to part/gone, and there is no such page; known are index, part/new"),
    ("part/new: index", "part/new is a page, so it cannot lead elsewhere"),
    ("a: b\nb: part/new", "a leads to b, which has moved itself; write a: part/new"),
    ("../outside: index", "'../outside' is no address in the book"),
    ("part/old.html: index", "'part/old.html' is no address in the book"),
    ("- part/old", "expected one line each"),
    ("part/old: 3", "expected one line each"),
    ("part/old: [", "cannot be read"),
])
def test_a_wrong_map_stops_the_build_and_writes_nothing(tmp_path, redirects, said):
    with pytest.raises(ConfigError) as raised:
        build(tmp_path, redirects)
    assert said in str(raised.value)
    assert not (tmp_path / "out" / "part" / "old.html").exists()


def test_a_map_that_goes_wrong_later_stops_the_next_build_though_no_page_has_changed(tmp_path):
    build(tmp_path, "part/old: part/new")
    (tmp_path / "_redirects.yml").write_text("part/old: part/gone")
    with pytest.raises(ConfigError, match="no such page"):
        Sphinx(tmp_path, tmp_path, tmp_path / "out", tmp_path / "trees", "html", status=None, warning=None).build()


def test_the_books_own_map_is_sound():
    pages = {path.relative_to(ROOT).with_suffix("").as_posix() for folder in ("book", "chapters")
             for path in (ROOT / folder).rglob("*.md")}
    assert "book/intro" in pages
    lab_redirects.require_sound(lab_redirects.read(ROOT / "_redirects.yml"), pages)


def test_without_a_map_nothing_is_redirected(tmp_path):
    assert lab_redirects.read(tmp_path / "_redirects.yml") == {}


def test_an_address_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "map.yml").write_text("1: index")
    with pytest.raises(LabError, match="old/address: new/address"):
        lab_redirects.read(tmp_path / "map.yml")
