"""Everything that a page shows of an evaluation, as numbers.

Shape legend: C classes, T = 10 thresholds, R = 101 recalls, D detections.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from maskrcnn_repro.analysis.calibration import Calibration, calibration
from maskrcnn_repro.analysis.confusion import confusion
from maskrcnn_repro.analysis.cost import costs
from maskrcnn_repro.analysis.error_kinds import Errors, classify
from maskrcnn_repro.analysis.evaluation_set import EvaluationSet, ranks
from maskrcnn_repro.analysis.matching import SIZES, Matching, match
from maskrcnn_repro.analysis.overlaps import overlaps
from maskrcnn_repro.analysis.precision import (
    RECALLS,
    class_precisions,
    curve,
    find_best_score,
    rows_by_class,
)
from maskrcnn_repro.analysis.worst import Marks, mark
from maskrcnn_repro.evaluation.resampling import THRESHOLDS

import numpy as np


@dataclass(frozen=True)
class Analysis:
    """The numbers of a page.

    Attributes:
        iou: of everything that is at one threshold.
        score: least one of a detection in the confusion matrix and the marks.
        precisions: size to (C, T) AP, fractions; NaN for a class without objects of the size.
        objects: size to (C,) int, objects to be found.
        at_iou: (C,) AP at ``iou``, fractions.
        curves: (T, C, R) precision at COCO's recalls, NaN for a class without objects.
        curves_at_iou: (C, R), at ``iou``.
        best: (C, 2), the highest F1 at ``iou`` (fraction) and the least score that gives it.
        matching: at ``iou``.
        errors: at ``iou``.
        costs: kind of error to the AP at ``iou`` gained by mending it, points.
        confusion: (C + 1, C + 1) int.
        calibration: of the scores.
        marks: hits, misses and false alarms, and the worst images.
    """

    iou: float
    score: float
    precisions: Mapping[str, np.ndarray]
    objects: Mapping[str, np.ndarray]
    at_iou: np.ndarray
    curves: np.ndarray
    curves_at_iou: np.ndarray
    best: np.ndarray
    matching: Matching
    errors: Errors
    costs: Mapping[str, float]
    confusion: np.ndarray
    calibration: Calibration
    marks: Marks


def analyze(evaluated: EvaluationSet, iou: float = 0.5, score: float = 0.5) -> Analysis:
    """Return where a model errs.

    Args:
        evaluated: detections and objects.
        iou: threshold of the IoU for errors, confusion and marks.
        score: least one of a detection in the confusion matrix and the marks.
    """
    detections, count = evaluated.detections, len(evaluated.class_names)
    pairs = overlaps(evaluated)
    own = pairs.where(pairs.same_class)
    places = ranks(detections.images, detections.categories)
    by_size = {size: match(evaluated, own, places, THRESHOLDS, size) for size in SIZES}
    objects = {
        size: np.bincount(evaluated.truth.categories[matching.counted], minlength=count)
        for size, matching in by_size.items()
    }
    chosen = match(evaluated, own, places, np.array([iou]))
    errors = classify(pairs, chosen, iou)
    hits, false_alarms = chosen.hits[0], chosen.false_alarms[0]
    return Analysis(
        iou=iou,
        score=score,
        precisions={
            size: _precisions(evaluated, matching, objects[size])
            for size, matching in by_size.items()
        },
        objects=objects,
        at_iou=_precisions(evaluated, chosen, objects["all"])[:, 0],
        curves=_curves(evaluated, by_size["all"]),
        curves_at_iou=_curves(evaluated, chosen)[0],
        best=_best_scores(evaluated, chosen),
        matching=chosen,
        errors=errors,
        costs=costs(evaluated, chosen, errors),
        confusion=confusion(evaluated, pairs, iou, score),
        calibration=calibration(detections.scores, hits, hits | false_alarms),
        marks=mark(evaluated, chosen, score),
    )


def _precisions(evaluated: EvaluationSet, matching: Matching, objects: np.ndarray) -> np.ndarray:
    detections = evaluated.detections
    return class_precisions(
        detections.categories, detections.scores, matching.hits, matching.false_alarms, objects
    )


def _curves(evaluated: EvaluationSet, matching: Matching) -> np.ndarray:
    detections, objects = evaluated.detections, evaluated.objects
    curves = np.full((len(matching.hits), len(objects), len(RECALLS)), np.nan)
    rows_of = rows_by_class(detections.categories, detections.scores, len(objects))
    for category in np.flatnonzero(objects):
        rows = rows_of[category]
        for level, (hits, wrong) in enumerate(
            zip(matching.hits[:, rows], matching.false_alarms[:, rows], strict=True)
        ):
            curves[level, category] = curve(hits, wrong, int(objects[category]))
    return curves


def _best_scores(evaluated: EvaluationSet, matching: Matching) -> np.ndarray:
    detections, objects = evaluated.detections, evaluated.objects
    rows_of = rows_by_class(detections.categories, detections.scores, len(objects))
    best = [
        find_best_score(
            detections.scores[rows], matching.hits[0, rows], matching.false_alarms[0, rows], total
        )
        for rows, total in zip(rows_of, objects, strict=True)
    ]
    return np.array(best).reshape(-1, 2)
