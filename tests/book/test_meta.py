"""What a shared link shows of a page: its question, its title, a picture with an address; one viewport, not three."""

import re
from types import SimpleNamespace

import lab_meta
import pytest
from bs4 import BeautifulSoup
from docutils import nodes
from docutils.utils import new_document


def doctree(*paragraphs, box=()):
    """A page with a title, what stands in `box` in a box, and paragraphs."""
    section = nodes.section("", nodes.title("", "Token merging"), ids=["token-merging"])
    section += nodes.note("", *box)
    section += [nodes.raw("", "<nav>figures</nav>", format="html"), *paragraphs]
    tree = new_document("page")
    tree += section
    return tree


def bold(text):
    return nodes.paragraph("", "", nodes.strong("", text), nodes.Text(""))


def test_the_description_of_a_page_is_its_first_paragraph_without_markup_or_line_breaks():
    tree = doctree(bold("A row of\n64 patches.\nHow many\nare needed?"), nodes.paragraph("", "The idea."),
                   box=[nodes.paragraph("", "After this page you can")])
    assert lab_meta.description(tree, "the book") == "A row of 64 patches. How many are needed?"


@pytest.mark.parametrize("tree", [None, doctree(), doctree(nodes.paragraph("", " "))])
def test_a_page_without_a_text_says_what_the_book_is(tree):
    assert lab_meta.description(tree, "the book") == "the book"


def test_a_long_paragraph_is_cut_after_a_sentence_or_else_at_a_word():
    one = "This sentence has exactly forty letters."
    assert lab_meta.shortened(one) == one
    assert lab_meta.shortened(" ".join([one] * 20)) == " ".join([one] * 7)
    cut = lab_meta.shortened("word " * 100)
    assert cut.endswith("word …") and len(cut) <= lab_meta.LONGEST
    question = "Why? " + "word " * 100
    assert lab_meta.shortened(question) == "Why?"


def head(base="", page="chapters/dynamic/token_merging", title="<em>5.</em> Token &amp; merging", tree=None):
    """The meta elements that a page gets, as a browser reads them: name or property -> content."""
    config = SimpleNamespace(html_baseurl=base, html_title="LightViT Lab")
    app = SimpleNamespace(config=config, srcdir=lab_meta.Path(__file__).parents[2])
    context = {"title": title, "metatags": '<meta name="other" content="stays" />', "pathto": lambda name, _: "../../" + name}
    lab_meta.add_tags(app, page, "page.html", context, tree or doctree(bold('Which "half" & why <not>?')))
    found = BeautifulSoup(context["metatags"], "html.parser").find_all("meta")
    named = {one.get("name") or one.get("property"): one["content"] for one in found}
    assert len(named) == len(found)
    return named


def test_title_and_description_are_escaped_once_and_what_others_wrote_stays():
    said = head()
    assert said["description"] == said["og:description"] == 'Which "half" & why <not>?'
    assert said["og:title"] == "5. Token & merging" and said["og:site_name"] == "LightViT Lab"
    assert said["other"] == "stays" and said["twitter:card"] == "summary_large_image"


def test_the_picture_has_a_whole_address_where_the_site_is_named_and_a_relative_one_elsewhere():
    assert head()["og:image"] == "../../_static/preview.jpg" and "og:url" not in head()
    named = head(base="https://owner.github.io/book/")
    assert named["og:image"] == "https://owner.github.io/book/_static/preview.jpg"
    assert named["og:url"] == "https://owner.github.io/book/chapters/dynamic/token_merging.html"


def test_a_page_of_the_engine_such_as_the_index_says_what_pyproject_says():
    root = lab_meta.Path(__file__).parents[2]
    assert lab_meta.summary(root) in (root / "pyproject.toml").read_text(encoding="utf-8")
    assert head(tree=new_document("empty"))["description"] == lab_meta.summary(root)


def test_of_several_viewports_the_first_stays_and_only_the_head_changes():
    sizes = [f'<meta name="viewport" content="width=device-width, initial-scale={scale}" />' for scale in ("1.0", "1", "1")]
    page = f"<head>\n{sizes[0]}{sizes[1]}\n<title>t</title>\n  {sizes[2]}\n</head><body>{sizes[1]}</body>"
    tidied = lab_meta.with_one_viewport(page)
    assert tidied == f"<head>\n{sizes[0]}\n<title>t</title>\n</head><body>{sizes[1]}</body>"
    assert lab_meta.with_one_viewport(tidied) == tidied
    assert lab_meta.with_one_viewport("<p>no head</p>") == "<p>no head</p>"


def test_the_picture_of_a_link_is_there_in_the_size_that_is_said_and_light():
    from PIL import Image

    path = lab_meta.Path(__file__).parents[2] / "book" / lab_meta.IMAGE
    assert path.stat().st_size < 150_000
    with Image.open(path) as picture:
        assert picture.size == lab_meta.SIZE
    assert re.fullmatch(r"\S.+\.", lab_meta.IMAGE_ALT)
