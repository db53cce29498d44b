"""When a file may be called the same model: limits, ties and misses, worked out by hand."""

from maskrcnn_repro.export.verify import Comparison, compare

import numpy as np
import pytest

FACTS = {"threshold": 0.05, "nms_threshold": 0.5, "detections_per_image": 3}


def detections(*rows):
    """Return arrays of (x1, score, class): boxes are 10 px wide, and masks and keypoints follow x1."""
    x1, scores, classes = (np.array(column, np.float32) for column in zip(*rows, strict=True))
    boxes = np.stack([x1, 0 * x1, x1 + 10, 0 * x1 + 10], axis=1)
    return {"boxes": boxes, "scores": scores, "classes": classes.astype(np.int64)}


def compared(expected, given):
    comparison = Comparison()
    compare(detections(*expected), detections(*given), FACTS, comparison)
    return comparison


def test_small_differences_hold_whatever_the_order():
    result = compared([(0, 0.9, 0), (50, 0.8, 1)], [(50.009, 0.8, 1), (0, 0.90009, 0)])
    assert (result.detections, result.matched, result.ties, result.misses) == (2, 2, 0, 0)
    assert result.largest["boxes"] == pytest.approx(0.009, abs=1e-5)
    assert result.holds


@pytest.mark.parametrize("given", [(0.02, 0.9, 0), (0, 0.9002, 0), (0, 0.9, 1)])
def test_beyond_a_limit_both_miss_one(given):
    result = compared([(0, 0.9, 0)], [given])
    assert (result.matched, result.ties, result.misses) == (0, 0, 2)
    assert not result.holds


@pytest.mark.parametrize(
    ("expected", "given"),
    [
        # At the threshold of scores.
        ([(0, 0.9, 0), (50, 0.05005, 0)], [(0, 0.9, 0)]),
        # At the end of a full list.
        ([(0, 0.9, 0), (50, 0.8, 0), (99, 0.7, 0)], [(0, 0.9, 0), (50, 0.8, 0), (150, 0.70005, 0)]),
        # 20 / 3 px of 10 overlap: an IoU of 1/2, the threshold of NMS.
        ([(0, 0.9, 0), (10 / 3, 0.8, 0)], [(0, 0.9, 0)]),
    ],
)
def test_ties_are_no_misses(expected, given):
    result = compared(expected, given)
    assert result.ties >= 1
    assert result.misses == 0
    assert result.holds


@pytest.mark.parametrize("name", ["masks", "mask_scores", "keypoints"])
def test_no_number_does_not_agree(name):
    values = {"masks": [[[0.7]]], "mask_scores": [0.8], "keypoints": [[[5.0, 5.0, 3.0]]]}
    expected, given = detections((0, 0.9, 0)), detections((0, 0.9, 0))
    expected[name] = np.array(values[name], np.float32)
    given[name] = np.full_like(expected[name], np.nan)
    comparison = Comparison()
    compare(expected, given, FACTS, comparison)
    assert comparison.largest[name] == np.inf
    assert not comparison.holds
    compare(expected, expected, FACTS, comparison)
    assert not comparison.holds


def test_equally_high_keypoints_are_a_tie():
    expected, given = detections((0, 0.9, 0)), detections((0, 0.9, 0))
    expected["keypoints"] = np.array([[[1.0, 1.0, 0.3], [5.0, 5.0, 0.3]]], np.float32)
    given["keypoints"] = np.array([[[2.0, 1.0, 0.3], [5.0, 5.0, 0.3]]], np.float32)
    comparison = Comparison()
    compare(expected, given, FACTS, comparison)
    assert (comparison.ties, comparison.largest["keypoints"]) == (1, 0.0)
    given["keypoints"][0, 0, 2] = 0.4
    compare(expected, given, FACTS, comparison)
    assert comparison.largest["keypoints"] == 1.0
    assert not comparison.holds
