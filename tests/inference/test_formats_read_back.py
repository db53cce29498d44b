"""Each format is read back by the readers for labelling tools, which share nothing with the writers."""

import json

from maskrcnn_repro.checkpoint.model_file import Labels
from maskrcnn_repro.data.formats.convert import Request, convert
from maskrcnn_repro.data.formats.options import Options
from maskrcnn_repro.inference.formats import WRITERS, Item, Shapes

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from tests.helpers.predictions import NAMES, prediction

OF_OBJECTS = [form for form in WRITERS if form != "panoptic"]
"""Formats of detections, which any model can be written in."""

SIZE = (40, 50)


def blobs():
    """Three masks: with a hole, with two parts, and one at the edge of the image."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    distance = np.hypot(x - 20, y - 15)
    ring = (distance < 10) & (distance > 4)
    two = (np.hypot(x - 35, y - 30) < 5) | (np.hypot(x - 10, y - 32) < 4)
    return [mask.astype(np.uint8) for mask in (ring, two, (x > 44) & (y < 9))]


def read_back(tmp_path, form, polygons):
    """Masks by class name, as COCO's tools draw them, of two images in two folders."""
    writer = WRITERS[form](tmp_path / "out", Labels(NAMES), Shapes(polygons, 0), "")
    for name in ("a/x y.png", "b/x y.png"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True)
        Image.new("RGB", SIZE[::-1]).save(path)
        writer.add(Item(name, path, prediction(blobs(), class_ids=[0, 1, 0])))
    writer.close()
    source = {
        "coco": "predictions.json",
        "labelme": "labelme",
        "cvat": "annotations.xml",
        "labelstudio": "label_studio.json",
    }
    options = Options(predictions=True)
    request = Request(tmp_path / "out" / source[form], tmp_path / "coco", tmp_path / "photos")
    convert(Request(**vars(request) | {"options": options}))
    (file,) = (tmp_path / "coco").glob("*.json")
    coco = COCO(str(file))
    names = {c["id"]: c["name"] for c in json.loads(file.read_text())["categories"]}
    images = {image["file_name"]: image["id"] for image in coco.dataset["images"]}
    assert set(images) == {"a/x y.png", "b/x y.png"}
    rows = coco.loadAnns(coco.getAnnIds([images["b/x y.png"]]))
    return [(names[row["category_id"]], coco.annToMask(row)) for row in rows]


def check(rows, expected):
    assert [name for name, _ in rows] == [name for name, _ in expected]
    for (_, mask), (_, truth) in zip(rows, expected, strict=True):
        np.testing.assert_array_equal(mask, truth)


@pytest.mark.parametrize("form", OF_OBJECTS)
def test_masks_come_back_to_the_pixel(tmp_path, form):
    ring, two, corner = blobs()
    check(read_back(tmp_path, form, False), [("cat", ring), (NAMES[1], two), ("cat", corner)])


@pytest.mark.parametrize("form", OF_OBJECTS)
def test_polygons_come_back_with_their_holes_covered(tmp_path, form):
    ring, two, corner = blobs()
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    disc = ring | (np.hypot(x - 20, y - 15) < 10)
    parts = [(NAMES[1], two)]
    if form == "labelstudio":
        # It has no groups: the larger part comes first.
        parts = [(NAMES[1], two * (x > 25)), (NAMES[1], two * (x <= 25))]
    check(read_back(tmp_path, form, True), [("cat", disc), *parts, ("cat", corner)])
