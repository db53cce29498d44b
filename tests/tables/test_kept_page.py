"""A page is drawn again from what is kept with the code: without runs, weights, data and detections."""

import io
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

from maskrcnn_repro.errors import TableError
from maskrcnn_repro.tables.report import kept_run, pictured
from maskrcnn_repro.tables.report.curve_files import curve_text, read_curve
from maskrcnn_repro.tables.report.html import Shown, write_page
from maskrcnn_repro.tables.report.html.predictions import Gallery
from maskrcnn_repro.tables.report.kept import save_reports
from maskrcnn_repro.tables.report.kept_reading import kept_report
from maskrcnn_repro.tables.report.model import Report
from maskrcnn_repro.tables.report.places import curve_file
from maskrcnn_repro.tables.report.plain import from_json, to_json
from maskrcnn_repro.tables.report.report import PaperData
from maskrcnn_repro.tables.runs.stage import Setting

import numpy as np
import pytest
from PIL import Image

from tests.helpers.html_runs import DATASET, register_tiny, whole_report

CD = "cd" * 32
SETTING = Setting("mini", root=Path("output"))


@pytest.fixture
def report(tmp_path, monkeypatch, catalog):
    """The report of two rows of runs, with curves and detections on four images."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(kept_run, "data_origin", lambda name: {"sha256": CD})
    tree = json.dumps(to_json(whole_report(SETTING.folder, register_tiny(tmp_path))))
    # Its names are HTML, whose closing tags look like the folders that no kept file may name.
    tree = re.sub(r"<(\w+)>(.*?)</\1>", "b", tree)
    report = from_json(Report, json.loads(tree))
    return report


@pytest.fixture
def beside(report, monkeypatch):
    """Return what writes the page beside the runs, and keeps them."""

    def write(*, generated):
        monkeypatch.setattr(pictured, "is_generated", lambda name: generated)
        write_page(Path("page.html"), [Shown(report)])
        keep(report)
        return Path("page.html").read_text()

    return write


def keep(report):
    """Keep the runs of a report; then runs and data are gone."""
    save_reports([report], SETTING, PaperData({}, {}, {}, {}), Path("results"))
    shutil.rmtree("output")
    shutil.rmtree("tiny")


OF_ANOTHER_SIZE = {
    "boxes": [[0, 0, 1, 1]],
    "classes": [0],
    "masks": [{"size": [9, 9], "counts": "0"}],
}


def drawn(report):
    """Return the pictures of a report, and the curves of its runs."""
    files = [curve_file(Path(run.results)) for run in report.origin]
    return Gallery().sheet(report), [read_curve(file)[0] for file in files]


def again():
    report, folder = kept_report("fake", "mini", Path("results"))
    problems = write_page(Path("again.html"), [Shown(report, str(folder))])
    return Path("again.html").read_text(), problems


def without_places(page):
    """Return a page without the files of records, and without what says that these are kept."""
    page = page.replace("<div><dt>Record</dt><dd>kept with the code</dd></div>\n", "")
    page = re.sub(r'<p class="kept">.*?</p>\s*', "", page, flags=re.DOTALL)
    return re.sub(r"(output|results)/[\w/]+\.json", "FILE", page)


@pytest.mark.slow
def test_pictures_and_curves_are_the_same_from_what_is_kept(report, monkeypatch):
    monkeypatch.setattr(pictured, "is_generated", lambda name: True)
    monkeypatch.setattr(pictured, "IMAGES", 1)
    sheet, lines = drawn(report)
    keep(report)
    same, kept_lines = drawn(kept_report("fake", "mini", Path("results"))[0])
    assert len(sheet.columns) == 3
    assert same == sheet
    assert len(lines) == 4
    assert kept_lines == lines


@pytest.mark.slow
def test_the_page_of_generated_images_is_the_same_to_the_last_pixel(beside):
    expected = beside(generated=True)
    page, problems = again()
    assert problems == ()
    assert expected.count("<img") == 4 * 3
    assert expected.count('class="plots"') == 1
    assert "not kept" not in page
    assert without_places(page) == without_places(expected)


@pytest.mark.slow
def test_of_photographs_outlines_alone_are_kept(beside):
    expected = beside(generated=False)
    page, problems = again()
    assert problems == ("the photographs of html_tiny, of which outlines alone are kept",)
    assert not list(Path("results").rglob("*.png"))
    # The same pictures in number, size and words.
    pattern = r'<img src="[^"]*"( width="\d+" height="\d+" alt="[^"]*")'
    assert re.findall(pattern, page) == re.findall(pattern, expected)


@pytest.mark.slow
def test_another_version_of_the_images_is_not_pictured(beside, monkeypatch):
    monkeypatch.setattr(kept_run, "data_origin", lambda name: {"sha256": "ef" * 32})
    beside(generated=True)
    page, problems = again()
    assert problems == (f"the images of {DATASET} are not kept",)
    assert 'class="plots"' in page


def test_kept_predictions_have_masks_as_large_as_their_images(tmp_path, monkeypatch):
    file = tmp_path / "pictured_seed1.json"
    file.write_text(json.dumps({"record": "r", "objects": [OF_ANOTHER_SIZE]}))
    monkeypatch.setattr(pictured, "record_of", lambda run: "r")
    with pytest.raises(TableError, match=r"a mask of 9 x 9 pixels in an image of 4 x 5"):
        pictured._kept_objects(file, None, [(4, 5)], 1)


@pytest.mark.slow
def test_predictions_of_another_run_are_not_shown(beside):
    beside(generated=True)
    (file,) = Path("results").rglob("a/pictured_seed1.json")
    file.write_text(json.dumps({**json.loads(file.read_text()), "record": "other"}))
    _, (problem,) = again()
    assert problem.startswith("Model a: ")
    assert "it is of another run" in problem


def scene(*size, mask=None, images=1, **objects):
    """Return the file of images of one size whose only object may have a mask of another one."""
    masks = {"masks": [{"size": mask, "counts": "0"}]} if mask else {}
    objects = {"boxes": [[0, 0, 1, 1]], "classes": [0], **masks, **objects}
    image = {"name": "a.png", "id": 1, "size": size, "objects": objects}
    style = {"names": ["a"], "edges": []}
    return json.dumps({"images": [image] * images, "style": style, "to_class": []})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "Expecting property name"),
        ("[]", "it holds no results$"),
        ('{"images": [{}]}', "it lacks 'style'$"),
        ('{"images": [], "style": 1}', "a value is of another type$"),
        (scene(14_000, 14_000, images=2), "its images have more than 200,000,000 pixels in all$"),
        (scene(5, 5, classes=[0, 0]), "2 classes for 1 boxes$"),
        (scene(5, 5, masks=[{"size": [5, 5], "counts": "0"}] * 2), "2 masks for 1 boxes$"),
        (scene(5, 5, classes=[1]), "a class that is none of 1$"),
        (scene(5, 5, boxes=[[0, 0, 1, 1e300]]), "boxes with what is no number up to 1,000,000$"),
        (scene(5, 5, boxes=[[0, 0, 1, float("nan")]]), "boxes with what is no number up to"),
        (scene(1, 200_000_001), "an image of 1 x 200000001 pixels; it may have 200,000,000$"),
        (scene(-5, 5), "an image of -5 x 5 pixels"),
        (
            scene(5, 5, mask=(10**8, 10**6)),
            "a mask of 100000000 x 1000000 pixels in an image of 5 x 5$",
        ),
    ],
)
def test_kept_pictures_that_cannot_be_read_are_named(tmp_path, text, said):
    file = tmp_path / "some.json"
    file.write_text(text)
    with pytest.raises(pictured.Unreadable, match=rf"some\.json cannot be read: {said}"):
        pictured.read_scene(pictured.Place("some", file))
    with pytest.raises(pictured.Unreadable, match="the images of other are not kept"):
        pictured.read_scene(pictured.Place("other", tmp_path / "other.json"))


def png(*size, cut=None):
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (*size, 3), np.uint8)).save(
        file, "PNG"
    )
    return file.getvalue()[:cut]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (png(40, 50)[:200] + b"x" * 40 + png(40, 50)[240:], ""),
        (png(40, 50, cut=3000), ""),
        (b"abc", "cannot identify image file"),
        (png(30, 50), "it is of another size than the file of its objects says$"),
    ],
)
def test_a_kept_image_that_cannot_be_read_is_named(tmp_path, content, said):
    file = tmp_path / "some.json"
    file.write_text(scene(40, 50))
    file.with_name("some_1.png").write_bytes(content)
    with pytest.raises(
        pictured.Unreadable, match=rf"some\.json cannot be read: some_1\.png: {said}"
    ):
        pictured.read_scene(pictured.Place("some", file))
    file.with_name("some_1.png").write_bytes(png(40, 50))
    assert not pictured.read_scene(pictured.Place("some", file)).is_plain


def test_kept_objects_are_what_they_were():
    masks = [np.eye(5, 7, dtype=bool), np.zeros((5, 7), bool)]
    objects = pictured.Objects(
        boxes=np.array([[0.1, 1 / 3, 5.0, 6.0], [1.0, 2.0, 3.0, 4.0]]),
        classes=np.array([3, 0]),
        masks=masks,
        scores=np.array([0.5, 1.0]),
        keypoints=np.array([[[1.5, 2.5, 0.25]], [[0.0, 0.0, 0.0]]]),
    )
    image = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
    style = pictured.Style(["a"], [(0, 1, (1, 2, 3))])
    scene = pictured.Scene(("1.png",), (objects,), (image,), style, (7,), {18: 0})
    tree = json.loads(json.dumps(pictured._tree(objects)))
    same = pictured._objects(tree, (5, 7), 4)
    for name in ("boxes", "classes", "scores", "keypoints"):
        assert np.array_equal(getattr(same, name), getattr(objects, name)), name
    assert np.array_equal(same.masks, masks)
    files = pictured.scene_files("mini_coco_val", scene)
    png = files[Path("pictures/mini_coco_val_1.png")]
    assert set(map(str, files)) == {"pictures/mini_coco_val.json", "pictures/mini_coco_val_1.png"}
    assert png[:4] == b"\x89PNG"
    assert not pictured.scene_files("mini_coco_val", replace(scene, is_plain=True)).keys() & {
        Path("pictures/mini_coco_val_1.png")
    }


# --- curves


def lines(points):
    return "".join(
        json.dumps({"iteration": k, "total_loss": v, "lr": 1.0}) + "\n" for k, v in points
    )


def test_a_short_curve_is_kept_whole_and_without_what_no_page_shows(tmp_path):
    file = tmp_path / "metrics.json"
    file.write_text(lines([(19, 1.23456789), (39, 2.0)]) + '{"iteration": 39, "segm/AP": 30}\n')
    curve, problem = read_curve(file)
    assert (curve, problem) == ({"total_loss": {19: 1.23457, 39: 2.0}, "segm/AP": {39: 30.0}}, "")
    kept = tmp_path / "curves_seed1.json"
    kept.write_text(curve_text(curve, "a run"))
    assert read_curve(kept) == (curve, "")
    # The record beside it says whose it should be.
    record = tmp_path / "seed1.json"
    record.write_text('{"record": "a run"}')
    assert read_curve(kept) == (curve, "")
    record.write_text('{"record": "another run"}')
    assert read_curve(kept) == ({}, f"{kept} is of another run than seed1.json")


def test_a_long_curve_has_200_points_that_seeds_share_resumed_or_not(tmp_path):
    file = tmp_path / "metrics.json"
    # 8,000 iterations: spans of 40, two values each.
    points = [(20 * n + 19, float(n)) for n in range(400)]
    file.write_text(lines(points))
    plain = read_curve(file)[0]["total_loss"]
    file.write_text(lines([*points, (4001, 7.0)]))
    resumed = read_curve(file)[0]["total_loss"]
    assert len(plain) == 200
    assert list(plain) == list(resumed) == list(range(39, 8000, 40))
    assert plain[39] == 0.5
    # Of iterations 4001, 4019 and 4039: 7, 200 and 201.
    assert resumed[4039] == pytest.approx(136.0)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        '{"a": 1}',
        '{"a": [[1], [2, 3]]}',
        '{"a": [["x"], [2]]}',
        '{"a": [[1], [NaN]]}',
        '{"a": [[1], [1e300]]}',
        '{"a": [[], []]}',
        '{"a": [[-1], [2]]}',
        '{"a": [[1e300], [2]]}',
        '{"segm/AP": [[1], [100.5]]}',
    ],
)
def test_kept_curves_that_cannot_be_read_are_named(tmp_path, text):
    file = tmp_path / "curves_seed1.json"
    file.write_text(text)
    values, problem = read_curve(file)
    assert values == {}
    assert str(file) in problem
    assert read_curve(tmp_path / "curves_seed2.json") == ({}, "")
