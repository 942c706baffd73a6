"""Helpers of the browser tests: find a Chromium, serve the built book on loopback, open its pages, look at them.

The looks that need JavaScript are in browser.js.
"""

from __future__ import annotations

import functools
import gzip
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from lightvit_lab.cli.doctor import BROWSERS, browser as chromium

ROOT = Path(__file__).resolve().parents[2]
HTML = ROOT / "_build" / "html"
VIEWS = {
    "wide": {"viewport": {"width": 1400, "height": 900}},
    "phone": {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True},
}
NO_PAGES = re.compile(r"(_static|_sources|_downloads|vendor|reports)/.*|(genindex|search|index|.*-modindex)\.html")


def missing(html: Path = HTML) -> str | None:
    """What is not there and how to get it; None where the tests can run."""
    if chromium() is None:
        return f"no browser found (tried CHROMIUM, {', '.join(BROWSERS)}); `apt-get install chromium` brings one"
    if not pages(html):
        return f"no built book in {html}; `make book` builds it"
    return None


def skip_unless_asked() -> None:
    """Called by a test module: skip it unless LIGHTVIT_TEST_BROWSER=1 or LIGHTVIT_REQUIRE_BROWSER=1 asks for a browser.

    With the second one, a missing browser or book is a failure.
    """
    asked = {name for name in ("LIGHTVIT_TEST_BROWSER", "LIGHTVIT_REQUIRE_BROWSER") if os.environ.get(name) == "1"}
    if not asked:
        pytest.skip("not asked for: `make test-browser`, or LIGHTVIT_TEST_BROWSER=1", allow_module_level=True)
    if missing() and "LIGHTVIT_REQUIRE_BROWSER" in asked:
        pytest.fail(f"LIGHTVIT_REQUIRE_BROWSER=1, but {missing()}", pytrace=False)
    if missing():
        pytest.skip(missing(), allow_module_level=True)


def pages(html: Path = HTML) -> list[str]:
    """The addresses of a built book's own pages, below `html`; those that only lead to another page are left out."""
    found = sorted(path.relative_to(html).as_posix() for path in html.glob("**/*.html")
                   if 'http-equiv="refresh"' not in path.read_text(encoding="utf-8")[:600])
    return [address for address in found if not NO_PAGES.fullmatch(address)]


@contextmanager
def serve(folder: Path) -> Iterator[str]:
    """Serve `folder` on a free port of this machine alone; gives the address."""
    handler = functools.partial(_Quiet, directory=str(folder))
    server = _Server(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


class _Server(ThreadingHTTPServer):
    """Lets a page ask for all its files at once; five, the usual number, leaves some waiting for seconds."""

    request_queue_size = 128

    def handle_error(self, request, client_address) -> None:
        """Say nothing of a tab that is closed before its page is there."""


@functools.cache
def _packed(file: Path) -> bytes:
    return gzip.compress(file.read_bytes(), 6)


class _Quiet(SimpleHTTPRequestHandler):
    """A server that says nothing, and packs pages, scripts and styles, as those that publish a book do."""

    def log_message(self, *arguments) -> None:
        """Say nothing."""

    def send_head(self) -> BytesIO | None:
        """The packed file, where it is text."""
        file = Path(self.translate_path(self.path))
        if file.suffix not in (".html", ".js", ".css") or not file.is_file():
            return super().send_head()
        content = _packed(file)
        self.send_response(200)
        for name, value in {"Content-Type": f"{self.guess_type(str(file))}; charset=utf-8", "Content-Encoding": "gzip",
                            "Content-Length": len(content)}.items():
            self.send_header(name, str(value))
        self.end_headers()
        return BytesIO(content)


@dataclass
class Tab:
    """A page that is open, and what happened while it loaded."""

    page: object
    address: str
    view: str
    errors: list[str] = field(default_factory=list)     # in the console, or thrown by a script
    failed: list[str] = field(default_factory=list)     # requests to the book's host without an answer, or a bad one
    elsewhere: list[str] = field(default_factory=list)  # requests to any other host
    covers: int = 0                                     # over what answers a prediction, as the page was opened
    covered: list[float] = field(default_factory=list)  # heights in pixels of what lay below them
    reading: dict[str, float] = field(default_factory=dict)     # lengths in pixels, as the page comes, folds closed

    def look(self, at: str) -> list[str]:
        """What is wrong with the page's "figures", "labels", "formulas" or "edges"."""
        return self.page.evaluate(f"width => looks.{at}(width)", VIEWS[self.view]["viewport"]["width"])

    def unfold(self) -> None:
        """Open every fold, so that what lies in it is looked at too."""
        self.page.evaluate("() => document.querySelectorAll('details').forEach(fold => { fold.open = true; })")

    def use_theme(self, theme: str) -> None:
        """Switch to "light" or "dark" as the theme's own button does, at once."""
        self.page.evaluate("theme => looks.useTheme(theme)", theme)


@contextmanager
def open_tab(browser: object, origin: str, address: str, view: str = "wide", covered: bool = False,
             motion: str = "reduce") -> Iterator[Tab]:
    """Open one page of the book in a fresh profile and wait until its formulas and figures had their turn.

    What answers a prediction is shown as to a reader who asks to see it, unless it is to stay `covered`.
    """
    context = browser.new_context(**VIEWS[view], reduced_motion=motion, color_scheme="light")
    context.add_init_script(path=Path(__file__).with_suffix(".js"))
    tab = Tab(context.new_page(), address, view)
    _listen(tab, origin)
    try:
        tab.page.goto(f"{origin}/{address}", wait_until="load")
        tab.page.evaluate("document.querySelectorAll('details.lab-further').forEach(fold => { fold.open = true; })")
        tab.page.evaluate("() => looks.settle()")
        tab.covers = tab.page.locator(".lab-predict-cover").count()
        tab.covered = tab.page.locator(".lab-predict-covered").evaluate_all(
            "boxes => boxes.map(box => box.getBoundingClientRect().height)")
        tab.reading = tab.page.evaluate("() => looks.reading()")
        if not covered:
            tab.page.evaluate("document.querySelectorAll('.lab-predict-cover button').forEach(button => button.click())")
            tab.page.evaluate("() => looks.settle()")
        yield tab
    finally:
        context.close()


def _listen(tab: Tab, origin: str) -> None:
    """Note errors and requests. Chromium's "Failed to load resource" is left out: the request itself is noted."""
    host = urlsplit(origin).netloc

    def console(message) -> None:
        if message.type == "error" and not message.text.startswith("Failed to load resource"):
            tab.errors.append(f"{message.text} ({message.location.get('url', '')})")

    def request(sent) -> None:
        if urlsplit(sent.url).scheme in ("http", "https", "ws", "wss") and urlsplit(sent.url).netloc != host:
            tab.elsewhere.append(sent.url)

    def unanswered(sent) -> None:
        if urlsplit(sent.url).netloc == host:
            tab.failed.append(f"{sent.url}: {sent.failure}")

    def response(got) -> None:
        if got.status >= 400 and urlsplit(got.url).netloc == host:
            tab.failed.append(f"{got.url}: {got.status}")

    tab.page.on("console", console)
    tab.page.on("pageerror", lambda error: tab.errors.append(str(error)))
    tab.page.on("request", request)
    tab.page.on("requestfailed", unanswered)
    tab.page.on("response", response)


STILL = "*, *::before, *::after { transition: none !important; animation: none !important; }"
KEYBOARD = Path(__file__).with_name("keyboard.js")


def walk(tab: Tab) -> tuple[int, list[str], list[str], str]:
    """Press Tab until the focus has left the page: stops, what it missed, where it is not seen, where it was caught."""
    tab.page.add_style_tag(content=STILL)
    tab.page.evaluate(KEYBOARD.read_text(encoding="utf-8"))
    stops = tab.page.evaluate("() => keyboard.start()")
    for _ in range(stops + 400):
        tab.page.keyboard.press("Tab")
        caught = tab.page.evaluate("() => keyboard.note()")
        if caught is None:
            missed, unseen = tab.page.evaluate("() => [keyboard.missed(), keyboard.notSeen()]")
            return stops, missed, unseen, ""
        if caught:
            break
    return stops, [], [], caught or "the focus never leaves the page"


CONTRAST = "color-contrast"


def accessibility(tab: Tab, contrast: bool = True, others: bool = True) -> list[str]:
    """What axe-core calls serious or critical: of the `contrast` of text, and by all `others` of its rules.

    Of text it looks at one of each kind: all other text of the page has the same colours.
    """
    found = axe(tab, contrast=True)["violations"] if contrast else []
    found += axe(tab, contrast=False)["violations"] if others else []
    return [_violation(rule) for rule in found if rule["impact"] in ("serious", "critical")]


def axe(tab: Tab, contrast: bool, result: str = "violations") -> dict[str, list[dict]]:
    """What axe-core finds, by the rule on contrast alone or by all others."""
    from axe_playwright_python.sync_playwright import Axe

    tab.page.evaluate("() => looks.oneWordOfEachKind()")
    if contrast:
        assert tab.page.evaluate("() => looks.markOneTextOfEachKind()") > 0
    looked_at = {"include": [["[data-one-of-a-kind]"]]} if contrast else None
    rules = {"runOnly": [CONTRAST]} if contrast else {"rules": {CONTRAST: {"enabled": False}}}
    return Axe().run(tab.page, looked_at, {"resultTypes": [result], "preload": False} | rules).response


def _violation(rule: dict) -> str:
    places = [f"    {' '.join(map(str, node['target']))}: {' '.join(node['failureSummary'].split()[:40])}"
              for node in rule["nodes"][:8]]
    return "\n".join([f"{rule['id']} ({rule['impact']}, {len(rule['nodes'])} places): {rule['help']}", *places])
