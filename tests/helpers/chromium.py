"""A headless Chromium that the machine has, driven by playwright; tests are skipped where there is none."""

import shutil
from contextlib import contextmanager

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PROGRAM = next(filter(None, map(shutil.which, NAMES)), None)
needs_chromium = pytest.mark.skipif(
    PROGRAM is None, reason="no Chromium or Chrome on PATH (Debian: apt-get install chromium)"
)
# Without these it looks for updates and the like, which a closed network refuses one by one.
QUIET = (
    "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--hide-scrollbars",
)  # fmt: skip


@contextmanager
def chromium():
    """Yield a browser."""
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=PROGRAM, args=[*QUIET])
        yield browser
        browser.close()


@contextmanager
def opened(browser, address, width, *, height=900, dark=False):
    """Yield a page in a window of this width in CSS pixels.

    It has lists of what was said: ``complaints`` to the console or by dialogs, ``asked`` as pairs of method and address.
    """
    scheme = "dark" if dark else "light"
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    page.complaints, page.asked = [], []
    page.on("console", lambda message: page.complaints.append(message.text))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("dialog", lambda dialog: page.complaints.append(dialog.message))
    page.on("request", lambda request: page.asked.append((request.method, request.url)))
    page.goto(address)
    yield page
    page.close()
