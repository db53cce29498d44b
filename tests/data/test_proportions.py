"""Statistics of a data set: four objects by hand, a resize, nothing at all, wrong names."""

import json
import re
import warnings

from maskrcnn_cli.dispatch import main
from maskrcnn_repro.data.check.scan import scan_coco
from maskrcnn_repro.data.proportions import lines, measure_proportions
from maskrcnn_repro.data.synthetic.annotations import runs_of
from maskrcnn_repro.data.thin_parts import outline_mask, thin_share
from maskrcnn_repro.utils.rle import encode_mask

import numpy as np
import pytest


def coco_file(folder, boxes, empty=1):
    """Images of 200 x 100 pixels, one per list of boxes and empty ones; masks fill three quarters, whatever ``area`` says."""
    images = [
        {"id": i, "file_name": f"{i}.png", "width": 200, "height": 100}
        for i in range(1, len(boxes) + empty + 1)
    ]
    annotations = [
        {
            "image_id": i,
            "category_id": category,
            "iscrowd": 0,
            "bbox": [x, y, w, h],
            "area": 0.5,
            "segmentation": [
                [x, y, x + w, y, x + w, y + h / 2, x + w / 2, y + h / 2, x + w / 2, y + h, x, y + h]
            ],
        }
        for i, image in enumerate(boxes, start=1)
        for category, (x, y, w, h) in image
    ]
    for number, annotation in enumerate(annotations, start=1):
        annotation["id"] = number
    categories = [{"id": n, "name": f"c{n}"} for n in (1, 2, 3)]
    file = folder / "some.json"
    file.write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    return file


@pytest.fixture
def file(tmp_path):
    # The first two share a third of their union; the third touches the right border.
    first = [(1, (10, 10, 40, 40)), (2, (30, 10, 40, 40)), (2, (180, 50, 20, 10))]
    return coco_file(tmp_path, [first, [(1, (50, 50, 64, 16))]])


def test_four_objects_by_hand(file):
    scan = scan_coco(file, file.parent, headers=False)
    values = measure_proportions(scan, cell=16)
    assert values["images"] == (3,)
    assert values["objects"] == (4,)
    assert values["classes"] == (3,)
    assert values["images without object, %"] == pytest.approx((100 / 3,))
    assert values["images with one object, %"] == pytest.approx((100 / 3,))
    assert values["objects per image"][2] == 1  # of 3, 1 and 0
    assert values["classes per image"] == pytest.approx(
        np.percentile([2, 1, 0], (10, 25, 50, 75, 90))
    )
    assert values["longer side, cells"] == pytest.approx(
        np.percentile([2.5, 2.5, 1.25, 4], (10, 25, 50, 75, 90))
    )
    assert values["root of box area, cells"][4] <= 2.5
    assert values["box IoU with another > 0.1, %"] == (50,)
    assert values["box IoU with another > 0.3, %"] == (50,)
    assert values["boxes at the border, %"] == (25,)
    assert values["mask over box area, %"] == (75,) * 5


def test_a_limb_is_the_thin_part_of_a_mask():
    mask = np.zeros((40, 60), dtype=bool)
    mask[:20, :20] = True
    mask[20:40, 5:15] = True
    # 200 of 600 pixels lie in no square of 16.
    assert thin_share(mask, 16) == pytest.approx(200 / 600)
    assert thin_share(mask, 10) == 0
    assert thin_share(mask, 21) == 1


def test_no_cell_larger_than_a_mask_lies_in_it_and_none_is_padded():
    mask = np.zeros((100, 200), dtype=bool)
    mask[40:60, 30:90] = True
    assert thin_share(mask, 20) == 0
    # Of even and odd length, at each border of the array.
    for cell in (19, 20):
        assert thin_share(np.ones((20, 21), dtype=bool), cell) == 0
    for cell in (21, 61, 10**9):
        assert thin_share(mask, cell) == 1


def test_polygons_and_both_kinds_of_rle_are_one_mask():
    mask = outline_mask([[1, 1, 4, 1, 4, 3, 1, 3]], 5, 6)
    expected = np.zeros((5, 6), dtype=bool)
    expected[1:3, 1:4] = True
    np.testing.assert_array_equal(mask, expected)
    for rle in (runs_of(expected), encode_mask(expected)):
        np.testing.assert_array_equal(outline_mask(rle, 5, 6), expected)


def test_a_resize_enlarges_objects_up_to_the_longest_side(file):
    scan = scan_coco(file, file.parent, headers=False)
    plain, larger = measure_proportions(scan), measure_proportions(scan, short=200)
    # Twice as high would be 400 pixels wide, but 333 are allowed.
    np.testing.assert_allclose(
        larger["longer side, cells"], np.array(plain["longer side, cells"]) * 333 / 200
    )
    assert larger["box IoU with another > 0.3, %"] == plain["box IoU with another > 0.3, %"]


def test_nothing_has_no_quantiles(tmp_path):
    file = coco_file(tmp_path, [], empty=2)
    values = measure_proportions(scan_coco(file, tmp_path, headers=False))
    assert values["images without object, %"] == (100,)
    assert np.isnan(values["longer side, cells"]).all()
    assert ["objects", "0"] in list(lines([values]))
    assert ["longer side, cells", "\N{EN DASH}"] in list(lines([values]))


def test_command_prints_sets_side_by_side(file, capsys):
    assert main(["statistics", str(file), f"{file}@200"]) == 0
    printed = capsys.readouterr().out
    (row,) = [line for line in printed.splitlines() if line.startswith("| longer side")]
    assert [cell.split()[2] for cell in row.split("|")[2:4]] == ["2.5", "4.16"]
    assert "quantiles at 10, 25, 50, 75, 90 %" in printed


def test_names_of_sets_do_not_break_the_table(file, capsys):
    odd = file.rename(file.with_name("a|b\nc.JSON"))
    assert main(["statistics", str(odd)]) == 0
    head, *rows = capsys.readouterr().out.split("\n\n")[0].splitlines()
    assert head.split("/")[-1].rstrip(" |") == "a\\|b c.JSON"
    assert {row.count("|") for row in rows} == {3}


@pytest.mark.parametrize("width", [1e308, 1e200])
def test_a_box_that_is_far_too_wide_is_told_without_a_warning(file, capsys, width):
    tree = json.loads(file.read_text())
    tree["annotations"][0]["bbox"][2] = width
    file.write_text(json.dumps(tree))
    with warnings.catch_warnings(action="error"):
        assert main(["statistics", str(file)]) == 2
    assert "more than ten times as large as its image" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["small_coco_vall"],
            "'small_coco_vall' is neither a COCO file .* nor a registered data set",
        ),
        (["nowhere.json"], "nowhere.json"),
        (["nowhere.json", "--cell", "0"], "--cell 0 has to be"),
        (["nowhere.json", "--cell", "100000"], "--cell 100000 .* from 1 to 99999"),
        (["nowhere.json@0"], r"'nowhere.json@0' is to be SET@SHORT, .* got '0'"),
        (["@800"], r"such as small_coco_val@800"),
    ],
)
def test_wrong_words_are_told(words, told, capsys):
    assert main(["statistics", *words]) == 2
    (sentence,) = capsys.readouterr().err.strip().splitlines()
    assert re.search(told, sentence)
