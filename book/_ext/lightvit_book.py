"""The book's Sphinx extension: settings of the checkout, and what pages need beyond the theme.

Its parts: this file sets up, `lab_execution` runs the pages, `lab_exercise` fills the exercise
boxes, `lab_diagrams` puts drawings in, `lab_status`, `lab_points` and `lab_lessons` draw tables,
`lab_api` lists the public names of the library, `lab_feedback` asks what was unclear, `lab_meta`
describes each page in its head, `lab_pages` decides which scripts and buttons a page gets and what
stands behind its download button, `lab_redirects` leads from the old addresses of renamed pages to
the new ones, `lab_road` marks the road through a page, `lab_stills` draws a static picture of each
figure, `lab_terms` brings the glossary to its words.
"""

from __future__ import annotations

import os
import sys
import tomllib
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.util import logging

# before the imports below, some of which lie there
sys.path.insert(0, str(Path(__file__).parents[1] / "_tools"))

import cache_key
import lab_api
import lab_diagrams
import lab_execution
import lab_exercise
import lab_feedback
import lab_lessons
import lab_meta
import lab_pages
import lab_points
import lab_redirects
import lab_road
import lab_status
import lab_stills
import lab_terms
import vendor

logger = logging.getLogger(__name__)


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect the parts; called by Sphinx."""
    app.connect("config-inited", set_environment, priority=100)
    app.connect("config-inited", set_execution_cache, priority=110)
    app.connect("config-inited", set_repository)
    app.connect("config-inited", set_scripts)
    app.connect("build-finished", forget_failed_build, priority=900)
    for part in (lab_api, lab_diagrams, lab_execution, lab_exercise, lab_feedback, lab_lessons,
                 lab_meta, lab_pages, lab_points, lab_redirects, lab_road, lab_status, lab_stills,
                 lab_terms):
        part.setup(app)
    return {"parallel_read_safe": False, "parallel_write_safe": True}


# the kernel talks to the build over loopback only: its warning about encryption is no use
KERNEL_CONFIG = "c.IPKernelApp.log_level = 40   # errors only\n"


def set_environment(app: Sphinx, config: Config) -> None:
    """Set the environment of the kernels: a book is being built; the data folder is absolute.

    They get an IPython folder of their own, so that nobody's personal start-up files change what a
    page prints.
    """
    ipython = Path(app.outdir).parent / ".ipython"
    profile = ipython / "profile_default"
    profile.mkdir(parents=True, exist_ok=True)
    (profile / "ipython_kernel_config.py").write_text(KERNEL_CONFIG, encoding="utf-8")
    # one thread a page
    os.environ.update(IPYTHONDIR=str(ipython), LIGHTVIT_BOOK="1", OMP_NUM_THREADS="1")
    if os.environ.get("LIGHTVIT_DATA"):
        os.environ["LIGHTVIT_DATA"] = str(Path(app.srcdir, os.environ["LIGHTVIT_DATA"]).resolve())


def set_execution_cache(app: Sphinx, config: Config) -> None:
    """Store outputs in a folder named after all they depend on: a new name rereads every page."""
    caches, key = Path(app.outdir).parent / ".jupyter_cache", cache_key.cache_key(Path(app.srcdir))
    cache_key.keep_newest(caches, key)
    config.nb_execution_cache_path = str(caches / key)


def set_repository(app: Sphinx, config: Config) -> None:
    """Give the theme the repository's address, which stands in pyproject.toml alone."""
    text = Path(app.srcdir, "pyproject.toml").read_text(encoding="utf-8")
    urls = tomllib.loads(text)["project"]["urls"]
    config.html_theme_options["repository_url"] = urls["Repository"]


def set_scripts(app: Sphinx, config: Config) -> None:
    """Load MathJax and the widget manager from the book itself, else from a public CDN.

    What lies in book/_static, style sheets and scripts, is loaded on every page.
    """
    local = vendor.vendor()
    config.html_extra_path = [*config.html_extra_path, str(vendor.FOLDER.parent)]
    source = {name: f"../vendor/{vendor.script(name)}" if name in local else package.cdn
              for name, package in vendor.PACKAGES.items()}
    config.mathjax_path = source["mathjax"]
    config.nb_ipywidgets_js = {source["widgets"]: {}}
    static = Path(app.srcdir, "book", "_static")
    for name, kind in (("html_css_files", "*.css"), ("html_js_files", "*.js")):
        files = sorted(path.name for path in static.glob(kind))
        setattr(config, name, [*getattr(config, name), *files])


def forget_failed_build(app: Sphinx, exception: Exception | None) -> None:
    """After a warning, make the next build read every page: Sphinx would skip the faulty one."""
    if exception is None and app._warncount:
        Path(app.doctreedir, "environment.pickle").unlink(missing_ok=True)
