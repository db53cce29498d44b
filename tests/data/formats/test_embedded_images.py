"""Images that LabelMe files hold themselves: each is written under a name of its own, and nothing is overwritten."""

import numpy as np
import pytest
from PIL import Image

from tests.data.formats.test_readers import labelme, png, shape
from tests.helpers.label_files import blank, classes, converted, lost


def held(value):
    """An image of 20 x 10 pixels of one value, as text."""
    return png(np.full((10, 20), value))


def shown(result, tree):
    """File name of each image -> value of its pixels, and the ids of its objects."""
    objects = {image["id"]: [] for image in tree["images"]}
    for annotation in tree["annotations"]:
        objects[annotation["image_id"]].append(annotation["id"])
    return {
        image["file_name"]: (
            Image.open(result.root / image["file_name"]).getpixel((0, 0)),
            objects[image["id"]],
        )
        for image in tree["images"]
    }


@pytest.mark.parametrize(
    ("names", "files"),
    [
        (("a/1.json", "b/1.json"), ("embedded/a/1.png", "embedded/b/1.png")),
        (("1.json", "1.JSON"), ("embedded/1-2.png", "embedded/1.png")),
        (("A.json", "a.json"), ("embedded/A.png", "embedded/a-2.png")),
    ],
)
def test_files_of_one_name_keep_their_images_and_objects_apart(tmp_path, names, files):
    source = tmp_path / "in"
    for number, name in enumerate(names):
        labelme(source, name, [shape(label=f"class{number}")], imageData=held(number * 9))
    result, trees = converted(source, tmp_path / "out")
    assert lost(result) == {"embedded": 2}
    assert result.complete
    found = shown(result, trees["data"])
    assert tuple(found) == files
    assert sorted(value for value, _ in found.values()) == [0, 9]
    assert [len(objects) for _, objects in found.values()] == [1, 1]
    assert sorted(classes(trees["data"])) == ["class0", "class1"]


def test_an_image_of_the_source_is_not_overwritten(tmp_path):
    source = tmp_path / "in"
    blank(source / "embedded" / "b.png", 20, 10)
    labelme(source, "a.json", [shape()], imagePath="embedded/b.png")
    labelme(source, "b.json", [shape()], imagePath="gone.png", imageData=held(9))
    result, trees = converted(source, tmp_path / "out")
    values = {name: value for name, (value, _) in shown(result, trees["data"]).items()}
    assert values == {"embedded/b-2.png": 9, "embedded/b.png": (0, 0, 0)}


def test_one_file_alone_is_its_own_source(tmp_path):
    file = labelme(tmp_path / "in", "a.json", [shape()], imageData=held(9))
    _, trees = converted(file, tmp_path / "out")
    assert [image["file_name"] for image in trees["data"]["images"]] == ["embedded/a.png"]


def test_where_the_name_is_not_clear_the_image_within_is_taken_and_none_is_lost(tmp_path):
    source = tmp_path / "in"
    for folder in "xy":
        blank(source / folder / "a.png", 20, 10)
    labelme(source, "a.json", [shape()], imageData=held(9))
    result, trees = converted(source, tmp_path / "out")
    assert lost(result) == {"embedded": 1}
    assert result.complete
    assert shown(result, trees["data"]) == {"embedded/a.png": (9, [1])}
