"""Each format on a file that its tool, or the writer of its tool, made: see tests/stored/formats/README.md."""

import pytest

from tests.helpers.label_files import classes, converted, lost, stored

ROBOFLOW = "train/509_png.rf.a84b659753bcd6eced9a48634f2a7405.jpg"
COPY = "train/509_png.rf.a897c029b8f8ed403127c10f08627168.jpg"
VIA = {
    f"{name}.jpg": (640, 480)
    for name in ("test_pattern_qbist", "sinus_test_pattern", "a_swan_swimming_in_geneve_lake")
}
CVAT = {
    f"images/{subset}/{name}.jpg": size
    for subset in ("Train", "Validation", "Test")
    for name, size in (("img0", (8, 8)), ("img1", (10, 10)))
}


def boxes(tree):
    return [annotation["bbox"] for annotation in tree["annotations"]]


def test_roboflow_leaves_its_class_0_out_and_keeps_ids(tmp_path):
    source = stored("roboflow", tmp_path, {ROBOFLOW: (640, 640), COPY: (640, 640)})
    result, trees = converted(source, tmp_path / "out")
    assert result.form == "coco"
    assert result.left_out == ["nails"]
    tree = trees["data"]
    assert [(c["id"], c["name"]) for c in tree["categories"]] == [(1, "Nail")]
    assert [(i["id"], i["file_name"]) for i in tree["images"]] == [(19, ROBOFLOW), (30, COPY)]
    assert [a["id"] for a in tree["annotations"]] == [77, 78, 79, 80]
    # The file rounds the corner of a box to whole pixels: the outline says more.
    assert boxes(tree)[0] == pytest.approx([290.667, 22, 32.666, 53.333])
    assert tree["annotations"][0]["segmentation"][0][:2] == [292.667, 28.667]


def test_cvat_exports_boxes_without_an_outline_and_a_crowd_as_rle(tmp_path):
    images = {"images/train/a.jpg": (10, 5), "images/val/b.jpg": (5, 10)}
    result, trees = converted(stored("cvat_coco", tmp_path, images), tmp_path / "out")
    assert lost(result) == {"box": 1}
    assert set(trees) == {"train", "val"}
    (box,) = trees["train"]["annotations"]
    assert box["segmentation"] == [[2, 2, 5, 2, 5, 3, 2, 3]]
    assert (box["area"], box["category_id"], box["image_id"]) == (3, 2, 5)
    polygon, crowd = trees["val"]["annotations"]
    assert (polygon["area"], polygon["iscrowd"]) == (2, 0)
    assert crowd["segmentation"] == {"counts": [0, 20, 30], "size": [10, 5]}
    assert (crowd["bbox"], crowd["area"], crowd["iscrowd"]) == ([0, 0, 2, 10], 20, 1)
    # Both have the same classes, and the one that neither uses is gone.
    assert all(list(classes(tree)) == ["a", "b"] for tree in trees.values())


def test_labelme_finds_an_image_with_another_case_of_its_ending(tmp_path):
    source = stored("labelme", tmp_path, {"2011_000025.JPG": (500, 375)})
    result, trees = converted(source, tmp_path / "out")
    assert (result.form, lost(result)) == ("labelme", {})
    assert classes(trees["data"]) == {"bus": [1, 2], "car": [3]}
    assert trees["data"]["images"][0]["file_name"] == "2011_000025.JPG"
    left, top, width, height = boxes(trees["data"])[2]
    assert (left, top) == (408.936170212766, 168.56382978723406)
    assert (left + width, top + height) == pytest.approx((497.936170212766, 258.56382978723406))


@pytest.mark.parametrize("file", ["annotation1.csv", "annotation2.json"])
def test_via(tmp_path, file):
    source = stored("via", tmp_path, VIA)
    result, trees = converted(source / file, tmp_path / "out")
    assert result.form == "via"
    assert lost(result) == {"round": 2, "box": 2, "point": 5, "no-class": 2}
    names = classes(trees["data"])
    assert sorted(names) == [
        'a "white" swan, good fortune',
        "a 'rect' in \"blue\", background",
        'ellipse "red"',
        'ellipse on "yellow"; background',
        "rectangle 'black'",
    ]
    shapes = {a["id"]: a for a in trees["data"]["annotations"]}
    (swan,) = names['a "white" swan, good fortune']
    assert shapes[swan]["bbox"] == [105, 135, 323, 164]
    (red,) = names['ellipse "red"']
    # cx 252, cy 190, rx 27, ry 26
    assert shapes[red]["bbox"] == pytest.approx([225, 164, 54, 52], abs=0.2)
    assert shapes[red]["area"] == pytest.approx(3.14159 * 27 * 26, rel=0.01)


def test_yolo(tmp_path):
    source = stored("yolo", tmp_path, {"images/train/1.jpg": (10, 20)})
    result, trees = converted(source, tmp_path / "out")
    assert result.form == "yolo"
    first, second = trees["data"]["annotations"]
    assert first["segmentation"][0] == pytest.approx([1, 2, 4, 2, 4, 10])
    assert first["area"] == pytest.approx(12)
    assert second["bbox"] == pytest.approx([2, 3, 2, 12])
    # One set may not be all: classes that it lacks stay, so that another one fits.
    assert [c["name"] for c in trees["data"]["categories"]] == [f"label_{i}" for i in range(10)]
    assert (first["category_id"], second["category_id"]) == (3, 5)


def test_roboflows_yolo_points_out_of_its_folder(tmp_path):
    images = {"train/images/a.jpg": (10, 20), "valid/images/b.jpg": (10, 20)}
    source = stored("yolo_roboflow", tmp_path, images)
    for part, name in (("train", "a"), ("valid", "b")):
        (source / part / "labels").mkdir()
        (source / part / "labels" / f"{name}.txt").write_text("1 0.1 0.1 0.5 0.1 0.5 0.5\n")
    result, trees = converted(source, tmp_path / "out")
    assert {part: len(tree["annotations"]) for part, tree in trees.items()} == {
        "train": 1,
        "val": 1,
    }
    assert result.left_out == ["label_0"]


def test_cvat(tmp_path):
    result, trees = converted(stored("cvat", tmp_path, CVAT), tmp_path / "out")
    assert result.form == "cvat"
    assert lost(result) == {"box": 3, "line": 3, "point": 3}
    assert set(trees) == {"train", "val", "test"}
    names = [image["file_name"] for image in trees["train"]["images"]]
    assert names == ["images/Train/img0.jpg", "images/Train/img1.jpg"]
    box, polygon = trees["train"]["annotations"]
    assert box["segmentation"] == [[0, 2, 4, 2, 4, 4, 0, 4]]
    assert polygon["segmentation"] == [[1, 2, 3, 4, 6, 5]]
    assert polygon["area"] == 2
    assert result.left_out == ["label2"]


def test_label_studio(tmp_path):
    source = stored("labelstudio", tmp_path, {"images/test_image1.jpg": (500, 320)})
    result, trees = converted(source / "data.json", tmp_path / "out")
    assert (result.form, lost(result)) == ("labelstudio", {"box": 1, "point": 2})
    box, polygon = trees["data"]["annotations"]
    assert box["bbox"] == pytest.approx([159.70962, 13.16312, 31.76044, 31.77305])
    assert polygon["segmentation"][0][:2] == pytest.approx([208.71143, 11.34752])
    assert list(classes(trees["data"])) == ["polygon_label", "rectangle_label"]
