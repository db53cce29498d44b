"""One object under three operations, in a real browser: at both widths, on paper and without JavaScript."""

import maskrcnn_repro  # noqa: F401
from maskrcnn_repro.tables.report.exchange.files import find_stored, measure_missing
from maskrcnn_repro.tables.report.html import Shown, write_page

import pytest

from tests.helpers.chromium import needs_chromium, opened
from tests.helpers.html_runs import register_tiny
from tests.helpers.operation_runs import operation_report

pytestmark = [needs_chromium, pytest.mark.slow]
PICTURES = "[...document.querySelectorAll('.exchange svg')].map(element => element.getBoundingClientRect()).map(%s)"


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    report = operation_report(folder, register_tiny(folder))
    measure_missing(report, str)
    write_page(folder / "report.html", [Shown(report, operations=find_stored(report))])
    return (folder / "report.html").resolve().as_uri()


@pytest.mark.parametrize(("width", "columns"), [(390, 1), (1280, 3)])
def test_the_pictures_fit_and_stand_in_columns(browser, file, width, columns):
    with opened(browser, file, width) as page:
        assert page.complaints == []
        assert page.evaluate("document.documentElement.scrollWidth") == width
        lefts = page.evaluate(PICTURES % "box => Math.round(box.left)")
        assert len(lefts) == 6
        assert len(set(lefts)) == columns
        assert min(page.evaluate(PICTURES % "box => Math.min(box.width, box.height)")) > 60


def test_the_picture_and_its_lines_are_drawn(browser, file):
    with opened(browser, file, 1280) as page:
        shown = page.evaluate(
            "[...document.querySelectorAll('.exchange svg path')].map(path => [path.getAttribute('class'),"
            " path.getBBox().width > 0, getComputedStyle(path).stroke !== 'none'])"
        )
        assert all(
            has_size and has_line for name, has_size, has_line in shown if "mask" not in name
        )
        assert page.evaluate("document.querySelectorAll('#exchange-scene image').length") == 1


def test_it_is_there_without_javascript_and_on_paper(browser, file):
    page = browser.new_page(java_script_enabled=False, viewport={"width": 1280, "height": 900})
    page.goto(file)
    assert page.locator(".exchange svg").count() == 6
    assert page.locator(".exchange svg").first.is_visible()
    assert page.locator(".exchange-sizes").first.is_visible()
    page.emulate_media(media="print")
    assert page.locator(".exchange svg").last.is_visible()
    page.close()
