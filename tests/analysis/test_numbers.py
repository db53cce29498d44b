"""Confusion, calibration, best scores and the order of images, by hand."""

import maskrcnn_repro  # noqa: F401
from maskrcnn_repro.analysis.analysis import analyze
from maskrcnn_repro.analysis.calibration import calibration
from maskrcnn_repro.analysis.confusion import fold_classes
from maskrcnn_repro.analysis.evaluation_set import read_set
from maskrcnn_repro.analysis.precision import curve, find_best_score

import numpy as np
import pytest

from tests.helpers.detections import write_pair

A, B, C = (5, 5, 20, 20), (40, 5, 20, 20), (5, 60, 20, 20)


def test_the_confusion_matrix(tmp_path):
    objects = [(0, 0, A), (0, 1, B), (0, 1, C), (0, 2, (70, 70, 20, 20), {"iscrowd": 1})]
    detections = [
        (0, 0, A, 0.9),
        (0, 0, B, 0.8),  # a bar taken for a disc
        (0, 1, B, 0.7),  # its place is taken
        (0, 1, C, 0.4),  # too weak
        (0, 2, (70, 70, 10, 10), 0.9),  # in a crowd
    ]
    result = analyze(read_set(*write_pair(tmp_path, objects, detections), None, "bbox"))
    assert result.confusion.tolist() == [[1, 0, 0, 0], [1, 0, 0, 1], [0, 0, 0, 0], [0, 1, 0, 0]]
    # By class, the bar is found: a detection that is sure of a wrong class takes nothing from it.
    assert result.marks.counts.tolist() == [[2, 1, 1]]


def test_of_many_classes_those_with_the_most_errors_are_kept():
    matrix = np.diag([9, 9, 9, 9, 0])
    matrix[3, 0], matrix[1, 2], matrix[4, 3] = 2, 1, 5
    small, names = fold_classes(matrix, list("abcd"), 2)
    assert names == ["a", "d", "2 others"]
    assert small.tolist() == [[9, 0, 0, 0], [2, 9, 0, 0], [0, 0, 19, 0], [0, 5, 0, 0]]
    assert fold_classes(matrix, list("abcd"), 4)[1] == list("abcd")


def test_calibration():
    scores, hits = np.array([0.05, 0.15, 0.15, 1.0, 0.5]), np.array([0, 1, 0, 1, 1], bool)
    measured = calibration(scores, hits, np.array([1, 1, 1, 1, 0], bool))
    assert measured.counts.tolist() == [1, 2, 0, 0, 0, 0, 0, 0, 0, 1]
    assert measured.hits[[0, 1, 9]].tolist() == [0, 0.5, 1]
    assert measured.error == pytest.approx((0.05 + 2 * 0.35 + 0) / 4)


def test_the_best_score_and_the_curve():
    hits = np.array([True, False, True, False])
    scores = np.array([0.9, 0.8, 0.7, 0.7])
    # F1 of the first alone: 2 / (1 + 3); of all four, as 0.7 is kept or left out: 4 / (4 + 3).
    assert find_best_score(scores, hits, ~hits, 3) == (4 / 7, 0.7)
    assert np.isnan(find_best_score(scores, hits & False, ~hits, 3)).all()
    values = curve(hits, ~hits, 2)
    assert values[:51].tolist() == [1] * 51
    assert values[51:].tolist() == pytest.approx([2 / 3] * 50)
    assert curve(hits[:0], hits[:0], 1).tolist() == [0] * 101


def test_images_are_ordered_by_their_errors(tmp_path):
    objects = [(0, 0, A), (1, 0, A), (1, 0, B), (2, 0, A)]
    detections = [(0, 0, A, 0.9), (1, 0, C, 0.6), (1, 0, C, 0.4), (2, 0, A, 0.9), (2, 0, C, 0.9)]
    pair = write_pair(tmp_path, objects, detections, images=4)
    marks = analyze(read_set(*pair, None, "bbox")).marks
    assert marks.counts.tolist() == [[1, 0, 0], [0, 2, 1], [1, 0, 1], [0, 0, 0]]
    assert marks.order.tolist() == [1, 2, 3, 0]
