"""Puts the book's own modules on the path, as the Sphinx extension does; the browser, and the built book, served."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
for folder in ("book/_tools", "book/_ext"):
    sys.path.insert(0, str(ROOT / folder))


@pytest.fixture(scope="module")      # no longer: other tests drive a browser of their own, and two at once cannot be
def chromium():
    import browser
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=browser.chromium(), args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def origin():
    import browser

    with browser.serve(browser.HTML) as address:
        yield address


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Two at a time, with `--dist loadgroup`: what looks at one page at one width shares its tab, and a file its rest.

    By the tests' names: pytest 9 keeps those without the groups that marks of pytest-xdist 3.8 add to them.
    """
    if config.getvalue("dist") != "loadgroup":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class ByTab(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            tab = re.search(r"\[(\w+-(?:wide|phone))[]-]", nodeid)
            return tab[1] if tab else nodeid.split("::")[0]

    return ByTab(config, log)
