"""The HTML report in a real browser: it opens, asks for nothing, complains of nothing, and fits."""

import maskrcnn_repro  # noqa: F401
from maskrcnn_repro.tables.paper.numbers import metrics, tables
from maskrcnn_repro.tables.report.html import Shown, write_page
from maskrcnn_repro.tables.report.model import Cell, Estimate, Interval, ReportRow
from maskrcnn_repro.tables.report.report import table_columns

import pytest

from tests.helpers.chromium import needs_chromium, opened
from tests.helpers.html_runs import VERDICTS, register_tiny, report_of, whole_report

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    report = whole_report(folder / "output", register_tiny(folder))
    write_page(folder / "report.html", [Shown(report)])
    return (folder / "report.html").resolve().as_uri()


@pytest.mark.parametrize("width", [380, 1280])
def test_it_opens_without_a_complaint_and_asks_for_no_other_file(browser, file, width):
    with opened(browser, file, width) as page:
        assert page.complaints == []
        assert [url for _, url in page.asked if not url.startswith("data:")] == [file]
        assert page.evaluate("performance.getEntriesByType('resource').map(entry => entry.name)"
                             ".filter(name => !name.startsWith('data:'))") == []  # fmt: skip


@pytest.mark.parametrize("width", [380, 700, 1280])
def test_the_page_never_scrolls_sideways(browser, file, width):
    with opened(browser, file, width) as page:
        assert page.evaluate("window.innerWidth") == width
        assert page.evaluate("document.documentElement.scrollWidth") == width
        page.evaluate(
            "document.querySelectorAll('details').forEach(element => element.open = true)"
        )
        assert page.evaluate("document.documentElement.scrollWidth") == width


def test_wide_tables_and_pictures_scroll_within_their_own_frame(browser, file):
    with opened(browser, file, 380) as page:
        frames = page.evaluate(
            "[...document.querySelectorAll('.scroll')].map(element => [element.scrollWidth, element.clientWidth])"
        )
    assert len(frames) == 2
    assert all(inside > outside and outside <= 380 for inside, outside in frames)


@pytest.fixture(scope="module")
def widest(tmp_path_factory):
    """The page of the paper's widest table, 11 metrics with intervals, which has findings."""
    path = tmp_path_factory.mktemp("browser") / "report.html"
    table = tables()["7"]
    cell = Cell(
        33.5,
        3.5,
        Estimate(45.5, 0.7, (1, 2)),
        Estimate(-12.0, 0.7, (1, 2)),
        Interval(-21.7, 13.6, 95.0, (1, 2), 9),
    )
    rows = [
        ReportRow(r.id, r.name, "a", cells=dict.fromkeys(table.columns, cell))
        for r in list(table.rows.values())[-3:]
    ]
    sides = {"columns": table_columns(table, metrics()), "our_splits": ("mini_coco_seed1_val",)}
    write_page(path, [Shown(report_of(*rows, **sides, claims=VERDICTS))])
    return path.resolve().as_uri()


@pytest.mark.parametrize("name", ["widest", pytest.param("file", marks=pytest.mark.slow)])
def test_nothing_is_cut_off_on_paper(browser, name, request):
    wider = "[...document.querySelectorAll('main :is(table, td, p, figure, li)')]"
    wider += ".filter(each => each.getBoundingClientRect().right > innerWidth + 1).length"
    rows = "[...document.querySelectorAll('tbody tr, .strip, .gaps')].map(each => getComputedStyle(each).breakInside)"
    with opened(browser, request.getfixturevalue(name), 794) as page:
        page.emulate_media(media="print")
        # A sheet, and the width between its margins.
        for width in (794, 700):
            page.set_viewport_size({"width": width, "height": 1123})
            assert page.evaluate("document.documentElement.scrollWidth") == width
            assert page.evaluate(wider) == 0
        assert set(page.evaluate(rows)) == {"avoid"}
        assert page.locator("#words").bounding_box()["height"] > 100


@pytest.mark.slow
@pytest.mark.parametrize("width", [380, 1280])
def test_a_frame_that_scrolls_says_so_and_another_does_not(browser, file, width):
    with opened(browser, file, width) as page:
        frames = page.evaluate(
            "[...document.querySelectorAll('.scroll')].map(element => [element.scrollWidth > element.clientWidth,"
            " parseFloat(getComputedStyle(element, '::before').height)])"
        )
    assert {scrolls for scrolls, _ in frames} == {width < 1000}
    for scrolls, height in frames:
        assert (height > 15) == scrolls


@pytest.mark.parametrize("width", [380, 1280])
def test_tables_and_figures_can_be_seen(browser, file, width):
    sizes = "[...document.querySelectorAll('%s')].map(element => element.getBoundingClientRect().height)"
    plots = "main svg[role=img]:not(.own-scale *)"
    loaded = "[...document.images].every(image => image.complete && image.naturalWidth === 300)"
    with opened(browser, file, width) as page:
        assert page.evaluate("document.querySelectorAll('table').length") == 3
        for what, least in (("table", 100), (plots, 15), ("main img", 100)):
            heights = page.evaluate(sizes % what)
            assert heights
            assert min(heights) >= least, what
        assert page.evaluate(loaded)
        # Cards of findings stand far from a scale above the first: each has its own.
        scales = [scale.is_visible() for scale in page.locator(".own-scale").all()]
        assert scales == [width == 380] * len(VERDICTS)


def test_letters_are_large_enough_on_a_phone(browser, file):
    with opened(browser, file, 380) as page:
        sizes = page.evaluate(
            "[...document.querySelectorAll('main *')].filter(element => !element.closest('svg') && element.innerText)"
            ".map(element => parseFloat(getComputedStyle(element).fontSize))"
        )
    assert min(sizes) >= 13


@pytest.mark.parametrize("dark", [False, True])
def test_text_stands_out_in_both_schemes(browser, file, dark):
    with opened(browser, file, 1280, dark=dark) as page:
        pairs = page.evaluate(
            """
        [...document.querySelectorAll('body, p, .small, .chip, .paper, .num, a, dt, .absent')].map(element => {
          let ground = element;
          while (getComputedStyle(ground).backgroundColor === 'rgba(0, 0, 0, 0)' && ground.parentElement)
            ground = ground.parentElement;
          return [getComputedStyle(element).color, getComputedStyle(ground).backgroundColor, element.className];
        })
        """
        )
    assert len(pairs) > 50
    # 4.5 is what WCAG 2 asks for at level AA.
    weak = [pair for pair in pairs if contrast(pair[0], pair[1]) < 4.5]
    assert weak == []
    assert (luminance(pairs[0][1]) < 0.1) == dark


def luminance(color):
    parts = [float(part) / 255 for part in color[color.index("(") + 1 : -1].split(",")[:3]]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first, second):
    dim, bright = sorted((luminance(first), luminance(second)))
    return (bright + 0.05) / (dim + 0.05)
