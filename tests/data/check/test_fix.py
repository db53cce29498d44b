"""A mended copy has no error left, and what it mends is right."""

import json

from maskrcnn_repro.data.check import fix
from maskrcnn_repro.data.check.findings import Findings
from maskrcnn_repro.data.check.fix import fix_tree
from maskrcnn_repro.data.check.mends import mend_outline
from maskrcnn_repro.data.check.scan import scan_coco, scan_tree
from maskrcnn_repro.errors import DataError

import numpy as np
import pytest

from tests.data.check.corpus import CORPUS
from tests.data.check.spoiling import NAMES, SQUARE, drop, each, put, sound, write

BEYOND_MENDING = (
    *("file-no-json", "file-no-object", "list-absent", "annotations-absent", "list-type"),
    *("images-empty", "image-too-large", "image-deep", "categories-empty", "no-object"),
    *("keypoint-names", "keypoint-names-twice", "keypoint-names-differ"),
)
"""What only the user can mend: nothing is left, or names are missing."""


def mended(tmp_path, name):
    """The tree of a corpus file after its mend."""
    return fix_tree(scan_coco(*write(tmp_path, CORPUS[name][0])))[0]


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
    tree, counts = fix_tree(scan_coco(path, images))
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
    fix_tree(scan_coco(path, images))
    assert path.read_bytes() == before


def test_objects_of_one_file_are_joined(tmp_path):
    tree = mended(tmp_path, "file twice")
    assert [image["id"] for image in tree["images"]] == [2]
    assert {a["image_id"] for a in tree["annotations"]} == {2}


@pytest.mark.parametrize("name", ["./im2.png", "sub/../im2.png", "sub//..//im2.png"])
def test_objects_of_one_file_by_two_names_are_joined(tmp_path, name):
    (tmp_path / "images" / "sub").mkdir(parents=True)
    spoil = put("images", 1, "file_name", to=name)
    tree, counts = fix_tree(scan_coco(*write(tmp_path, spoil)))
    assert counts["image-file-twice"] == 1
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

    tree, _ = fix_tree(scan_coco(*write(tmp_path, spoil)))
    assert [record[field] for record in tree[key]] == values


def test_a_number_becomes_a_name(tmp_path):
    tree, _ = fix_tree(scan_coco(*write(tmp_path, put("categories", 1, "name", to=3))))
    assert [category["name"] for category in tree["categories"]] == ["person", "3"]
    assert len(tree["annotations"]) == len(sound()["annotations"])


def test_a_box_and_an_outline_in_fractions_become_pixels(tmp_path):
    def spoil(tree, images):
        first = tree["annotations"][0]
        first["bbox"] = [50 / 96, 32 / 80, 30 / 96, 30 / 80]
        first["segmentation"] = [[v / (96, 80)[i % 2] for i, v in enumerate(SQUARE)]]

    first = fix_tree(scan_coco(*write(tmp_path, spoil)))[0]["annotations"][0]
    assert first["bbox"] == pytest.approx([50, 32, 30, 30])
    assert first["segmentation"] == [pytest.approx(SQUARE)]


@pytest.mark.parametrize(
    "box", [[10**400, 0.5, 1, 1], [10**400, -(10**400), 1, 1], [1e300, -1e300, 1, 1]]
)
def test_an_object_with_a_box_beyond_all_bounds_alone_goes(tmp_path, box):
    def spoil(tree, images):
        tree["annotations"][0] |= {"bbox": box, "segmentation": []}

    tree, counts = fix_tree(scan_coco(*write(tmp_path, spoil)), frozenset())
    assert [a["id"] for a in tree["annotations"]] == [5, 6, 7, 8, 9]
    assert next(iter(counts)) in ("box-no-numbers", "box-huge")


def test_an_outline_in_fractions_leaves_its_box_in_pixels(tmp_path):
    first = mended(tmp_path, "polygon in fractions")["annotations"][0]
    assert first["segmentation"] == [pytest.approx([48, 32, 76.8, 32, 76.8, 56, 48, 56])]
    assert first["bbox"] == [50, 32, 30, 30]


def test_without_a_mask_head_no_outline_is_needed(tmp_path):
    def spoil(tree, images):
        tree["annotations"][0] |= {"bbox": [0.5, 0.25, 0.5, 0.5], "segmentation": []}

    scan = scan_coco(*write(tmp_path, spoil))
    tree, _ = fix_tree(scan, frozenset())
    assert tree["annotations"][0]["bbox"] == [48, 20, 48, 40]


def area(polygon):
    xs, ys = np.reshape(polygon, (-1, 2)).T
    return abs(np.dot(xs, np.roll(ys, 1)) - np.dot(ys, np.roll(xs, 1))) / 2


def test_an_outline_over_the_border_is_cut_there():
    # The line y = 50 - 75 (x + 80) / 65 from (-80, 50) to (50, -80) is x + y = -30, beside the image. The one from
    # (50, -80) to (90, 50) crosses y = 0 at x = 50 + 40 * 80 / 130 and leaves 50 * (74.615 + 90) / 2 pixels.
    annotation = {"bbox": [0, 0, 90, 50], "segmentation": [[-80, 50, 50, -80, 90, 50]]}
    assert mend_outline(annotation, {"width": 100, "height": 100})
    (polygon,) = annotation["segmentation"]
    assert area(polygon) == pytest.approx(50 * (50 + 40 * 80 / 130 + 90) / 2)
    assert area(polygon) == pytest.approx(4115.4, abs=0.1)
    assert min(polygon) == 0


def test_what_is_no_outline_is_not_cut():
    sides, far = {"width": 10, "height": 10}, [0, 0, 1e9, 0, 5, 5]
    annotation = {"bbox": [0, 0, 5, 5], "segmentation": far}
    assert mend_outline(annotation, sides)
    assert annotation["segmentation"] == [far]  # for the next check to name
    beside = {"bbox": [0, 0, 5, 5], "segmentation": [[12, 2, 14, 2, 14, 4]]}
    assert not mend_outline(beside, sides)


@pytest.mark.parametrize("key", ["images", "categories", "annotations"])
@pytest.mark.parametrize("gone", [None, "null"])
@pytest.mark.parametrize(
    "also",
    [
        each("images", id="a"),
        each("images", file_name="im2.png"),
        put("images", 0, "file_name", to="im9.png"),
        put("categories", 0, "id", to="a"),
        put("categories", 1, "name", to="person"),
    ],
)
def test_a_file_without_a_list_is_refused_whatever_else_is_wrong(tmp_path, key, gone, also):
    def spoil(tree, images):
        also(tree, images)
        (put(key, to=None) if gone else drop(key))(tree, images)

    with pytest.raises(DataError, match=f"No copy can mend this.*{key}"):
        fix_tree(scan_coco(*write(tmp_path, spoil)))


def test_numbers_in_quotes_become_numbers(tmp_path):
    def spoil(tree, images):
        tree["annotations"][0] |= {
            "bbox": ["50", "32", "30", "30"],
            "segmentation": [list(map(str, SQUARE))],
        }

    first = fix_tree(scan_coco(*write(tmp_path, spoil)))[0]["annotations"][0]
    assert (first["bbox"], first["segmentation"]) == ([50, 32, 30, 30], [SQUARE])


def test_an_rle_in_a_list_is_the_outline_unless_polygons_stand_beside_it(tmp_path):
    def spoil(tree, images):
        first, second, *_ = tree["annotations"]
        second["segmentation"] = [second["segmentation"]]
        first["segmentation"].append(second["segmentation"][0])

    first, *_ = fix_tree(scan_coco(*write(tmp_path, spoil)))[0]["annotations"]
    assert (first["id"], first["segmentation"]) == (5, sound()["annotations"][1]["segmentation"])


def test_ids_that_are_texts_become_numbers(tmp_path):
    def spoil(tree, images):
        for record in (*tree["images"], *tree["annotations"]):
            record["id"] = f"id-{record['id']}"
        for a in tree["annotations"]:
            a["image_id"] = f"id-{a['image_id']}"

    tree, _ = fix_tree(scan_coco(*write(tmp_path, spoil)))
    assert [(image["id"], image["file_name"]) for image in tree["images"]] == [
        (1, "im2.png"),
        (2, "im3.png"),
    ]
    assert [a["image_id"] for a in tree["annotations"]] == [1, 1, 1, 1, 2, 2]


def test_a_copy_without_images_tells_why(tmp_path):
    def spoil(tree, images):
        for file in images.iterdir():
            file.unlink()

    with pytest.raises(DataError, match=r"it would have no images.* 2 of 2 images are missing"):
        fix_tree(scan_coco(*write(tmp_path, spoil)))


def test_sizes_of_many_images_are_not_looked_up_in_a_list(tmp_path):
    class Places(list):
        def __contains__(self, item):
            raise AssertionError("one search of the list for each image")

    write(tmp_path)
    tree = {"images": [{**image, "height": 1} for image in sound()["images"]]}
    fix.WHOLE["image size"](tree, tmp_path / "images", Places([2]))
    assert [image["height"] for image in tree["images"]] == [80, 1]
