"""A browser for the figures that are pages of their own."""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "book"))
import browser  # noqa: E402


@pytest.fixture(scope="package")
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
