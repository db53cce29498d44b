"""The page in a headless Chromium: it opens in peace, fits, and shows a worst image larger."""

import maskrcnn_repro  # noqa: F401
from maskrcnn_repro.analysis.page import write_page_of
from maskrcnn_repro.analysis.source import Source

import cv2
import numpy as np
import pytest

from tests.helpers.chromium import needs_chromium, opened
from tests.helpers.detections import SIDE, random_pair

pytestmark = [pytest.mark.slow, needs_chromium]


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    for number in range(12):
        cv2.imwrite(str(folder / f"{number}.png"), np.full((SIDE, SIDE, 3), 90, np.uint8))
    return write_page_of(Source("mine", *random_pair(folder), folder), folder / "page.html")


@pytest.fixture(params=[390, 1280])
def page(request, browser, page_file):
    with opened(browser, page_file.as_uri(), request.param) as page:
        yield page


def test_it_opens_without_a_complaint_and_asks_for_nothing(page, page_file):
    page.wait_for_timeout(200)
    assert page.complaints == []
    asked = [url for _, url in page.asked if not url.startswith("data:")]
    assert asked == [page_file.as_uri()]
    width = page.viewport_size["width"]
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_a_click_on_the_worst_image_shows_it_larger(page):
    assert not page.locator("dialog").is_visible()
    names = page.locator("#gallery .name").all_inner_texts()
    thumbnail = page.locator("#gallery svg").first
    small = thumbnail.bounding_box()["width"]
    thumbnail.click()
    assert page.locator("dialog .name").inner_text().startswith(names[0])
    large = page.locator("dialog .large svg")
    assert large.bounding_box()["width"] > (
        1.5 * small if page.viewport_size["width"] > 390 else 250
    )
    assert large.locator(".mark").count() > 0
    assert large.locator("text").first.is_visible()
    page.keyboard.press("ArrowRight")
    assert page.locator("dialog .name").inner_text().startswith(names[1])
    page.locator("dialog [data-step='0']").click()
    assert not page.locator("dialog").is_visible()
    assert page.complaints == []


@pytest.mark.parametrize("kind", ["hit", "miss", "alarm"])
def test_marks_of_a_kind_can_be_hidden(page, kind):
    mark = page.locator(f"#gallery .mark.{kind} path").first
    assert mark.is_visible()
    page.locator(f"#tools [data-kind='{kind}']").uncheck()
    assert not mark.is_visible()
