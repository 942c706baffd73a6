"""Print the built book to one PDF through Chromium: `make pdf` after `make book`.

The first pass finds on which sheet each page begins and which chapters end on a nearly empty sheet;
the second has the numbers in its contents and sets those chapters a little tighter; a third is only
needed if that did not save what it should. Needs the extra `pdf` and a Chromium or Chrome (the
variable CHROMIUM names another one).
"""

from __future__ import annotations

import argparse
import mimetypes
import sys
import tomllib
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from urllib.parse import unquote, urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import print_page

from lightvit_lab.cli.doctor import BROWSERS, browser
from lightvit_lab.errors import LabError

ROOT = Path(__file__).resolve().parents[2]
ORIGIN = "http://book.invalid"      # answered from the built book's own files; no server, no port
WIDTH, HEIGHT = 672, 988            # CSS pixels of A4 within the margins of book/_static/print.css
WAIT_S = 180
SHEET_MM, TOP_MM, BOTTOM_MM = 297, 17, 279      # A4, and where the text begins and ends on it
INK, HALF = 245, 0.5                # grey that is no ground any more; a sheet that is half full
PASSES, GAIN = 3, 0.03              # what a tighter chapter saves, as a share of its sheets

DRAWN = """async () => {
  const frame = () => new Promise(requestAnimationFrame);
  if (window.MathJax && MathJax.startup) await MathJax.startup.promise;
  await document.fonts.ready;
  if (window.labDrawPlots) await labDrawPlots();
  const figures = [...document.querySelectorAll(".lab-plot")];
  while (!figures.every(figure => figure.querySelector(".main-svg"))) await frame();
  for (const figure of figures) {      // print.js makes figures smaller, but not so small
    const height = figure._fullLayout.height, least = 570;
    if (height <= least) continue;
    figure.style.height = `${Math.max(least, 0.6 * height)}px`;
    await Plotly.relayout(figure, {height: Math.max(least, 0.6 * height)});
  }
  await Promise.all(figures.map(figure => Plotly.Plots.resize(figure)));
  await Promise.all([...document.images].map(image => image.decode().catch(() => null)));
  for (let i = 0; i < 3; i++) await frame();
}"""
LATE = f"""new Promise((_, fail) =>
  setTimeout(() => fail('figures or formulas are not drawn'), {1000 * WAIT_S}))"""
RAW_FORMULAS = """() => [...document.querySelectorAll('.math')]
  .filter(formula => !formula.querySelector('mjx-container')).length"""
TOO_WIDE = """edge => {
  const hidden = "svg *, mjx-container *, script, style, br, .lab-sr-only, .visually-hidden";
  const box = element => element.getBoundingClientRect();
  const visible = element => element.checkVisibility() && box(element).width > 1;
  return [...document.querySelectorAll(".bd-article *")]
    .filter(element => !element.matches(hidden) && visible(element))
    .filter(element => box(element).right > edge + 1)
    .map(element => `${element.closest("[id]").id}: ${element.tagName.toLowerCase()}`
                    + `.${element.className} ends at ${Math.round(box(element).right)}`
                    + ` of ${edge} pixels`).slice(0, 12);
}"""


def chromium() -> str:
    """The browser to drive. Raises LabError where there is none."""
    found = browser()
    if found is None:
        raise LabError(f"pdf: no browser found (tried CHROMIUM, {', '.join(BROWSERS)}); apt-get "
                       "install chromium")
    return found


@contextmanager
def running_browser() -> Iterator[object]:
    """A browser. Raises LabError if there is none, or if it does not start."""
    from playwright.sync_api import Error, sync_playwright

    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        except Error as error:
            text = f"pdf: {chromium()} does not start: {str(error).splitlines()[0]}"
            raise LabError(text) from error
        yield browser
        browser.close()


@contextmanager
def printing_tab(browser: object, html: Path, page: str) -> Iterator[object]:
    """A tab that shows `page` as it will be on paper, all drawn.

    `page` is HTML, below the root of the built book at `html`. Raises LabError if a formula or a
    figure cannot be drawn.
    """
    from playwright.sync_api import Error

    context = browser.new_context(viewport={"width": WIDTH, "height": HEIGHT},
                                  reduced_motion="reduce")
    context.route(f"{ORIGIN}/**", answer(html, page))
    tab = context.new_page()
    tab.set_default_timeout(1000 * WAIT_S)
    tab.emulate_media(media="print", color_scheme="light")
    try:
        tab.goto(f"{ORIGIN}/", wait_until="load")
        tab.evaluate(f"() => Promise.race([({DRAWN})(), {LATE}])")
        require_formulas(tab)
        yield tab
    except Error as error:
        reason = str(error).splitlines()[0]
        raise LabError(f"pdf: the browser gave up ({reason}); run make book, then try "
                       "again") from error
    finally:
        context.close()


def answer(html: Path, page: str) -> Callable:
    """What the browser gets for an address: the page itself, or a file of the built book."""
    def handle(route) -> None:
        path = unquote(urlsplit(route.request.url).path).lstrip("/")
        file = (html / path).resolve()
        if not path:
            route.fulfill(body=page, content_type="text/html; charset=utf-8")
        elif file.is_file() and file.is_relative_to(html.resolve()):
            kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
            route.fulfill(path=file, content_type=kind)
        else:
            route.fulfill(status=404)
    return handle


def require_formulas(tab: object) -> None:
    """Raise LabError if a formula stands there as it was typed."""
    raw = tab.evaluate(RAW_FORMULAS)
    if raw:
        raise LabError(f"pdf: {raw} formulas are not typeset, so MathJax could not be loaded; "
                       "build the book with npm at hand (it then brings its own), or print where "
                       "there is a network")


def too_wide(tab: object) -> list[str]:
    """What would be cut off at the right edge of the paper, in words."""
    tab.evaluate("() => dispatchEvent(new Event('beforeprint'))")
    found = tab.evaluate(TOO_WIDE, WIDTH)
    tab.evaluate("() => dispatchEvent(new Event('afterprint'))")
    return found


def to_pdf(tab: object, path: Path) -> None:
    """Print what the tab shows, with bookmarks and tags."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tab.pdf(path=path, prefer_css_page_size=True, print_background=True, tagged=True, outline=True)


def single_title(title: str) -> str:
    """A bookmark's title, which some versions of Chromium write twice, end to end."""
    half = len(title) // 2
    return title[:half] if title[:half] == title[half:] else title


def first_sheets(path: Path, titles: dict[str, str]) -> dict[str, int]:
    """By slug, the number of the sheet (from 1) to which the bookmark of the page leads."""
    import pypdfium2

    with pypdfium2.PdfDocument(path) as document:
        sheets = {single_title(" ".join(mark.get_title().split())): mark.get_dest().get_index() + 1
                  for mark in document.get_toc() if mark.level <= 1}    # parts and pages alone
        return {slug: sheets[title] for slug, title in titles.items() if title in sheets}


def filled(path: Path) -> list[float]:
    """For each sheet, the share of its height, within the margins, down to the last ink on it."""
    import numpy
    import pypdfium2

    shares = []
    with pypdfium2.PdfDocument(path) as document:
        for sheet in document:
            grey = numpy.asarray(sheet.render(scale=0.5).to_pil().convert("L"))
            top, bottom = (round(len(grey) * edge / SHEET_MM) for edge in (TOP_MM, BOTTOM_MM))
            inked = numpy.flatnonzero((grey[top:bottom] < INK).any(axis=1))
            shares.append((int(inked[-1]) + 1) / (bottom - top) if len(inked) else 0.0)
    return shares


def project(root: Path) -> dict[str, str]:
    """The texts of the title page, from pyproject.toml."""
    table = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {"title": "LightViT Lab", "description": table["description"],
            "author": table["authors"][0]["name"], "version": table["version"],
            "repository": table["urls"]["Repository"], "date": f"{date.today():%d %B %Y}"}


def make(browser: object, html: Path, toc: Path, path: Path, solutions: bool = False) -> list[str]:
    """Print the built book at `html` to `path`; returns what is too wide for the paper."""
    numbers: dict[str, int] = {}
    tight: list[str] = []
    for number in range(1, PASSES + 1):
        page = print_page.whole_book(html, toc, project(ROOT), numbers, tight)
        if solutions:
            page = page.replace('<body class="lab-book"',
                                '<body class="lab-book lab-with-solutions"')
        with printing_tab(browser, html, page) as tab:
            cut = too_wide(tab)
            to_pdf(tab, path)
        found = first_sheets(path, titles(page))
        if found == numbers:
            break
        numbers = found
        if number == 1:
            tight = short_ends(found, filled(path))
            numbers = without_ends(found, tight)
    return cut


def without_ends(numbers: dict[str, int], tight: list[str]) -> dict[str, int]:
    """On which sheet each page begins when every chapter of `tight` takes a sheet less."""
    ends = [numbers[slug] for slug in tight]
    return {slug: sheet - bisect_left(ends, sheet) for slug, sheet in numbers.items()}


def short_ends(numbers: dict[str, int], shares: list[float]) -> list[str]:
    """The chapters, by slug, whose last sheet has so little on it that the others can take it.

    `numbers` holds the sheet, from 1, on which each page begins, `shares` how full each sheet is.
    """
    begins = sorted(numbers.items(), key=lambda entry: entry[1])
    ends = [sheet - 1 for _, sheet in begins[1:]] + [len(shares)]
    return [slug for (slug, first), last in zip(begins, ends) if slug.startswith("chapters-")
            and shares[last - 1] < min(HALF, GAIN * (last - first))]


def titles(page: str) -> dict[str, str]:
    """The title of each page by its slug, as the contents have it."""
    from bs4 import BeautifulSoup

    links = BeautifulSoup(page, "html.parser").select(".lab-contents a")
    return {link["href"].lstrip("#"): " ".join(link.find(string=True).split()) for link in links}


def main(arguments: list[str] | None = None) -> int:
    """Print the book; the exit code is 1 if it cannot be printed, or if something is cut off."""
    parser = argparse.ArgumentParser(description="Print the built book as one PDF file.")
    parser.add_argument("--solutions", action="store_true",
                        help="print the solutions too, for teachers")
    chosen = parser.parse_args(arguments)
    name = "lightvit-lab-solutions.pdf" if chosen.solutions else "lightvit-lab.pdf"
    path = ROOT / "_build" / "pdf" / name
    try:
        with running_browser() as browser:
            cut = make(browser, ROOT / "_build" / "html", ROOT / "_toc.yml", path, chosen.solutions)
    except LabError as error:
        print(error, file=sys.stderr)
        return 1
    shares = filled(path)
    print(f"The book is printed: {path} ({path.stat().st_size / 2**20:.1f} MiB, {len(shares)} "
          f"sheets, {sum(share < HALF for share in shares)} of them less than half full)")
    if cut:
        print("These are wider than the paper:", *cut, sep="\n    ", file=sys.stderr)
    return int(bool(cut))


if __name__ == "__main__":
    sys.exit(main())
