"""Which class is taken for which: a matrix with a row for background and a column for missed objects."""

from __future__ import annotations

from maskrcnn_repro.analysis.evaluation_set import EvaluationSet, ranks
from maskrcnn_repro.analysis.matching import match
from maskrcnn_repro.analysis.overlaps import Pairs

import numpy as np


def confusion(evaluated: EvaluationSet, pairs: Pairs, iou: float, score: float) -> np.ndarray:
    """Return how many objects of each class are found as which class, (C + 1, C + 1) int for C classes.

    Detections are matched by falling score with the free object of the highest IoU, whatever its class is. The last
    row counts detections that match no object, the last column objects that no detection matches.

    Args:
        evaluated: detections and objects.
        pairs: of all classes.
        iou: least one of a match.
        score: least one of a detection.
    """
    truth, detections = evaluated.truth, evaluated.detections
    sure = detections.scores >= score
    order = np.lexsort((-detections.scores, detections.images))
    order = order[sure[order]]
    places = np.zeros(len(sure), np.int64)
    places[order] = ranks(detections.images[order])
    matching = match(evaluated, pairs.where(sure[pairs.detections]), places, np.array([iou]))
    background = len(evaluated.class_names)
    matrix = np.zeros((background + 1, background + 1), np.int64)
    hits = matching.hits[0]
    rows = truth.categories[matching.objects[0, hits]]
    np.add.at(matrix, (rows, detections.categories[hits]), 1)
    matrix[-1, :-1] = np.bincount(
        detections.categories[matching.false_alarms[0] & sure], minlength=background
    )
    matrix[:-1, -1] = evaluated.objects - matrix[:-1, :-1].sum(axis=1)
    return matrix


def fold_classes(matrix: np.ndarray, names: list[str], most: int) -> tuple[np.ndarray, list[str]]:
    """Return the matrix with at most ``most`` classes, those with the most errors, and the others as one class.

    Args:
        matrix: of :func:`confusion`.
        names: C of the classes.
        most: classes that are kept.
    """
    if len(names) <= most:
        return matrix, names
    wrong = matrix.sum(axis=0) + matrix.sum(axis=1) - 2 * matrix.diagonal()
    kept = np.sort(np.argsort(-wrong[:-1], kind="stable")[:most])
    group = np.full(len(matrix), most)
    group[kept] = np.arange(most)
    group[-1] = most + 1
    result = np.zeros((most + 2, most + 2), matrix.dtype)
    np.add.at(result, (group[:, None], group[None]), matrix)
    return result, [*(names[index] for index in kept), f"{len(names) - most} others"]
