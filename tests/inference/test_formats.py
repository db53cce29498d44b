"""Predictions as COCO, LabelMe, CVAT and Label Studio have annotations."""

import base64
import io
import json
from xml.etree import ElementTree

from maskrcnn_repro.checkpoint.model_file import Labels
from maskrcnn_repro.errors import DataError
from maskrcnn_repro.inference.formats import WRITERS, Item, Shapes, check_corrections
from maskrcnn_repro.inference.formats.label_studio import brush

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as rle_codec
from pycocotools.coco import COCO

from tests.helpers.predictions import NAMES, RING, prediction

OF_OBJECTS = [form for form in WRITERS if form != "panoptic"]
"""Formats of detections, which any model can be written in."""

LABELS = Labels(NAMES)
BAR = np.zeros((4, 6), np.uint8)
BAR[0, 2:4] = 1


def write(tmp_path, form, *predictions, polygons=True, name="sub/a b.jpg", labels=LABELS, **fields):
    """Write predictions; return what the writer says."""
    writer = WRITERS[form](tmp_path / "out", labels, Shapes(polygons, 0), "")
    for index, each in enumerate(predictions or [prediction((RING, BAR), class_ids=[1, 0])]):
        path = tmp_path / "photos" / name
        writer.add(Item(name if index == 0 else f"{index} {name}", path, each, **fields))
    return writer.close()


def read_json(path):
    return json.loads(path.read_text(encoding="utf-8"))


def test_coco_is_a_data_set_whose_annotations_are_results(tmp_path):
    write(tmp_path, "coco", polygons=False)
    tree = read_json(tmp_path / "out/predictions.json")
    assert tree["categories"] == [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog & co"}]
    assert tree["images"] == [{"id": 1, "file_name": "sub/a b.jpg", "height": 4, "width": 6}]
    first, second = tree["annotations"]
    assert (first["bbox"], first["area"]) == ([1, 1, 5, 3], 9)
    assert first["score"] == pytest.approx(0.9)
    assert (first["category_id"], second["category_id"]) == (2, 1)
    truth = COCO(str(tmp_path / "out/predictions.json"))
    results = truth.loadRes(read_json(tmp_path / "out/predictions.json")["annotations"])
    for annotation, mask in zip(results.dataset["annotations"], (RING, BAR), strict=True):
        np.testing.assert_array_equal(truth.annToMask(annotation), mask)


def test_coco_polygons_keep_parts_and_lose_holes(tmp_path):
    sentences = write(tmp_path, "coco")
    annotation = read_json(tmp_path / "out/predictions.json")["annotations"][0]
    assert len(annotation["segmentation"]) == 2
    assert "Holes are covered by polygons: 1 object." in sentences


def test_coco_keypoints_count_from_the_centre_of_a_pixel(tmp_path):
    points = np.array([[[2.5, 1.5, 0.75]]], np.float32)
    write(
        tmp_path,
        "coco",
        prediction((), [(0, 0, 2, 3)], keypoints=points),
        labels=Labels(NAMES, keypoint_names=("tip",)),
    )
    tree = read_json(tmp_path / "out/predictions.json")
    assert tree["annotations"][0]["keypoints"] == [2, 1, 2]
    assert tree["annotations"][0]["keypoint_scores"] == [0.75]
    assert tree["categories"][0]["keypoints"] == ["tip"]


def test_frames_of_a_video_are_images_with_tracks(tmp_path):
    write(tmp_path, "coco", name="clip.mp4", frame=12, tracks=[7, 3])
    tree = read_json(tmp_path / "out/predictions.json")
    assert tree["images"][0] | {"file_name": "clip.mp4/000012", "frame": 12} == tree["images"][0]
    assert [a["track_id"] for a in tree["annotations"]] == [7, 3]


def test_labelme_names_the_image_and_groups_the_parts(tmp_path):
    write(tmp_path, "labelme")
    tree = read_json(tmp_path / "out/labelme/sub/a b.json")
    assert tree["imagePath"] == "../../../photos/sub/a b.jpg"
    assert (tree["imageHeight"], tree["imageWidth"], tree["imageData"]) == (4, 6, None)
    ring, pixel, bar = tree["shapes"]
    assert (ring["group_id"], pixel["group_id"], bar["group_id"]) == (1, 1, None)
    assert (ring["label"], bar["label"], bar["shape_type"]) == ("dog & co", "cat", "polygon")
    assert sorted(bar["points"]) == [[2, 0], [2, 1], [4, 0], [4, 1]]


def test_labelme_masks_are_pictures_of_their_box(tmp_path):
    write(tmp_path, "labelme", polygons=False)
    shape = read_json(tmp_path / "out/labelme/sub/a b.json")["shapes"][0]
    assert (shape["shape_type"], shape["points"]) == ("mask", [[1, 1], [5, 3]])
    picture = Image.open(io.BytesIO(base64.b64decode(shape["mask"])))
    np.testing.assert_array_equal(np.asarray(picture) > 0, RING[1:, 1:] > 0)


def test_labelme_keeps_images_apart_whose_names_differ_in_the_ending_alone(tmp_path):
    writer = WRITERS["labelme"](tmp_path, LABELS, Shapes(True), "")
    for name in ("a.jpg", "a.png"):
        writer.add(Item(name, tmp_path / name, prediction()))
    images = [read_json(tmp_path / "labelme" / f)["imagePath"] for f in ("a.json", "a.png.json")]
    assert images == ["../a.jpg", "../a.png"]


def cvat(tmp_path):
    return ElementTree.parse(tmp_path / "out/annotations.xml").getroot()


def test_cvat_polygons(tmp_path):
    write(tmp_path, "cvat")
    root = cvat(tmp_path)
    assert root.findtext("version") == "1.1"
    assert [e.text for e in root.iterfind("meta/task/labels/label/name")] == list(NAMES)
    image = root.find("image")
    size = {"width": "6", "height": "4"}
    assert image.attrib == {"id": "0", "name": "sub/a b.jpg", **size}
    ring, pixel, bar = image.findall("polygon")
    assert (ring.get("group_id"), pixel.get("group_id"), bar.get("group_id")) == ("1", "1", None)
    assert bar.get("label") == "cat"
    assert set(bar.get("points").split(";")) == {
        "2.00,0.00", "2.00,1.00", "4.00,1.00", "4.00,0.00",
    }  # fmt: skip
    assert bar.find("attribute").text == "0.8000"


def test_cvat_masks_are_runs_by_rows_from_background(tmp_path):
    write(tmp_path, "cvat", polygons=False)
    ring, bar = cvat(tmp_path).findall("image/mask")
    # 11100 10100 11101 of the box from (1, 1).
    assert ring.get("rle") == "0, 3, 2, 1, 1, 1, 2, 3, 1, 1"
    assert [ring.get(key) for key in ("left", "top", "width", "height")] == ["1", "1", "5", "3"]
    assert bar.get("rle") == "0, 2"


def test_cvat_names_an_image_whose_name_xml_cannot_hold(tmp_path):
    with pytest.raises(DataError, match=r"Image a\\x01\.jpg has a character in its name"):
        write(tmp_path, "cvat", name="a\x01.jpg")


@pytest.mark.parametrize("name", ["a\nb.jpg", "ä ö & <x>.jpg", "a\"b'.jpg"])
def test_odd_names_survive_each_format(tmp_path, name):
    for form in OF_OBJECTS:
        write(tmp_path, form, name=name)
        check_corrections(form, tmp_path / "out", [name])
    assert cvat(tmp_path).find("image").get("name") == name
    assert read_json(tmp_path / "out/predictions.json")["images"][0]["file_name"] == name
    assert read_json(next((tmp_path / "out/labelme").rglob("*.json")))["imagePath"].endswith(name)


def test_label_studio_counts_in_percents_and_names_files_below_its_root(tmp_path):
    sentences = write(tmp_path, "labelstudio")
    task = read_json(tmp_path / "out/label_studio.json")[0]
    assert task["data"] == {"image": "/data/local-files/?d=sub/a%20b.jpg"}
    region = task["predictions"][0]["result"][-1]
    assert region["type"] == "polygonlabels"
    assert region["value"]["polygonlabels"] == ["cat"]
    corners = {tuple(np.round(point, 3)) for point in region["value"]["points"]}
    assert corners == {(33.333, 0), (66.667, 0), (66.667, 25), (33.333, 25)}
    assert (region["original_width"], region["original_height"]) == (6, 4)
    assert "Several parts are separate regions: 1 object." in sentences
    config = ElementTree.parse(tmp_path / "out/label_studio.xml").getroot()
    assert [e.get("value") for e in config.iter("Label")] == list(NAMES)
    assert config.find("PolygonLabels").get("name") == region["from_name"]


def test_label_studio_boxes_need_the_tag_for_boxes(tmp_path):
    write(tmp_path, "labelstudio", prediction((), [(0, 1, 3, 4)]))
    value = read_json(tmp_path / "out/label_studio.json")[0]["predictions"][0]["result"][0]["value"]
    assert [value[key] for key in ("x", "y", "width", "height")] == [0, 25, 50, 75]
    assert "<RectangleLabels" in (tmp_path / "out/label_studio.xml").read_text()


def unbrushed(content):
    """Decode Label Studio's brush, single values among the runs as well."""
    bits = "".join(f"{byte:08b}" for byte in content)
    place = 0

    def take(count):
        nonlocal place
        place += count
        return int(bits[place - count : place], 2)

    total, word = take(32), take(5) + 1
    sizes = [take(4) + 1 for _ in range(4)]
    values = []
    while len(values) < total:
        run = take(1)
        length = take(sizes[take(2)]) + 1
        values += [take(word)] * length if run else [take(word) for _ in range(length)]
    return np.array(values, np.uint8).reshape(-1, 4)


@pytest.mark.parametrize("shape", [(4, 6), (1, 1), (300, 200)])
def test_the_brush_is_read_back(shape):
    mask = np.zeros(shape, np.uint8)
    mask[: shape[0] // 2 + 1, shape[1] // 3 :] = 1
    pixels = unbrushed(brush(mask))
    np.testing.assert_array_equal(pixels, np.repeat(255 * mask.reshape(-1, 1), 4, axis=1))


def test_label_studio_masks_are_the_brush_s(tmp_path):
    write(tmp_path, "labelstudio", polygons=False)
    value = read_json(tmp_path / "out/label_studio.json")[0]["predictions"][0]["result"][0]["value"]
    assert (value["format"], value["brushlabels"]) == ("rle", ["dog & co"])
    np.testing.assert_array_equal(unbrushed(value["rle"])[:, 3].reshape(4, 6), 255 * RING)


@pytest.mark.parametrize("form", OF_OBJECTS)
def test_nothing_found_and_an_empty_mask(tmp_path, form):
    nothing = prediction((), [])
    sentences = write(tmp_path, form, nothing, prediction((np.zeros((4, 6)), BAR)))
    assert "Left out, as the mask is empty: 1 object." in sentences


@pytest.mark.parametrize("form", OF_OBJECTS)
def test_a_model_without_masks_gives_boxes(tmp_path, form):
    write(tmp_path, form, prediction((), [(0, 1, 3, 4)]))
    text = "".join(p.read_text() for p in (tmp_path / "out").rglob("*") if p.is_file())
    kinds = {
        "coco": '"bbox": [0.0, 1.0, 3.0, 3.0]',
        "labelme": '"rectangle"',
        "cvat": 'xtl="0.00" ytl="1.00" xbr="3.00" ybr="4.00"',
        "labelstudio": '"rectanglelabels": ["dog & co"]',
    }
    assert kinds[form] in text


def test_masks_of_every_format_are_the_same_object(tmp_path):
    """What polygons lose is the hole alone."""
    write(tmp_path, "coco")
    segmentation = read_json(tmp_path / "out/predictions.json")["annotations"][0]["segmentation"]
    mask = rle_codec.decode(rle_codec.merge(rle_codec.frPyObjects(segmentation, 4, 6)))
    assert (mask != RING).sum() == 1
