"""Masks of a results file that are not as large as their images: refused before one is decoded."""

import json

import maskrcnn_repro  # noqa: F401
from maskrcnn_repro.analysis.evaluation_set import read_set
from maskrcnn_repro.errors import DataError

import numpy as np
import pytest

from tests.helpers.detections import SIDE, write_pair

BOX = (10, 10, 20, 20)


def pair(folder, mask, task="segm"):
    """Read an object and a detection with this mask in the second of two images."""
    truth, results = write_pair(folder, [(1, 0, BOX)], [(1, 0, BOX, 0.9)], images=2)
    entries = json.loads(results.read_text())
    entries[0]["segmentation"] = mask
    results.write_text(json.dumps(entries))
    return read_set(truth, results, None, task)


@pytest.mark.parametrize(
    ("size", "told"),
    [
        ([60000, 60000], r"\[60000, 60000\]"),
        ([SIDE, SIDE - 1], r"\[100, 99\]"),
        ([SIDE], r"\[100\]"),
        ("100", "'100'"),
        (None, "None"),
    ],
)
def test_a_mask_of_another_size_is_refused(tmp_path, size, told):
    area = size[0] * size[1] if isinstance(size, list) and len(size) == 2 else SIDE * SIDE
    message = (
        rf"results\.json: the RLE of a prediction for image 2 has the size {told}, but the image has \[100, 100\] "
        r"\(height, width\)\."
    )
    with pytest.raises(DataError, match=message):
        pair(tmp_path, {"size": size, "counts": [area - 5, 5]})
    assert len(pair(tmp_path, {"size": size, "counts": [5]}, "bbox").detections.scores) == 1


def test_height_comes_first(tmp_path):
    truth, results = write_pair(tmp_path, [], [(0, 0, BOX, 0.9)])
    tree, entries = json.loads(truth.read_text()), json.loads(results.read_text())
    tree["images"][0] |= {"width": 20, "height": 30}
    truth.write_text(json.dumps(tree))
    for size, sound in (([30, 20], True), ([20, 30], False)):
        entries[0]["segmentation"] = {"size": size, "counts": [590, 10]}
        results.write_text(json.dumps(entries))
        if sound:
            assert read_set(truth, results, None, "segm").detections.areas == np.array([10.0])
            continue
        with pytest.raises(DataError, match=r"\[20, 30\], but the image has \[30, 20\]"):
            read_set(truth, results, None, "segm")


def test_counts_below_zero_are_refused(tmp_path):
    with pytest.raises(DataError, match="a segmentation of a prediction is not COCO's"):
        pair(tmp_path, {"size": [SIDE, SIDE], "counts": [SIDE * SIDE + 3, -3]})
