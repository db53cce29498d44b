"""The page in a real browser."""

import json

from maskrcnn_repro import Predictor
from maskrcnn_repro.checkpoint.model_file import Labels

import numpy as np
import pytest
from pycocotools import mask as rle_codec

from tests.helpers.chromium import needs_chromium, opened
from tests.helpers.tiny_predictor import write_pictures, write_tiny_model
from tests.serving.fake import NASTY
from tests.serving.process import serving

pytestmark = [pytest.mark.slow, needs_chromium]
FILE = """bytes => {
    const transfer = new DataTransfer();
    transfer.items.add(new File([new Uint8Array(bytes)], "dropped.png", {type: "image/png"}));
    return transfer;
}"""
ALPHA = """async ([mask, box, scale]) => {
    const {maskImage} = await import("/drawing.js");
    const {canvas, left, top} = maskImage(mask, box, scale, [1, 2, 3]);
    const {data, width, height} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    return {left, top, width, height, alpha: [...data].filter((_, index) => index % 4 === 3)};
}"""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    names = tuple(f"{NASTY} {number}" for number in range(3))
    labels = Labels(class_names=names, category_ids=(4, 7, 9))
    return write_tiny_model(tmp_path_factory.mktemp("model"), "mask", labels)


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("pictures"), [(50, 90)])[0]


@pytest.fixture(scope="module")
def address(model, tmp_path_factory):
    with serving(model, tmp_path_factory.mktemp("logs"), "--threshold", "0") as (_, address):
        yield address


@pytest.fixture
def page(browser, address):
    with opened(browser, address, 1280) as page:
        page.wait_for_selector("#about:not(:empty)")
        yield page


def drop(page, picture):
    transfer = page.evaluate_handle(FILE, list(picture.read_bytes()))
    page.dispatch_event("#drop", "drop", {"dataTransfer": transfer})
    page.wait_for_selector("#side:not([hidden])")


def test_drop_look_filter_and_download(page, address, model, tmp_path):
    # Of its scores two are far from the others, in whatever precision.
    (picture,) = write_pictures(tmp_path, [(70, 100)])
    expected = Predictor(model, 0.0, device="cpu", precision="auto")(picture)
    drop(page, picture)
    page.focus("#threshold")
    page.keyboard.press("Home")
    assert page.inner_text("#score") == "0.00"
    rows = page.locator("#list li")
    assert rows.count() == len(expected) > 3
    assert page.inner_text("#count") == f"{len(expected)} of {len(expected)} objects shown"
    middle = float(np.median(expected.scores).round(2))
    page.locator("#threshold").fill(f"{middle:.2f}")
    kept = expected[expected.scores >= middle]
    assert 0 < rows.count() == len(kept) < len(expected)
    name = kept.names[0]
    page.locator("#classes label", has_text=name).locator("input").uncheck()
    kept = kept[kept.class_ids != kept.class_ids[0]]
    assert rows.count() == len(kept)
    with page.expect_download() as download:
        page.click("#download")
    assert download.value.suggested_filename == "dropped.json"
    download.value.save_as(tmp_path / "shown.json")
    shown = json.loads((tmp_path / "shown.json").read_text())
    for entry, other in zip(shown, kept.to_coco(), strict=True):
        assert entry.pop("bbox") == pytest.approx(other.pop("bbox"), abs=1e-3)
        assert entry == {
            **other,
            "file_name": "dropped.png",
            "score": pytest.approx(other["score"]),
        }
    assert [method for method, _ in page.asked].count("POST") == 1
    assert all(url.startswith((address, "data:", "blob:")) for _, url in page.asked)
    assert page.complaints == []


def test_each_class_has_its_number_of_objects_in_any_browser(page, model, picture):
    page.evaluate("delete Map.groupBy")
    drop(page, picture)
    page.locator("#threshold").fill("0")
    names = Predictor(model, 0.0, device="cpu", precision="auto")(picture).names
    shown = page.locator("#classes label .score").all_inner_texts()
    assert sum(map(int, shown)) == len(names)


def test_names_are_shown_as_text(page, picture):
    drop(page, picture)
    page.locator("#threshold").fill("0")
    assert NASTY in page.inner_text("#classes")
    assert NASTY in page.inner_text("#list")
    assert NASTY in page.get_attribute("#picture", "aria-label")
    assert page.locator("img").count() == 0
    assert page.complaints == []


def test_the_canvas_shows_the_picture_and_masks_on_it(page, picture):
    drop(page, picture)
    canvas = "document.getElementById('picture')"
    whole = f"{canvas}.toDataURL()"
    page.locator("#threshold").fill("1")
    without = page.evaluate(whole)
    corner = page.evaluate(f"[...{canvas}.getContext('2d').getImageData(9, 9, 1, 1).data]")
    assert corner != [136, 136, 136, 255]  # what is drawn where the browser cannot read the picture
    for layer in ("boxes", "labels"):
        page.uncheck(f"#layers [value={layer}]")
    assert page.evaluate(whole) == without
    page.locator("#threshold").fill("0")
    assert page.evaluate(whole) != without
    page.uncheck("#layers [value=masks]")
    assert page.evaluate(whole) == without


@pytest.mark.parametrize("scale", [1, 0.5, 3])
def test_masks_are_decoded_as_pycocotools_does(page, model, picture, scale):
    prediction = Predictor(model, 0.0, device="cpu")(picture)
    for box, rle in zip(prediction.boxes, prediction.rles, strict=True):
        part = page.evaluate(ALPHA, [rle, box.tolist(), scale])
        alpha = np.reshape(part["alpha"], (part["height"], part["width"])) > 0
        rows = ((np.arange(part["height"]) + part["top"] + 0.5) / scale).astype(int).clip(max=49)
        columns = ((np.arange(part["width"]) + part["left"] + 0.5) / scale).astype(int).clip(max=89)
        assert np.array_equal(alpha, rle_codec.decode(rle)[np.ix_(rows, columns)])


def test_an_error_of_the_server_is_told(page, tmp_path):
    file = tmp_path / "broken.png"
    file.write_bytes(b"no picture")
    page.set_input_files("#file", file)
    page.wait_for_selector("#error:not([hidden])")
    assert "no image file" in page.inner_text("#error")


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_fits_and_every_control_has_a_name(page, picture, width):
    page.set_viewport_size({"width": width, "height": 844})
    drop(page, picture)
    page.locator("#threshold").fill("0")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate("document.getElementById('picture').getBoundingClientRect().width") > 300
    unnamed = "[...document.querySelectorAll('input, button')].filter(e => !e.labels?.length && !e.innerText.trim())"
    assert page.evaluate(f"{unnamed}.map(element => element.id)") == []
