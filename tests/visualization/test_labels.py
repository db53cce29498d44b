"""Where labels go, by hand."""

import maskrcnn_repro  # noqa: F401
from maskrcnn_repro.visualization.labels import place_labels

import numpy as np


def placed(boxes, sizes, picture=(100, 100)):
    return place_labels(np.array(boxes, float), np.array(sizes, float), picture).tolist()


def test_a_label_stands_above_its_box_and_at_its_upper_edge_without_room():
    assert placed([[10, 50, 40, 80]], [[20, 8]]) == [[10, 42]]
    assert placed([[10, 3, 40, 80]], [[20, 8]]) == [[10, 0]]


def test_no_label_is_cut_off_at_a_border():
    boxes = [[90, 90, 100, 100], [-5, -5, 4, 4], [95, 0, 99, 3], [0, 98, 3, 100]]
    corners = np.array(placed(boxes, [[30, 10]] * 4))
    assert (corners >= 0).all()
    assert (corners <= [70, 90]).all()
    assert placed([[10, 10, 20, 20]], [[200, 8]]) == [[0, 2]]


def test_labels_of_the_same_box_do_not_cover_each_other():
    corners = np.array(placed([[30, 40, 60, 60]] * 6, [[20, 8]] * 6))
    gaps = np.abs(corners[:, None] - corners[None]) >= [20, 8]
    assert (gaps.any(axis=2) | np.eye(6, dtype=bool)).all()


def test_without_labels_there_are_no_places():
    assert place_labels(np.zeros((0, 4)), np.zeros((0, 2)), (9, 9)).shape == (0, 2)
