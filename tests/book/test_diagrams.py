"""The drawings of the book: one style, labels that a phone can show, words for who does not see them, a page for each."""

import itertools
import re
from fractions import Fraction
from xml.etree import ElementTree

import browser
import diagrams
import notebooks
import print_page
import pytest
from bs4 import BeautifulSoup

from lightvit_lab.errors import LabError

FILES = sorted(diagrams.FOLDER.glob("*.svg"))
USED = re.compile(r"^```\{diagram\} (\w+)$", re.MULTILINE)
COLUMN = 342                           # pixels that a page of 390 leaves for a drawing
COLOUR = re.compile(r"#[0-9a-f]{3,8}\b|\b(?:rgba?|hsla?)\(|\b(?:black|white|gray|grey|red|blue|green|orange)\b", re.IGNORECASE)
each_drawing = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
INTRO = browser.ROOT / "book" / "intro.md"
PAGES = [*notebooks.pages(), INTRO]
in_notebooks = [file for file in FILES if file.stem not in USED.findall(INTRO.read_text(encoding="utf-8"))]


def tags(root, name):
    return list(root.iter(diagrams.SVG + name))


def style_of(text):
    return re.search(r"<style>(.*?)</style>", text, re.DOTALL)[1]


def faults(text, name):
    """What is wrong with a drawing's text, in words."""
    root = ElementTree.fromstring(text)
    style, bare = style_of(text), re.sub(r'<style>.*?</style>|<(title|desc)\b.*?</\1>|href="data:[^"]*"', "", text, flags=re.DOTALL)
    _, _, width, height = map(float, root.get("viewBox").split())
    if [root.get("width"), root.get("height")] != [f"{width:g}", f"{height:g}"]:
        yield "a notebook would draw it at another size than its viewBox"
    ids = [f"{name}-title", f"{name}-desc"]
    if root.get("role") != "img" or root.get("aria-labelledby", "").split() != ids:
        yield "no picture named by its title and desc"
    for tag, own in zip(("title", "desc"), ids):
        words = root.find(diagrams.SVG + tag)
        if words is None or words.get("id") != own or len((words.text or "").split()) < (2 if tag == "title" else 12):
            yield f"no {tag}"
    if COLOUR.search(bare) or re.search(r'\b(?:fill|stroke|style)="', bare):
        yield "a fixed colour outside of its style block"
    sizes = [float(size) for size in re.findall(r"font(?:-size)?: (?:\w+ )?([\d.]+)px", style)]
    if not sizes or min(sizes) * COLUMN / width < 10 or "font-size" in bare:
        yield "labels below 10 pixels on a phone"
    for label in tags(root, "text"):
        if len(re.findall(r"[^\W\d_]{2,}", label.text)) > 4:
            yield f"more than four words: {label.text}"


@each_drawing
def test_a_drawing_has_words_one_width_no_colour_of_its_own_and_labels_a_phone_can_show(file):
    assert list(faults(file.read_text(encoding="utf-8"), file.stem)) == []


@pytest.mark.parametrize(("old", "new", "fault"), [
    ("<desc", "<metadata", "no desc"), ('role="img"', 'role="none"', "named by"), ("15px", "14px", "below 10"),
    ('class="part"', 'fill="#fff"', "fixed colour"), ('width="480"', 'width="960"', "another size"),
    (">norm<", ">norm of all tokens that came<", "four words")])
def test_each_fault_of_a_drawing_would_be_seen(old, new, fault):
    text = (diagrams.FOLDER / "vision_transformer.svg").read_text(encoding="utf-8")
    broken = text.replace(old, new, 1).replace("</desc>", "</metadata>" if "metadata" in new else "</desc>")
    assert any(fault in said for said in faults(broken, "vision_transformer"))


def test_all_drawings_have_one_style_and_the_colours_of_the_figures():
    from lightvit_lab.figures.display import COLOURS, DARK

    styles = {style_of(file.read_text(encoding="utf-8")) for file in FILES}
    assert len(styles) == 1
    light, dark = styles.pop().split("prefers-color-scheme: dark")
    assert {COLOURS[0], COLOURS[1]} <= set(re.findall(r"#\w{6}", light))
    assert {DARK[COLOURS[0]], DARK[COLOURS[1]]} <= set(re.findall(r"#\w{6}", dark))


def test_every_drawing_stands_once_on_a_page_and_one_before_its_first_section():
    found = {page.stem: USED.findall(page.read_text(encoding="utf-8")) for page in PAGES}
    assert sorted(itertools.chain(*found.values())) == [file.stem for file in FILES]
    for page in PAGES:
        first = page.read_text(encoding="utf-8").partition("\n## ")[0]
        assert USED.findall(first) == found[page.stem][:1]


@pytest.mark.parametrize("file", in_notebooks, ids=lambda file: file.stem)
def test_the_notebook_shows_the_drawing_and_says_what_is_in_it(file):
    page = next(page for page in notebooks.pages() if file.stem in USED.findall(page.read_text(encoding="utf-8")))
    shown = [cell.source for cell in notebooks.derive(page, "main").cells if f"{file.name})" in cell.source]
    alt = re.search(rf"!\[([^\[\]]+)\]\(https://\S+/raw/main/book/_static/diagrams/{file.name}\)\n\n(\S.+\.)\n", shown[0])
    root = ElementTree.fromstring(file.read_text(encoding="utf-8"))
    assert len(shown) == 1 and root.findtext(f"{diagrams.SVG}desc") in alt[1]
    assert alt[2] in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(("name", "caption", "said"), [("token_mergin", "x", "page.md:7.*token_merging"), ("low_rank", " ", "page.md:7.*caption")])
def test_an_unknown_drawing_or_one_without_caption_is_refused_with_its_place(name, caption, said):
    with pytest.raises(LabError, match=said):
        diagrams.read(name, caption, "page.md:7")


def test_in_the_printed_book_a_drawing_keeps_its_name():
    chapter = print_page.Chapter("a/b.html", "", BeautifulSoup((diagrams.FOLDER / "pruning.svg").read_text(encoding="utf-8"), "html.parser"))
    print_page.make_internal(chapter, set())
    ids = {tag["id"] for tag in chapter.article.find_all(id=True)}
    assert set(chapter.article.svg["aria-labelledby"].split()) == ids and len(ids) == 2 and "pruning-title" not in ids


# --- what the drawings claim

def labels(name):
    return [label.text for label in tags(ElementTree.fromstring((diagrams.FOLDER / f"{name}.svg").read_text(encoding="utf-8")), "text")]


def test_the_weights_of_the_thin_layers_add_up_and_are_drawn_to_scale():
    text = "\n".join(labels("low_rank")).replace(",", "")
    n, m, k = (int(re.search(rf"^{letter} = (\d+)$", text, re.MULTILINE)[1]) for letter in "nmk")
    assert f"{n * m} weights" in text and f"{n * k} + {k * m} = {k * (n + m)} weights" in text
    root = ElementTree.fromstring((diagrams.FOLDER / "low_rank.svg").read_text(encoding="utf-8"))
    sides = [(float(one.get("height")), float(one.get("width"))) for one in tags(root, "rect")]
    assert [(height / 0.75, width / 0.75) for height, width in sides] == [(n, m), (n, k), (k, m)]


def test_the_shares_of_the_drawn_rollout_are_those_of_the_product():
    import torch

    from lightvit_lab import explain

    second, first = torch.eye(5), torch.eye(5)          # rows that nobody asks for look at themselves
    second[0] = torch.tensor([0, .5, 0, .5, 0])
    first[0], first[1] = torch.eye(5)[2], torch.eye(5)[2]
    shares = explain.rollout([first[None, None], second[None, None]])
    shown = [float(Fraction(one)) for one in labels("reading_attention") if re.fullmatch(r"\d/8|0", one)]
    assert shown == pytest.approx(shares[0, 0].tolist())


def test_the_sizes_of_merged_tokens_sum_to_the_tokens_that_were_dealt():
    text = labels("token_merging")
    sizes = [int(one) for one in text if one.isdigit()]
    r = int(re.search(r"r = (\d+)", "\n".join(text))[1])
    dealt = text.count("A") - 1 + text.count("B") - 1      # less the names of the two rows
    assert sum(sizes) == dealt and len(sizes) == dealt - r


# --- as drawn

@pytest.fixture(scope="module")
def tab(request):
    if browser.chromium() is None:
        pytest.skip("no browser found")
    pytest.importorskip("playwright.sync_api")
    page = request.getfixturevalue("chromium").new_page()
    yield page
    page.close()


WORDS = """() => {
  const frame = document.querySelector("svg").getBoundingClientRect();
  const words = [...document.querySelectorAll("text")].map(one => ({text: one.textContent, box: one.getBoundingClientRect()}));
  const out = words.filter(({box}) => box.left < 4 || box.right > frame.width - 4 || box.top < 0 || box.bottom > frame.height);
  const pairs = words.flatMap((one, i) => words.slice(i + 1).map(other => [one, other]));
  const across = ([one, other]) => Math.min(one.box.right, other.box.right) - Math.max(one.box.left, other.box.left);
  const down = ([one, other]) => Math.min(one.box.bottom, other.box.bottom) - Math.max(one.box.top, other.box.top);
  return [...out.map(one => one.text + " runs out"),
          ...pairs.filter(pair => across(pair) > -6 && down(pair) > 3).map(([a, b]) => `${a.text} | ${b.text}`)];
}"""


@each_drawing
def test_no_label_runs_out_of_the_drawing_or_into_another(tab, file):
    tab.set_content(f"<body style='margin:0'>{file.read_text(encoding='utf-8')}</body>")
    assert tab.evaluate(WORDS) == []


INK = "() => { const one = getComputedStyle(document.querySelector('.lab-diagram .full')); return [one.stroke, one.fill]; }"


@pytest.mark.parametrize("system", ["light", "dark"])
@pytest.mark.parametrize(("page", "colours"), [
    ("<html>", ["rgb(34, 34, 34)", "rgb(0, 114, 178)"]),       # no script has set a theme: the page is white
    ('<html data-theme="light" style="--pst-color-text-base:#010203">', ["rgb(1, 2, 3)", "rgb(0, 114, 178)"]),
    ('<html data-theme="dark" style="--pst-color-text-base:#f0f1f2">', ["rgb(240, 241, 242)", "rgb(164, 219, 255)"])])
def test_in_the_book_colours_follow_the_readers_choice_and_not_the_system(tab, page, colours, system):
    tab.emulate_media(color_scheme=system)
    sheet = (browser.ROOT / "book" / "_static" / "lab.css").read_text(encoding="utf-8")
    drawing = (diagrams.FOLDER / "token_merging.svg").read_text(encoding="utf-8")
    tab.set_content(f"<!doctype html>{page}<style>{sheet}</style>{drawing}")
    assert tab.evaluate(INK) == colours


@pytest.mark.parametrize(("system", "ground"), [("light", (255, 255, 255)), ("dark", (20, 24, 30))])
def test_in_a_notebook_a_drawing_brings_its_ground_so_that_any_page_around_it_will_do(tab, system, ground):
    from base64 import b64encode
    from io import BytesIO

    from PIL import Image

    tab.emulate_media(color_scheme=system)
    data = b64encode((diagrams.FOLDER / "token_merging.svg").read_bytes()).decode()
    tab.set_content(f"<body style='background:#808080'><img src='data:image/svg+xml;base64,{data}'>")
    tab.wait_for_function("document.images[0].complete")
    drawn = Image.open(BytesIO(tab.locator("img").screenshot())).convert("RGB")
    assert drawn.size == (480, 374) and drawn.getpixel((5, 5)) == drawn.getpixel((475, 5)) == ground
