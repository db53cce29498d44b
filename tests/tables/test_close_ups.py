"""Close-ups: boundary IoUs by hand, what is cut and drawn, nothing to compare; the page that shows them."""

from dataclasses import replace

import maskrcnn_repro  # noqa: F401
from maskrcnn_repro.tables.report.html import Shown, write_page
from maskrcnn_repro.tables.report.html.close_ups import close_up, overlaps
from maskrcnn_repro.tables.report.model import ReportColumn
from maskrcnn_repro.visualization.draw import Objects, Style

import numpy as np
import pytest

from tests.helpers.chromium import chromium, needs_chromium, opened
from tests.helpers.html_runs import Page, register_tiny, whole_report

STYLE = Style(["bar", "ring"])
# The strip is 2 px wide in an image of 64 x 64. A square of 20 px has 400 - 16**2 = 144 px in it; one that is 1 px aside
# has 14 + 14 + 40 of these in its own strip, and 76 px of the 144 aside are not.
WHITE = (255, 255, 255)


def objects(*corners, classes=None, side=20):
    masks = []
    for x, y in corners:
        masks.append(np.zeros((64, 64), bool))
        masks[-1][y : y + side, x : x + side] = True
    boxes = np.array([(x, y, x + side, y + side) for x, y in corners], float).reshape(-1, 4)
    return Objects(boxes, np.array(classes or [0] * len(corners), np.int64), masks)


def test_overlaps_by_hand():
    truth = objects((10, 10), (40, 40))
    found = objects((11, 10), (10, 10), classes=[0, 1])
    ((overlap, index), missing) = overlaps(truth, found)
    strips = [np.zeros((64, 64), bool) for _ in range(2)]
    for strip, x in zip(strips, (10, 11), strict=True):
        strip[10:30, x : x + 20] = True
        strip[12:28, x + 2 : x + 18] = False
    common, union = (strips[0] & strips[1]).sum(), (strips[0] | strips[1]).sum()
    # That of another class fits better, and does not count.
    assert (overlap, index) == (pytest.approx(common / union), 0)
    assert missing == (None, None)


def test_the_largest_object_is_cut_out_with_its_outline_in_white():
    truth = objects((10, 10), side=20)
    truth = replace(
        truth,
        boxes=np.concatenate([truth.boxes, [[40, 40, 45, 45]]]),
        classes=np.array([1, 0]),
        masks=[*truth.masks, objects((40, 40), side=5).masks[0]],
    )
    shown = close_up(np.zeros((64, 64, 3), np.uint8), truth, truth, STYLE)
    assert (shown.name, shown.overlap, shown.others) == ("ring", 1.0, (("bar", 1.0),))
    # 20 px and a margin of 3 px each way, magnified to 240 px.
    assert shown.pixels.shape == (240, 240, 3)
    assert (shown.pixels == WHITE).all(axis=2).any()
    assert not shown.pixels[0].any()


def test_an_object_that_is_not_found_is_outlined_all_the_same():
    truth = objects((10, 10))
    shown = close_up(np.zeros((64, 64, 3), np.uint8), truth, objects(), STYLE)
    assert shown.overlap is None
    colours = {tuple(pixel) for pixel in shown.pixels.reshape(-1, 3)}
    assert all(len(set(pixel)) == 1 for pixel in colours)  # grey alone: no mask is tinted


def test_without_masks_there_is_nothing_to_compare():
    image = np.zeros((64, 64, 3), np.uint8)
    assert close_up(image, objects(), objects(), STYLE) is None
    boxes = replace(objects((10, 10)), masks=())
    assert close_up(image, objects((10, 10)), boxes, STYLE) is None


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("outlines")
    report = whole_report(folder / "output", register_tiny(folder))
    column = ReportColumn("boundary_AP", "boundary AP", "boundary", "AP", False)
    rows = [replace(r, cells={**r.cells, "boundary_AP": r.cells["AP"]}) for r in report.rows]
    report = replace(report, columns=(*report.columns, column), rows=tuple(rows))
    assert write_page(folder / "report.html", [Shown(report)]) == ()
    return folder / "report.html"


def test_a_table_of_boundary_ap_shows_outlines_under_each_row(file):
    page = Page(file.read_text())
    assert page.unbalanced == []
    shown = [image for image in page.attributes("img") if image["width"] != "300"]
    assert len(shown) == 4 * 3
    assert all(image["src"].startswith("data:image/webp;base64,") for image in shown)
    numbers = page.text_of("td", class_=None)
    assert any(text.startswith("1.00") for text in numbers)
    assert any("not found" in text for text in numbers)


@pytest.mark.slow
@needs_chromium
@pytest.mark.parametrize("width", [390, 1280])
def test_outlines_can_be_seen_in_a_browser_and_do_not_widen_the_page(file, width):
    with chromium() as browser, opened(browser, file.resolve().as_uri(), width) as page:
        assert page.complaints == []
        assert page.evaluate("document.documentElement.scrollWidth") == width
        heights = page.evaluate(
            "[...document.querySelectorAll('.outlines img')].map(image => image.getBoundingClientRect().height)"
        )
        assert len(heights) == 12
        assert min(heights) > 60
        sizes = page.evaluate(
            "[...document.querySelectorAll('.outlines td b, .outlines td span')]"
            ".map(element => parseFloat(getComputedStyle(element).fontSize))"
        )
        assert min(sizes) >= 13
