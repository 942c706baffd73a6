"""Helpers of the browser tests: find a Chromium, serve the built book on loopback, open its pages, look at them.

Where JavaScript looks at the page, it returns a list of sentences about what is wrong; an empty list is good.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parents[2]
HTML = ROOT / "_build" / "html"
NAMES = ("chromium", "chromium-browser", "google-chrome")
PHONE_WIDTH = 390
VIEWS = {
    "wide": {"viewport": {"width": 1400, "height": 900}},
    "phone": {"viewport": {"width": PHONE_WIDTH, "height": 844}, "is_mobile": True, "has_touch": True},
}
NO_PAGES = re.compile(r"(_static|_sources|_downloads|vendor|reports)/.*|(genindex|search|index|.*-modindex|prf-prf)\.html")


def chromium() -> str | None:
    """The browser to drive: the program `CHROMIUM` names, else an installed Chromium or Chrome."""
    return next(filter(None, map(shutil.which, [os.environ.get("CHROMIUM", ""), *NAMES])), None)


def missing(html: Path = HTML) -> str | None:
    """What is not there and how to get it; None where the tests can run."""
    if chromium() is None:
        return f"no browser found (tried CHROMIUM, {', '.join(NAMES)}); `apt-get install chromium` brings one"
    if not pages(html):
        return f"no built book in {html}; `make book` builds it"
    return None


def pages(html: Path = HTML) -> list[str]:
    """The addresses of a built book's own pages, below `html`."""
    found = sorted(path.relative_to(html).as_posix() for path in html.glob("**/*.html"))
    return [address for address in found if not NO_PAGES.fullmatch(address)]


@contextmanager
def serve(folder: Path) -> Iterator[str]:
    """Serve `folder` on a free port of this machine alone; gives the address."""
    handler = functools.partial(_Quiet, directory=str(folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments) -> None:
        """Say nothing."""


@dataclass
class Tab:
    """A page that is open, and what happened while it loaded."""

    page: object
    address: str
    view: str
    errors: list[str] = field(default_factory=list)     # in the console, or thrown by a script
    failed: list[str] = field(default_factory=list)     # requests to the book's host without an answer, or a bad one
    elsewhere: list[str] = field(default_factory=list)  # requests to any other host

    def look(self, script: str) -> list[str]:
        """What a JavaScript function finds on the page."""
        return self.page.evaluate(script)

    def unfold(self) -> None:
        """Open every fold, so that what lies in it is looked at too."""
        self.page.evaluate("() => document.querySelectorAll('details').forEach(fold => { fold.open = true; })")

    def use_theme(self, theme: str) -> None:
        """Switch to "light" or "dark" as the theme's own button does, at once."""
        self.page.evaluate(USE_THEME, theme)


@contextmanager
def open_tab(browser: object, origin: str, address: str, view: str = "wide") -> Iterator[Tab]:
    """Open one page of the book in a fresh profile and wait until its formulas and figures had their turn."""
    context = browser.new_context(**VIEWS[view], reduced_motion="reduce", color_scheme="light")
    tab = Tab(context.new_page(), address, view)
    _listen(tab, origin)
    try:
        tab.page.goto(f"{origin}/{address}", wait_until="load")
        tab.page.evaluate(SETTLE)
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


def accessibility(tab: Tab, rules: list[str] | None = None) -> list[str]:
    """What axe-core calls serious or critical, by all its rules or a few: rule, advice, and the first places."""
    from axe_playwright_python.sync_playwright import Axe

    options = {"resultTypes": ["violations"], "preload": False} | ({"runOnly": rules} if rules else {})
    found = Axe().run(tab.page, options=options).response["violations"]
    return [_violation(rule) for rule in found if rule["impact"] in ("serious", "critical")]


def _violation(rule: dict) -> str:
    places = [f"    {' '.join(map(str, node['target']))}: {' '.join(node['failureSummary'].split()[:40])}"
              for node in rule["nodes"][:8]]
    return "\n".join([f"{rule['id']} ({rule['impact']}, {len(rule['nodes'])} places): {rule['help']}", *places])


# As pydata-sphinx-theme's setTheme: attribute and storage. Colours change at once, so that no scan meets a transition.
USE_THEME = """theme => {
  if (!document.getElementById("at-once")) {
    const style = document.createElement("style");
    style.id = "at-once";
    style.textContent = "*, *::before, *::after { transition: none !important; animation: none !important; }";
    document.head.append(style);
  }
  Object.assign(document.documentElement.dataset, {mode: theme, theme: theme});
  localStorage.setItem("mode", theme);
  localStorage.setItem("theme", theme);
}"""

SETTLE = """async () => {
  const frame = () => new Promise(requestAnimationFrame);
  const late = new Promise(resolve => setTimeout(resolve, 20000));
  await Promise.race([late, (async () => {
    if (window.MathJax && MathJax.startup) await MathJax.startup.promise;
    await document.fonts.ready;
    const drawn = () => [...document.querySelectorAll(".plotly-graph-div")].every(div => div.querySelector(".main-svg"));
    while (!drawn()) await frame();
    await frame(); await frame();
  })()]);
}"""

UNDRAWN_FIGURES = """() => {
  const wrong = [];
  const figures = document.querySelectorAll(".plotly-graph-div, .lab-figure");
  figures.forEach((figure, index) => {
    const name = `figure ${index} (${figure.getAttribute("aria-label") || figure.className})`;
    const svg = figure.querySelector(".main-svg");
    if (!svg) { wrong.push(`${name}: not drawn`); return; }
    const box = svg.getBoundingClientRect();
    if (box.width < 50 || box.height < 50) wrong.push(`${name}: drawn ${box.width} by ${box.height} pixels`);
    if (!figure.querySelector(".trace, .plot image, .heatmaplayer > *, .imagelayer > *, .barlayer > *, .scatterlayer > *"))
      wrong.push(`${name}: without any data`);
  });
  return wrong;
}"""

RAW_FORMULAS = r"""() => {
  const wrong = [];
  document.querySelectorAll(".bd-article .math").forEach(math => {
    if (!math.querySelector("mjx-container")) wrong.push(`not typeset: ${math.textContent.slice(0, 80)}`);
  });
  document.querySelectorAll("mjx-merror, [data-mjx-error]").forEach(error => wrong.push(`error in: ${error.textContent}`));
  const walker = document.createTreeWalker(document.querySelector(".bd-article") || document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode;
    if (node.parentElement.closest("script, style, pre, code, mjx-container, .math")) continue;
    if (/\\\(|\\\[|\$\$|\\begin\{|\$(?!\s)[^$\n]+(?<!\s)\$/.test(node.data)) wrong.push(`raw: ${node.data.trim().slice(0, 80)}`);
  }
  return wrong;
}"""

# Wider than the screen, unless the reader can scroll to it; or clipped without a way to see the rest.
CUT_OFF = """width => {
  const wrong = [];
  const total = document.scrollingElement.scrollWidth;
  if (total > width + 1) wrong.push(`the page is ${total} pixels wide on a screen of ${width}`);
  const name = element => {
    const path = [];
    for (let at = element; at && !at.matches(".bd-article"); at = at.parentElement)
      path.unshift(at.tagName.toLowerCase() + (at.id ? "#" + at.id : [...at.classList].slice(0, 2).map(c => "." + c).join("")));
    return `${path.slice(-4).join(" > ")} "${element.textContent.trim().slice(0, 40)}"`;
  };
  const scrolls = element => {
    for (let at = element.parentElement; at && at !== document.body; at = at.parentElement)
      if (["auto", "scroll"].includes(getComputedStyle(at).overflowX)) return true;
    return false;
  };
  const unseen = "svg *, mjx-container *, .lab-sr-only, .visually-hidden, script, style, br, [hidden]";
  for (const element of document.querySelectorAll(".bd-article, .bd-article *, .bd-header-article, .bd-header-article *")) {
    if (element.matches(unseen) || !element.checkVisibility({visibilityProperty: true})) continue;
    const style = getComputedStyle(element), box = element.getBoundingClientRect();
    if (box.width < 2 || box.height < 2 || style.clipPath !== "none" || element.closest(".lab-sr-only")) continue;
    if ((box.right > width + 1 || box.left < -1) && !scrolls(element))
      wrong.push(`from ${Math.round(box.left)} to ${Math.round(box.right)} of ${width} pixels: ${name(element)}`);
    // A formula's own width: MathJax hides a second copy for screen readers beside it, which may be wider.
    const formula = element.matches("span.math") && element.querySelector("mjx-math");
    const needed = formula ? formula.getBoundingClientRect().width : element.scrollWidth;
    if (["hidden", "clip"].includes(style.overflowX) && needed > element.clientWidth + 1
        && element.clientWidth > 0 && element.textContent.trim() && !element.closest(".js-plotly-plot, div.math"))
      wrong.push(`clipped at ${element.clientWidth} of ${Math.round(needed)} pixels: ${name(element)}`);
  }
  return wrong.slice(0, 12);
}"""

# Captions, titles and legends inside figures: not beyond the drawing's edge, and not over one another.
RUNNING_TEXT = """() => {
  const wrong = [];
  document.querySelectorAll(".js-plotly-plot").forEach((plot, index) => {
    const edge = plot.querySelector(".main-svg").getBoundingClientRect();
    const labels = [...plot.querySelectorAll(".annotation-text, .gtitle, .xtitle, .ytitle, .legendtext, .slider-label, .slider-value, .cbtitle text, .xtick text, .ytick text")]
      .filter(label => label.textContent.trim() && label.checkVisibility({opacityProperty: true, visibilityProperty: true}))
      .map(label => ({text: label.textContent.trim(), box: label.getBoundingClientRect(), group: label.closest("[class*=tick]") ? "tick" : "label"}));
    labels.forEach(({text, box}) => {
      if (box.left < edge.left - 3 || box.right > edge.right + 3 || box.top < edge.top - 3 || box.bottom > edge.bottom + 3)
        wrong.push(`figure ${index}: "${text}" runs out of the drawing`);
    });
    const words = labels.filter(label => label.group === "label");
    words.forEach((one, i) => words.slice(i + 1).forEach(other => {
      const across = Math.min(one.box.right, other.box.right) - Math.max(one.box.left, other.box.left);
      const down = Math.min(one.box.bottom, other.box.bottom) - Math.max(one.box.top, other.box.top);
      if (across > 2 && down > 4) wrong.push(`figure ${index}: "${one.text}" runs into "${other.text}"`);
    }));
  });
  return wrong;
}"""
