"""The figure with an RoI to drag in a headless Chromium: its numbers are those of the RoI operations, and it is usable."""

import json
import re

import maskrcnn_repro  # noqa: F401
from maskrcnn_repro.roi_ops import build_roi_op
from maskrcnn_repro.tables.report.html.roi_figure import BINS, ROI, STRIDE, page

import numpy as np
import pytest
import torch

from tests.helpers.chromium import needs_chromium, opened
from tests.tables.test_html_browser import contrast

pytestmark = [pytest.mark.slow, needs_chromium]

OPERATIONS = {
    "RoIPool": ("RoIPool", False),
    "RoIWarpAve": ("RoIWarp", False),
    "RoIWarpMax": ("RoIWarp", True),
    "RoIAlignAve": ("RoIAlign", False),
    "RoIAlignMax": ("RoIAlign", True),
}
"""Registered operation -> the page's, and whether it takes the maximum."""
SIZES = ((16, 16), (9, 13), (1, 4))
CORNERS = [
    (x, y, x + width, y + height)
    for x in (-300.0, -40.5, -8.0, 0.0, 24.0, 71.3, 250.0, 900.0)
    for y in (-25.0, -7.9, 40.0, 133.7)
    for width, height in ((0.0, 0.0), (1.0, 3.0), (20.0, 8.0), (112.0, 112.0), (233.3, 97.1))
]
"""Some outside the map, some across its border, some smaller than a bin of a cell, some halfway between cells."""


def rois_of(size):
    """RoIs in pixels: a grid and drawn ones, as single precision has them."""
    generator = np.random.default_rng(sum(size))
    corners = generator.uniform(-40, 280, (200, 2))
    drawn = np.concatenate([corners, corners + generator.exponential(80, (200, 2))], axis=1)
    return np.concatenate([CORNERS, drawn]).astype(np.float32)


def map_of(size):
    return np.random.default_rng(7).standard_normal(size).astype(np.float32)


# As text, which playwright passes on much faster than an object.
READINGS = """([operation, map, rois, maximum]) => JSON.stringify(rois.map((roi) =>
    readRoI(operation, map, roi.map((pixel) => Math.fround(pixel) / 16), maximum).bins))"""


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    path = tmp_path_factory.mktemp("figure") / "roi.html"
    path.write_text(page(), encoding="utf-8")
    return path.as_uri()


@pytest.fixture
def wide(browser, address):
    with opened(browser, address, 1280) as page:
        yield page
        assert page.complaints == []


@pytest.fixture
def still(browser, address):
    """The page without JavaScript."""
    context = browser.new_context(java_script_enabled=False, viewport={"width": 390, "height": 900})
    page = context.new_page()
    page.goto(address)
    yield page
    context.close()


def readings(page, name, cells, rois):
    operation, maximum = OPERATIONS[name]
    return json.loads(page.evaluate(READINGS, [operation, cells.tolist(), rois.tolist(), maximum]))


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("size", SIZES)
def test_outputs_and_points_are_those_of_the_operations(wide, name, size):
    cells, rois = map_of(size), rois_of(size)
    layer = build_roi_op(name, (BINS, BINS), 1 / STRIDE)
    given = torch.tensor(np.concatenate([np.zeros((len(rois), 1), np.float32), rois], axis=1))
    ours = layer(torch.tensor(cells)[None, None], given).flatten(1).numpy()
    theirs = readings(wide, name, cells, rois)
    values = np.array([[each["value"] for each in bins] for bins in theirs])
    assert values.shape == ours.shape == (360, BINS * BINS)
    assert np.abs(values - ours).max() < 1e-5
    assert (ours == 0).all(axis=1).any()  # RoIs off the map
    points = layer.sampling_points(given).flatten(1, 2).numpy()
    present = ~np.isnan(points).any(axis=-1)
    counts = [[len(each["points"]) for each in bins] for bins in theirs]
    assert counts == present.sum(axis=2).tolist()
    read = np.array([point for bins in theirs for each in bins for point in each["points"]])
    assert np.abs(read - points[present]).max() < 1e-4


@pytest.mark.parametrize("name", OPERATIONS)
def test_weights_are_the_gradients_of_the_operations(wide, name):
    cells, rois = map_of((16, 16)), np.array([ROI, (20, 30, 25, 33), (-30, 100, 90, 240)])
    features = torch.tensor(np.tile(cells, (BINS * BINS, 1, 1, 1))).requires_grad_()
    layer = build_roi_op(name, (BINS, BINS), 1 / STRIDE)
    for roi, bins in zip(rois, readings(wide, name, cells, rois), strict=True):
        # A copy of the map for each bin.
        given = torch.tensor([[image, *roi] for image in range(BINS * BINS)]).float()
        own = layer(features, given).flatten(1).diagonal().sum()
        (expected,) = torch.autograd.grad(own, features)
        weights = torch.zeros_like(expected)
        for number, each in enumerate(bins):
            for row, column, weight in each["weights"]:
                weights[number, 0, row, column] = weight
        assert (weights - expected).abs().max() < 1e-5


def shown(page):
    """Numbers of all paths, and the texts, that the panels show."""
    paths = page.locator(".roi-panel path, .roi-map .roi-given")
    numbers = [
        [float(number) for number in re.findall(r"-?[\d.]+", paths.nth(index).get_attribute("d"))]
        for index in range(paths.count())
    ]
    return numbers, page.locator(".roi-panel").all_text_contents()


def test_without_javascript_it_shows_what_the_first_roi_gives_with_it(wide, still):
    (drawn, words), (static, static_words) = shown(wide), shown(still)
    assert [len(path) for path in drawn] == [len(path) for path in static]
    assert max(map(len, drawn)) > 2 * 4 * BINS**2
    for path, expected in zip(drawn, static, strict=True):
        assert path == pytest.approx(expected, abs=2e-3)
    assert [" ".join(each.split()) for each in words] == [
        " ".join(each.split()) for each in static_words
    ]
    assert still.locator("noscript").is_visible()
    assert not still.locator(".roi-controls").is_visible()


def roi_of(page):
    return [float(field.input_value()) for field in page.locator(".roi-fields input").all()]


def pixel(page):
    """The width of a pixel of the network's input on the screen."""
    return page.evaluate("mapSvg.getScreenCTM().a / STRIDE")


def place_of(page, name):
    box = page.get_by_label(name).bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


@pytest.mark.parametrize(
    ("name", "moves"),
    [("RoI: arrow keys", (1, 1, 1, 1)), ("Bottom right corner", (0, 0, 1, 1)), ("Top right corner", (0, 1, 1, 0))],
)  # fmt: skip
def test_the_mouse_drags_the_roi_and_its_corners(wide, name, moves):
    x, y = place_of(wide, name)
    wide.mouse.move(x, y)
    wide.mouse.down()
    wide.mouse.move(x + 20 * pixel(wide), y - 10 * pixel(wide), steps=3)
    wide.mouse.up()
    steps = (20, -10, 20, -10)
    expected = [at + step * does for at, step, does in zip(ROI, steps, moves, strict=True)]
    assert roi_of(wide) == expected
    assert wide.evaluate(FOCUS) == ["none", False]
    words = wide.locator(".roi-figure [role=status]").inner_text()
    assert words.startswith("RoI " + ", ".join(f"{value:g}" for value in expected))
    moved = wide.locator("[data-operation=RoIPool] [data-number=moved]").inner_text()
    shifts = [round(value / STRIDE) * STRIDE - value for value in expected]
    assert [float(word.replace("\N{MINUS SIGN}", "-")) for word in moved.split(", ")] == shifts


# What is about the focused part, and whether the keyboard's mark is.
FOCUS = """[getComputedStyle(document.activeElement).outlineStyle, document.activeElement.matches(":focus-visible")]"""


def test_the_mouse_leaves_no_outline_and_the_keyboard_a_thin_one(wide):
    for selector in (".roi-body", ".roi-handle", ".roi-output"):
        wide.locator(selector).first.click(position={"x": 8, "y": 8}, force=True)
        assert wide.evaluate(FOCUS) == ["none", False]
    wide.get_by_label("RoI: arrow keys").focus()
    wide.keyboard.press("ArrowLeft")
    line = "(({ outlineStyle, stroke, strokeWidth }) => [outlineStyle, stroke, strokeWidth])(getComputedStyle(%s))"
    theirs = "rgb(180, 80, 15)"
    assert wide.evaluate(line % "document.activeElement") == ["none", theirs, "4px"]
    wide.keyboard.press("Tab")
    assert wide.evaluate(line % "document.activeElement") == ["none", theirs, "4px"]


def test_a_finger_drags_the_roi(browser, address):
    with opened(browser, address, 390) as page:
        session = page.context.new_cdp_session(page)
        session.send("Emulation.setTouchEmulationEnabled", {"enabled": True})
        x, y = place_of(page, "RoI: arrow keys")
        for kind, steps in (("touchStart", [0]), ("touchMove", range(2, 33, 2)), ("touchEnd", [])):
            for step in steps or [None]:
                at = [] if step is None else [{"x": x + step * pixel(page), "y": y}]
                session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": at})
        assert roi_of(page) == [ROI[0] + 32, ROI[1], ROI[2] + 32, ROI[3]]
        assert page.evaluate("window.scrollY") == 0


def test_the_keyboard_moves_the_roi_as_far_as_its_surroundings(wide):
    wide.get_by_label("RoI: arrow keys").focus()
    for key in ("ArrowRight", "ArrowDown", "Shift+ArrowLeft"):
        wide.keyboard.press(key)
    assert roi_of(wide) == [ROI[0] - 15, ROI[1] + 1, ROI[2] - 15, ROI[3] + 1]
    wide.keyboard.press("Tab")  # to the top left corner
    for _ in range(20):
        wide.keyboard.press("Shift+ArrowRight")
    x1, _, x2, _ = roi_of(wide)
    assert x1 == x2 - 1
    focused = wide.locator(":focus")
    assert focused.get_attribute("aria-label").startswith("Top left corner")
    assert focused.get_attribute("aria-valuetext") == f"x {x1:g}, y {ROI[1] + 1:g}"
    for _ in range(30):
        wide.keyboard.press("Shift+ArrowLeft")
    assert roi_of(wide)[0] == -24


def test_fields_buttons_and_the_marked_bin(wide):
    wide.locator(".roi-fields input").first.fill("33.5")
    assert wide.locator("[data-operation=RoIWarp] [data-number=moved]").inner_text().startswith(
        "\N{MINUS SIGN}1.5"
    )  # fmt: skip
    wide.locator(".roi-fields input").first.fill("")  # not a number yet: nothing moves
    wide.get_by_text("Smaller than a cell").click()
    assert roi_of(wide) == [98, 109, 106, 119]
    output = wide.locator("[data-operation=RoIAlign] .roi-output")
    box = output.bounding_box()
    wide.mouse.click(box["x"] + box["width"] * 0.95, box["y"] + box["height"] * 0.05)
    assert output.get_attribute("aria-valuenow") == str(BINS)
    output.focus()
    wide.keyboard.press("ArrowLeft")
    wide.keyboard.press("ArrowDown")
    assert output.get_attribute("aria-valuetext").startswith("row 2, column 6: ")
    wide.get_by_text("About the object").click()
    before = wide.locator("[data-operation=RoIAlign] .roi-output text").all_text_contents()
    wide.get_by_label("take the maximum").check()
    after = wide.locator("[data-operation=RoIAlign] .roi-output text").all_text_contents()
    assert all(int(large) >= int(small) for small, large in zip(before, after, strict=True))
    assert before != after


def test_fields_take_what_is_typed_in_any_order(wide):
    names = ("x1", "y1", "x2", "y2")
    fields = [wide.get_by_label(f"{name}, px") for name in names]

    def type_in(index, text):
        fields[index].press("Control+a")
        fields[index].press_sequentially(text)

    for index, number in enumerate((200, 100, 250, 150)):
        type_in(index, str(number))
    assert roi_of(wide) == [200, 100, 250, 150]
    # x2 goes along with x1, by 51, to its end at 264; y1 with y2, by 140.
    type_in(0, "251")
    assert roi_of(wide) == [251, 100, 264, 150]
    type_in(3, "10")
    assert roi_of(wide) == [251, -24, 264, 10]
    refusal = wide.get_by_role("alert")
    assert refusal.inner_text() == ""
    type_in(2, "265")
    said = "x2 stays 264: it may be \N{MINUS SIGN}23 to 264 px."
    assert refusal.inner_text() == said
    fields[2].press("Enter")
    assert (roi_of(wide), refusal.inner_text()) == ([251, -24, 264, 10], said)
    type_in(2, "260")
    assert (roi_of(wide), refusal.inner_text()) == ([251, -24, 260, 10], "")
    assert "pixels of the network" in wide.locator(".roi-controls").inner_text()


@pytest.mark.parametrize("width", [390, 1280])
def test_it_fits_asks_for_nothing_and_complains_of_nothing(browser, address, still, width):
    still.set_viewport_size({"width": width, "height": 900})
    assert still.evaluate("document.documentElement.scrollWidth") == width
    with opened(browser, address, width) as page:
        for name in ("About the object", "Smaller than a cell", "Partly off the map"):
            page.get_by_text(name).click()
            assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.complaints == []
        assert [url for _, url in page.asked if not url.startswith("data:")] == [address]


@pytest.mark.parametrize("dark", [False, True])
def test_numbers_stand_out_from_their_cells(browser, address, dark):
    with opened(browser, address, 1280, dark=dark) as page:
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        pairs = page.evaluate(
            """[...document.querySelectorAll('.roi-output rect')].map((cell) => {
            const { fill, fillOpacity } = getComputedStyle(cell);
            return [fill, Number(fillOpacity), getComputedStyle(cell.nextElementSibling).fill];
        })"""
        )
    assert len(pairs) == 3 * BINS**2
    assert max(opacity for _, opacity, _ in pairs) > 0.4
    assert min(contrast(text, mixed(fill, opacity, ground)) for fill, opacity, text in pairs) > 4.5


def mixed(color, share, ground):
    front, back = (list(map(float, re.findall(r"[\d.]+", text)))[:3] for text in (color, ground))
    return f"rgb({', '.join(str(share * a + (1 - share) * b) for a, b in zip(front, back, strict=True))})"


def test_on_paper_it_has_panels_side_by_side_and_no_controls(wide):
    wide.emulate_media(media="print")
    wide.set_viewport_size({"width": 718, "height": 1000})
    boxes = [panel.bounding_box() for panel in wide.locator(".roi-panel").all()]
    assert len({box["y"] for box in boxes}) == 1
    assert wide.evaluate("document.documentElement.scrollWidth") == 718
    assert not wide.locator(".roi-controls").is_visible()
