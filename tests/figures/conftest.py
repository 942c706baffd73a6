"""A browser for the figures that are pages of their own."""

import os
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "book"))
import browser  # noqa: E402


@pytest.fixture(scope="module")     # no longer: two browsers in one process cannot be
def chromium():
    missing = None if browser.chromium() else "no browser found; `apt-get install chromium` brings one"
    if missing and os.environ.get("LIGHTVIT_REQUIRE_BROWSER") == "1":
        pytest.fail(f"LIGHTVIT_REQUIRE_BROWSER=1, but {missing}", pytrace=False)
    sync_api = pytest.importorskip("playwright.sync_api", reason='needs Playwright: pip install "lightvit-lab[test]"')
    if missing:
        pytest.skip(missing)
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=browser.chromium(), args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def stand_alone(tmp_path_factory):
    """A function: HTML parts -> the address that serves them as one page, until the module's tests have ended."""
    with ExitStack() as stack:
        def publish(*parts: str) -> str:
            folder = tmp_path_factory.mktemp("site")
            body = "".join(f"<div>{part}</div>" for part in parts)
            (folder / "page.html").write_text(
                '<!doctype html><html lang="en"><head><meta charset="utf-8"><link rel="icon" href="data:,">'
                '<meta name="viewport" content="width=device-width"><title>page</title></head>'
                f'<body><main class="bd-article"><h1>Page</h1>{body}</main></body></html>', encoding="utf-8")
            return stack.enter_context(browser.serve(folder))

        yield publish


@pytest.fixture(params=["wide", "phone"])
def any_tab(request, chromium, site):
    """The page of the module's own `site`, at both widths."""
    with browser.open_tab(chromium, site, "page.html", request.param) as opened:
        yield opened


@pytest.fixture
def tab(chromium, site):
    with browser.open_tab(chromium, site, "page.html") as opened:
        yield opened
