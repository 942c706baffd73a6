"""Puts the book's own modules on the path, as the Sphinx extension does; the browser, and the built book, served."""

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


def pytest_collection_modifyitems(items):
    """Two at a time, with `--dist loadgroup`: what looks at one page at one width shares its tab, and a file its rest."""
    for item in items:
        page = getattr(item, "callspec", None) and item.callspec.params.get("tab")
        item.add_marker(pytest.mark.xdist_group("-".join(page) if page else item.path.stem))
