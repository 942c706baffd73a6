"""A static picture of each Plotly figure: for readers without JavaScript, and for a page's strip.

Plotly itself draws them, once, in a browser without a window, when the book is built. Where there
is no browser the pages say in a sentence that the numbers stand in the table below.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import tempfile
from html import unescape
from pathlib import Path
from typing import Any

import vendor
from sphinx.application import Sphinx
from sphinx.util import logging

from lightvit_lab.cli.doctor import browser

logger = logging.getLogger(__name__)
FOLDER = "_images/stills"
WAIT_S = 240
# of pages that were not written anew, too: their figures have a still already
PLOT = re.compile(r'<div class="lab-plot"(?: data-still="[^"]*")? (?P<style>style="height:\d+px")>'
                  r'<noscript>.*?</noscript></div>'
                  r'<script type="application/json">(?P<packed>.*?)</script>', re.DOTALL)
# draws one figure after the other, 640 pixels wide, and leaves their SVG in the document
SCRIPT = """
const wanted = %s, found = {}, box = document.createElement("div");
document.body.append(box);
(async () => {
  for (const [name, text] of Object.entries(wanted)) {
    const {data, layout} = JSON.parse(text), size = {width: 640, height: layout.height};
    Object.assign(layout, size, {autosize: false});
    await Plotly.newPlot(box, data, layout, {staticPlot: true});
    const uri = await Plotly.toImage(box, {format: "svg", ...size});
    found[name] = decodeURIComponent(uri.slice(uri.indexOf(",") + 1));
    Plotly.purge(box);
  }
  document.body.textContent = "stills" + JSON.stringify(found) + "stills";
})();
"""


def name_of(packed: str) -> str:
    """The file name of a figure's still: it changes when the figure does."""
    return hashlib.sha256(packed.encode()).hexdigest()[:16] + ".svg"


def draw(packed: dict[str, str], program: str) -> dict[str, str]:
    """File name -> SVG, of figures by file name. Raises ValueError if the browser gives none."""
    script = SCRIPT % json.dumps(packed).replace("<", "\\u003c")
    plotly = (vendor.FOLDER / vendor.script("plotly")).resolve().as_uri()
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder, "stills.html")
        page.write_text(f'<!doctype html><meta charset="utf-8"><script src="{plotly}"></script>'
                        f"<body><script>{script}</script>", encoding="utf-8")
        command = [program, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom",
                   f"--user-data-dir={folder}/profile", f"--virtual-time-budget={1000 * WAIT_S}",
                   page.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, check=False,
                              encoding="utf-8")
    drawn = re.search(r"<body[^>]*>stills(\{.*\})stills", done.stdout, re.DOTALL)
    if not drawn:
        raise ValueError((done.stderr.strip() or "an empty answer").splitlines()[-1])
    return json.loads(unescape(drawn[1]))


def draw_missing(figures: dict[str, str], folder: Path, program: str) -> None:
    """Draw those figures that have no file in `folder`, and remove files that no figure has."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.svg"):
        if old.name not in figures:
            old.unlink()
    missing = {name: text for name, text in figures.items() if not (folder / name).exists()}
    for name, svg in (draw(missing, program) if missing else {}).items():
        (folder / name).write_text(svg, encoding="utf-8")


def add_stills(app: Sphinx, exception: Exception | None) -> None:
    """Draw the stills of all pages, and put each into its figure."""
    if exception is not None or app.builder.name != "html":
        return
    root = Path(app.outdir)
    pages = {page: page.read_text(encoding="utf-8") for page in root.glob("chapters/**/*.html")}
    figures = {name_of(plot["packed"]): plot["packed"]
               for text in pages.values() for plot in PLOT.finditer(text)}
    program = browser()
    if not figures or program is None:
        return logger.info("no browser: figures have no static picture") if figures else None
    try:
        draw_missing(figures, root / FOLDER, program)
    except (ValueError, subprocess.TimeoutExpired, OSError) as error:
        return logger.info("static pictures of figures could not be drawn: %s", error)
    for page, text in pages.items():
        prefix = os.path.relpath(root / FOLDER, page.parent).replace(os.sep, "/")
        page.write_text(PLOT.sub(lambda plot: with_still(plot, prefix), text), encoding="utf-8")


def with_still(plot: re.Match[str], prefix: str) -> str:
    """A figure's place in the page, its still inside for readers without JavaScript."""
    source = f"{prefix}/{name_of(plot['packed'])}"
    return (f'<div class="lab-plot" data-still="{source}" {plot["style"]}>'
            f'<noscript><img class="lab-still" src="{source}" alt=""></noscript></div>'
            f'<script type="application/json">{plot["packed"]}</script>')


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect; called by `lightvit_book`."""
    app.connect("build-finished", add_stills, priority=850)
    return {}
