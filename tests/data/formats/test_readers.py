"""What each tool writes beyond the stored files, made here by hand."""

import base64
import io
import json

from maskrcnn_repro.data.formats.options import Options

import numpy as np
import pycocotools.mask as coco_mask
import pytest
from PIL import Image

from tests.data.formats.test_geometry import brush
from tests.helpers.commands import convert_data
from tests.helpers.label_files import blank, classes, converted, lost, written

TRIANGLE = [[2, 2], [8, 2], [8, 8]]


def png(pixels, mode=None):
    stream = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8), mode).save(stream, "png")
    return base64.b64encode(stream.getvalue()).decode()


def pixels(annotation):
    """The mask of an annotation as an array."""
    rle = annotation["segmentation"]
    return coco_mask.decode({**rle, "counts": rle["counts"].encode()})


def labelme(folder, name, shapes, **fields):
    tree = {"shapes": shapes, "imagePath": "a.png", "imageWidth": 20, "imageHeight": 10, **fields}
    return written(folder, name, tree)


def shape(kind="polygon", points=TRIANGLE, label="cat", **fields):
    return {"label": label, "points": points, "shape_type": kind, **fields}


def test_labelme_shapes_of_all_kinds(tmp_path):
    blank(tmp_path / "a.png", 20, 10)
    shapes = [
        shape("rectangle", [[8, 8], [2, 3]]),
        shape("circle", [[10, 5], [13, 9]]),
        shape("line", [[0, 0], [1, 1]]),
        shape("linestrip"),
        shape("point", [[0, 0]]),
        shape("points"),
        shape("mask", [[3, 1], [4, 2]], mask=png([[255, 0], [255, 255]])),
        shape(label=""),
        shape("cloud"),
        shape("circle", [[10, 5], [10, 5]]),
    ]
    labelme(tmp_path, "a.json", shapes)
    result, trees = converted(tmp_path, tmp_path / "out")
    assert lost(result) == {
        "box": 1,
        "round": 2,
        "line": 2,
        "point": 2,
        "no-class": 1,
        "other-kind": 1,
        "outline": 1,
    }
    box, circle, mask = trees["data"]["annotations"]
    assert box["bbox"] == [2, 3, 6, 5]
    assert circle["bbox"] == pytest.approx([5, 0, 10, 10], abs=0.3)
    assert np.argwhere(pixels(mask)).tolist() == [[1, 3], [2, 3], [2, 4]]


def test_labelme_groups_are_one_object(tmp_path):
    blank(tmp_path / "a.png", 20, 10)
    other = [[12, 2], [14, 2], [14, 4]]
    shapes = [shape(group_id=1), shape(points=other, group_id=1), shape(label="dog", group_id=1)]
    labelme(tmp_path, "a.json", shapes)
    result, trees = converted(tmp_path, tmp_path / "out")
    assert lost(result) == {"joined": 1}
    assert classes(trees["data"]) == {"cat": [1], "dog": [2]}
    assert trees["data"]["annotations"][0]["area"] == 18 + 2


def test_labelme_image_within_the_json_is_written_beside(tmp_path):
    source = tmp_path / "in"
    blank(source / "a.png", 20, 10)
    labelme(source, "a.json", [shape()])
    held = png(np.zeros((10, 20)))
    labelme(source, "b.json", [shape()], imagePath="..\\gone\\b.png", imageData=held)
    result, trees = converted(source, tmp_path / "out")
    assert lost(result) == {"embedded": 1}
    assert result.complete
    assert result.root == tmp_path / "out" / "images"
    names = [image["file_name"] for image in trees["data"]["images"]]
    assert names == ["a.png", "embedded/b.png"]
    assert all((result.root / name).is_file() for name in names)


@pytest.mark.parametrize(
    "path", ["C:\\photos\\in\\sub\\A.PNG", "/home/me/in/sub/a.png", "../in/sub/a.png", "sub\\a.png"]
)
def test_absolute_paths_and_backslashes_find_the_image_by_its_end(tmp_path, path):
    source = tmp_path / "in"
    blank(source / "sub" / "a.png", 20, 10)
    blank(source / "other" / "a.png", 20, 10)
    labelme(source, "a.json", [shape()], imagePath=path)
    _, trees = converted(source, tmp_path / "out")
    assert [image["file_name"] for image in trees["data"]["images"]] == ["sub/a.png"]


def test_images_that_are_missing_unreadable_of_another_size_or_not_clear_are_named(tmp_path):
    source = tmp_path / "in"
    for name in ("a.png", "x/twice.png", "y/twice.png"):
        blank(source / name, 20, 10)
    written(source, "text.png", "no image")
    for number, path in enumerate(("a.png", "gone.png", "text.png", "z/twice.png")):
        labelme(source, f"{number}.json", [shape()], imagePath=path)
    labelme(source, "size.json", [shape()], imageWidth=10, imageHeight=20)
    result, trees = converted(source, tmp_path / "out")
    codes = ("image-absent", "image-broken", "image-ambiguous", "image-size")
    assert lost(result) == dict.fromkeys(codes, 1)
    assert not result.complete
    assert len(trees["data"]["images"]) == 1
    assert any("gone.png" in line for line in result.losses.lines())


def test_an_image_without_objects_stays(tmp_path):
    for name in ("a.png", "b.png"):
        blank(tmp_path / name, 20, 10)
    labelme(tmp_path, "a.json", [shape()])
    labelme(tmp_path, "b.json", [], imagePath="b.png")
    _, trees = converted(tmp_path, tmp_path / "out")
    assert len(trees["data"]["images"]) == 2


def test_coco_as_labelmes_script_writes_it(tmp_path):
    """Ids from 0, a background class, a folder in the names, nulls."""
    blank(tmp_path / "JPEGImages" / "a.jpg", 20, 10)
    image = {"id": 0, "file_name": "JPEGImages/a.jpg", "width": 20, "height": 10, "license": 0}
    polygon = [2, 2, 8, 2, 8, 8]
    tree = {
        "info": {"description": None},
        "images": [image],
        "annotations": [
            {"id": 0, "image_id": 0, "category_id": 15, "segmentation": [polygon], "iscrowd": 0},
            {"id": 1, "image_id": 0, "category_id": 15, "segmentation": [polygon[::-1]]},
        ],
        "categories": [
            {"supercategory": None, "id": 0, "name": "_background_"},
            {"supercategory": None, "id": 15, "name": "person"},
        ],
    }
    written(tmp_path, "annotations.json", tree)
    result, trees = converted(tmp_path, tmp_path / "out")
    assert result.left_out == ["_background_"]
    assert [a["id"] for a in trees["data"]["annotations"]] == [1, 2]  # 0 is none that COCO counts
    assert trees["data"]["categories"] == [{"id": 15, "name": "person"}]
    assert trees["data"]["annotations"][0]["area"] == 18


def test_coco_keypoints_are_kept(tmp_path):
    blank(tmp_path / "a.png", 20, 10)
    keypoints = {"keypoints": [3, 3, 2], "num_keypoints": 1}
    annotation = {"id": 4, "image_id": "x", "category_id": 1, "bbox": [2, 2, 6, 6], **keypoints}
    tree = {
        "images": [{"id": "x", "file_name": "a.png"}],
        "annotations": [annotation],
        "categories": [{"id": 1, "name": "dot", "keypoints": ["tip"], "skeleton": []}],
    }
    _, trees = converted(written(tmp_path, "c.json", tree), tmp_path / "out")
    (record,) = trees["data"]["annotations"]
    assert {key: record[key] for key in keypoints} == keypoints
    assert trees["data"]["categories"][0]["keypoints"] == ["tip"]
    assert trees["data"]["images"][0] == {"id": 1, "file_name": "a.png", "height": 10, "width": 20}


def test_via_project_with_checkboxes_and_several_attributes(tmp_path):
    blank(tmp_path / "a.png", 20, 10)
    polygon = {"name": "polygon", "all_points_x": [2, 8, 8], "all_points_y": [2, 2, 8]}
    ticks = ({"cat": True}, {"cat": True, "dog": True}, {"cat": False})
    regions = [
        {"shape_attributes": polygon, "region_attributes": {"note": "x", "Type": tick}}
        for tick in ticks
    ]
    images = {"a.png1": {"filename": "a.png", "size": 1, "regions": regions}}
    project = {"_via_settings": {}, "_via_img_metadata": images}
    file = written(tmp_path, "via.json", project)
    result, trees = converted(file, tmp_path / "out")
    assert lost(result) == {"classes": 1, "no-class": 1}
    assert classes(trees["data"]) == {"cat": [1]}
    _, trees = converted(file, tmp_path / "out", options=Options(attribute="note"))
    assert list(classes(trees["data"])) == ["x"]


def test_cvat_masks_turned_boxes_ellipses_and_groups(tmp_path):
    blank(tmp_path / "a.png", 20, 10)
    xml = """<annotations><image name="a.png" width="20" height="10">
      <mask label="m" left="3" top="1" width="2" height="2" rle="0, 1, 1, 2"/>
      <box label="b" xtl="4" ytl="4" xbr="12" ybr="6" rotation="90"/>
      <ellipse label="e" cx="10" cy="5" rx="4" ry="2"/>
      <polygon label="g" points="1,1;3,1;3,3" group_id="7"/>
      <polygon label="g" points="5,1;7,1;7,3" group_id="7"/>
      <cuboid label="c"/><skeleton label="s"><points label="t" points="1,1"/></skeleton>
      <polygon label="" points="1,1;3,1;3,3"/><tag label="day"/>
    </image></annotations>"""
    result, trees = converted(written(tmp_path, "a.xml", xml), tmp_path / "out")
    assert lost(result) == {"box": 1, "round": 1, "joined": 1, "solid": 2, "no-class": 1}
    by_class = {}
    for annotation in trees["data"]["annotations"]:
        names = {c["id"]: c["name"] for c in trees["data"]["categories"]}
        by_class[names[annotation["category_id"]]] = annotation
    assert np.argwhere(pixels(by_class["m"])).tolist() == [[1, 3], [2, 3], [2, 4]]
    assert by_class["b"]["bbox"] == pytest.approx([7, 1, 2, 8])
    assert by_class["e"]["bbox"] == pytest.approx([6, 3, 8, 4], abs=0.2)
    assert by_class["g"]["area"] == 4


def task(results, key="annotations", **fields):
    sizes = {"original_width": 3, "original_height": 2, "image_rotation": 0}
    results = [{**sizes, "id": str(i), **result} for i, result in enumerate(results)]
    return {
        "data": {"image": "/data/upload/1/0a1b2c3d-a.png"},
        key: [{"result": results}],
        **fields,
    }


def test_label_studio_brushes_ellipses_and_separate_labels(tmp_path):
    blank(tmp_path / "images" / "a.png", 3, 2)
    painted = brush(24, [(0, 4), (255, 8), (0, 12)])
    square = {"points": [[0, 0], [100, 0], [100, 100]]}
    turned = {"x": 50, "y": 50, "radiusX": 30, "radiusY": 40, "rotation": 0}
    results = [
        {"type": "brushlabels", "value": {"format": "rle", "rle": painted, "brushlabels": ["b"]}},
        {"type": "ellipselabels", "value": {**turned, "ellipselabels": ["e"]}},
        {"type": "polygon", "value": square, "id": "same"},
        {"type": "labels", "value": {**square, "labels": ["l"]}, "id": "same"},
        {"type": "choices", "value": {"choices": ["day"]}},
        {
            "type": "polygonlabels",
            "value": {**square, "polygonlabels": ["r"]},
            "image_rotation": 90,
        },
    ]
    file = written(tmp_path, "t.json", [task(results)])
    result, trees = converted(file, tmp_path / "out")
    assert lost(result) == {"round": 1, "rotated": 1}
    assert classes(trees["data"]) == {"b": [1], "e": [2], "l": [3]}
    brushed, ellipse, polygon = trees["data"]["annotations"]
    assert pixels(brushed).tolist() == [[0, 1, 1], [0, 0, 0]]
    assert ellipse["bbox"] == pytest.approx([0.6, 0.2, 1.8, 1.6], abs=0.1)
    assert polygon["area"] == 3


def test_label_studio_takes_the_newest_annotation_and_predictions_only_when_asked(tmp_path):
    blank(tmp_path / "a.png", 3, 2)
    value = {"points": [[0, 0], [100, 0], [100, 100]]}
    old, new, guess = (
        task([{"type": "polygonlabels", "value": {**value, "polygonlabels": [name]}}])
        for name in ("old", "new", "guess")
    )
    (first,), (second,) = old["annotations"], new["annotations"]
    first["updated_at"], second["updated_at"] = "2025-01-01", "2025-01-02"
    cancelled = {"result": [], "was_cancelled": True, "updated_at": "2025-01-03"}
    both = {**old, "annotations": [first, second, cancelled]}
    result, trees = converted(written(tmp_path, "t.json", [both]), tmp_path / "out")
    assert lost(result) == {"other-annotator": 1}
    assert list(classes(trees["data"])) == ["new"]
    # Without a date it is the oldest.
    undated = {"result": first.pop("result")}
    for dates in ({}, {"updated_at": None, "created_at": None}):
        tasks = [{**old, "annotations": [undated | dates, second]}]
        _, trees = converted(written(tmp_path, "t.json", tasks), tmp_path / "out")
        assert list(classes(trees["data"])) == ["new"]
    predicted = {"data": guess["data"], "annotations": [], "predictions": guess["annotations"]}
    file = written(tmp_path, "t.json", [predicted])
    _, trees = converted(file, tmp_path / "out", options=Options(predictions=True))
    assert list(classes(trees["data"])) == ["guess"]


def voc(folder, objects, kinds, palette=True):
    """Write the two maps of a.png and its image."""
    from maskrcnn_repro.data.formats.index_png import colour

    blank(folder / "JPEGImages" / "a.jpg", 4, 2)
    colours = [c for n in range(256) for c in colour(n).to_bytes(3, "big")]
    for name, content in (("SegmentationObject", objects), ("SegmentationClass", kinds)):
        image = Image.fromarray(np.array(content, np.uint8))
        if palette:
            image.putpalette(colours)
        (folder / name).mkdir()
        (image.convert("RGB") if palette == "rgb" else image).save(folder / name / "a.png")


@pytest.mark.parametrize("palette", [True, False, "rgb"])
def test_pascal_voc(tmp_path, palette):
    # 255 is void, 8 a cat, 15 a person.
    objects = [[1, 1, 0, 2], [1, 255, 0, 2]]
    voc(tmp_path, objects, [[8, 8, 0, 15], [8, 255, 0, 15]], palette)
    result, trees = converted(tmp_path, tmp_path / "out")
    assert result.form == "voc"
    names = {c["id"]: c["name"] for c in trees["data"]["categories"]}
    assert len(names) == 20
    of_class = {names[a["category_id"]]: a for a in trees["data"]["annotations"]}
    assert pixels(of_class["cat"]).tolist() == [[1, 1, 0, 0], [1, 0, 0, 0]]
    assert pixels(of_class["person"]).tolist() == [[0, 0, 0, 1], [0, 0, 0, 1]]


def test_pascal_voc_with_cvats_labelmap_and_lists(tmp_path):
    voc(tmp_path, [[1, 1, 0, 2], [1, 0, 0, 2]], [[1, 1, 0, 2], [1, 0, 0, 2]], "rgb")
    lines = [
        "# label:color_rgb:parts:actions",
        "background:0,0,0::",
        "ant:128,0,0::",
        "bee:0,128,0::",
    ]
    written(tmp_path, "labelmap.txt", "\n".join(lines))
    written(tmp_path, "ImageSets/Segmentation/train.txt", "a\n")
    _, trees = converted(tmp_path, tmp_path / "out")
    assert classes(trees["data"]) == {"ant": [2], "bee": [1]}  # in the order of their colours


def test_masks_of_instances_in_16_bits(tmp_path):
    blank(tmp_path / "images" / "a.jpg", 4, 2)
    (tmp_path / "masks").mkdir()
    ids = np.array([[0, 300, 300, 7], [0, 0, 300, 7]], np.uint16)
    Image.fromarray(ids).save(tmp_path / "masks" / "a.png")
    _, trees = converted(tmp_path, tmp_path / "out", options=Options(class_name="cell"))
    assert classes(trees["data"]) == {"cell": [1, 2]}
    assert [a["area"] for a in trees["data"]["annotations"]] == [2, 3]
    assert trees["data"]["images"][0]["file_name"] == "a.jpg"


def test_yolo_boxes_lists_and_a_label_without_an_image(tmp_path):
    blank(tmp_path / "images" / "a.jpg", 10, 20)
    written(tmp_path, "train.txt", "./images/a.jpg\n")
    written(tmp_path, "labels/a.txt", "0 0.5 0.5 0.2 0.2\n0 0.5 0.5 0.2 0.2 0.9\n")
    written(tmp_path, "data.yaml", "train: train.txt\nval: images\nnames: [cat]\n")
    written(tmp_path, "labels/gone.txt", "0 0.5 0.5 0.2 0.2\n")
    result, trees = converted(tmp_path, tmp_path / "out")
    assert trees["data"]["annotations"][0]["bbox"] == pytest.approx([4, 8, 2, 4])
    assert lost(result)["label-alone"] == 1
    assert lost(result)["other-kind"] == 2
    assert not result.complete


def test_a_result_is_read_back_as_it_is(tmp_path):
    """COCO in, the same COCO out: ids, classes, crowds and RLE."""
    blank(tmp_path / "a.png", 20, 10)
    labelme(tmp_path, "a.json", [shape(), shape("mask", [[3, 1], [3, 1]], mask=png([[1]]))])
    converted(tmp_path, tmp_path / "first")
    source = tmp_path / "first" / "data.json"
    _, trees = converted(source, tmp_path / "second", images=tmp_path)
    tree = json.loads(source.read_text())
    assert {**trees["data"], "info": None} == {**tree, "info": None}


def test_instances_and_keypoints_of_one_image_are_joined(tmp_path):
    """COCO's two files have the same people, which are no other objects; one file alone may repeat an id."""
    blank(tmp_path / "a.png", 20, 10)
    person = {"id": 7, "image_id": 1, "category_id": 1, "segmentation": [[1, 1, 8, 1, 8, 8]]}
    cup = {"id": 8, "image_id": 1, "category_id": 2, "segmentation": [[2, 2, 9, 2, 9, 9]]}
    names = [{"id": 1, "name": "person"}, {"id": 2, "name": "cup"}]
    images = [{"id": 1, "file_name": "a.png", "width": 20, "height": 10}]
    written(
        tmp_path,
        "instances_train.json",
        {"images": images, "categories": names, "annotations": [person, cup]},
    )
    points = {"keypoints": [3, 3, 2], "num_keypoints": 1}
    people = [{"id": 1, "name": "person", "keypoints": ["nose"], "skeleton": []}]
    other = {**person, "id": 9, "segmentation": [[3, 1, 9, 1, 9, 8]]}
    tree = {
        "images": images,
        "categories": people,
        "annotations": [person | points, other | points],
    }
    written(tmp_path, "person_keypoints_train.json", tree)
    assert convert_data([str(tmp_path), str(tmp_path / "out")]) == 0
    tree = json.loads((tmp_path / "out" / "data.json").read_text())
    assert [(a["id"], a["category_id"], a.get("keypoints")) for a in tree["annotations"]] == [
        (7, 1, [3, 3, 2]),
        (8, 2, None),
        (9, 1, [3, 3, 2]),
    ]
    assert tree["categories"][0]["keypoints"] == ["nose"]
