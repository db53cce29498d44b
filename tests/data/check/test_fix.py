"""A mended copy has no error left, and what it mends is right."""

import json

from maskrcnn_repro.data.check.findings import Findings
from maskrcnn_repro.data.check.fix import fixed
from maskrcnn_repro.data.check.scan import scan_coco, scan_tree
from maskrcnn_repro.errors import DataError

import pytest

from tests.data.check.corpus import CORPUS
from tests.data.check.spoiling import NAMES, SQUARE, put, sound, write

BEYOND_MENDING = (
    *("file-no-json", "file-no-object", "list-absent", "annotations-absent", "list-type"),
    *("images-empty", "image-too-large", "image-deep", "categories-empty", "no-object"),
    *("keypoint-names", "keypoint-names-twice", "keypoint-names-differ"),
)
"""What only the user can mend: nothing is left, or names are missing."""


def mended(tmp_path, name):
    """The tree of a corpus file after its mend."""
    return fixed(scan_coco(*write(tmp_path, CORPUS[name][0])))[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", CORPUS)
def test_a_mended_file_has_no_error(tmp_path, name):
    if CORPUS[name][1] in BEYOND_MENDING:
        with pytest.raises(DataError, match="No copy can mend this"):
            mended(tmp_path, name)
        return
    tree = mended(tmp_path, name)
    findings = Findings(tmp_path / "mended.json")
    scan_tree(tree, tmp_path / "images", findings)
    assert not findings.of_severity("error", "train", ("masks",))


def test_a_sound_file_stays_as_it_is(tmp_path):
    path, images = write(tmp_path)
    tree, counts = fixed(scan_coco(path, images))
    assert (tree, counts) == (sound(), {})


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("outline flat", "segmentation", [SQUARE]),
        ("outline of pairs", "segmentation", [SQUARE]),
        ("polygon a box", "segmentation", None),
        ("box as corners", "bbox", [50, 32, 30, 30]),
        ("box in fractions", "bbox", [50, 32, 30, 30]),
        ("box NaN", "bbox", [50, 32, 30, 30]),
        ("box negative", "bbox", [50, 32, 30, 30]),
        ("area -1", "area", 900),
        ("area text", "area", 900),
        ("annotations without area", "area", 900),
        ("iscrowd text", "iscrowd", 0),
        ("iscrowd null", "iscrowd", 0),
        ("iscrowd 2", "iscrowd", 1),
        ("ignore 1", "iscrowd", 1),
    ],
)
def test_a_mend_puts_the_right_value(tmp_path, name, key, value):
    first = mended(tmp_path, name)["annotations"][0]
    # A polygon of the box's numbers becomes its corners.
    assert first[key] == value if value is not None else first[key] == [SQUARE]


def test_the_original_is_never_written(tmp_path):
    path, images = write(tmp_path, CORPUS["outline flat"][0])
    before = path.read_bytes()
    fixed(scan_coco(path, images))
    assert path.read_bytes() == before


def test_objects_of_one_file_are_joined(tmp_path):
    tree = mended(tmp_path, "file twice")
    assert [image["id"] for image in tree["images"]] == [2]
    assert {a["image_id"] for a in tree["annotations"]} == {2}


def test_the_unused_twin_of_a_class_goes(tmp_path):
    tree = mended(tmp_path, "category name twice, one unused")
    assert [(c["id"], c["name"]) for c in tree["categories"]] == [(1, "person"), (2, "cell")]
    assert tree["categories"][0]["keypoints"] == NAMES
    assert json.loads((tmp_path / "a.json").read_text())["categories"][0]["id"] == 0


@pytest.mark.parametrize(
    ("key", "field", "values"),
    [
        ("images", "height", [80, 80]),
        ("images", "width", [96, 96]),
        ("annotations", "id", [1, 2, 3, 4, 5, 6]),
        ("annotations", "bbox", [a["bbox"] for a in sound()["annotations"]]),
        # The last but one covers the image.
        ("annotations", "area", [900, 200, 200, 900, 96 * 80, 900]),
    ],
)
def test_what_all_records_lack_is_found_out(tmp_path, key, field, values):
    def spoil(tree, images):
        for record in tree[key]:
            del record[field]

    tree, _ = fixed(scan_coco(*write(tmp_path, spoil)))
    assert [record[field] for record in tree[key]] == values


def test_a_number_becomes_a_name(tmp_path):
    tree, _ = fixed(scan_coco(*write(tmp_path, put("categories", 1, "name", to=3))))
    assert [category["name"] for category in tree["categories"]] == ["person", "3"]
    assert len(tree["annotations"]) == len(sound()["annotations"])


def test_a_copy_without_images_tells_why(tmp_path):
    def spoil(tree, images):
        for file in images.iterdir():
            file.unlink()

    with pytest.raises(DataError, match=r"it would have no images.* 2 of 2 images are missing"):
        fixed(scan_coco(*write(tmp_path, spoil)))
