"""AP by class and size, and the curves behind it, from a matching.

Shape legend: T thresholds, D detections, C classes, R = 101 recalls.
"""

from __future__ import annotations

from maskrcnn_repro.evaluation.resampling import CategoryMatches

import numpy as np

RECALLS = np.linspace(0.0, 1.0, 101)
"""R, COCO's."""


def class_precisions(
    categories: np.ndarray,
    scores: np.ndarray,
    hits: np.ndarray,
    false_alarms: np.ndarray,
    objects: np.ndarray,
) -> np.ndarray:
    """Return the AP of each class at each threshold by the project's evaluator, (C, T), fractions.

    NaN stands for a class without objects.

    Args:
        categories: (D,) int.
        scores: (D,).
        hits: (T, D) bool.
        false_alarms: (T, D) bool; what is neither does not count.
        objects: (C,) int, how many there are to be found.
    """
    result = []
    for total, rows in zip(objects, rows_by_class(categories, scores, len(objects)), strict=True):
        # The images do not matter here: all detections lie in a single one.
        matches = CategoryMatches(
            np.zeros(len(rows), np.int64), hits[:, rows], false_alarms[:, rows], np.array([total])
        )
        result.append(matches.precision(np.ones((1, 1), np.int64))[0])
    return np.array(result).reshape(len(objects), len(hits))


def rows_by_class(categories: np.ndarray, scores: np.ndarray, count: int) -> list[np.ndarray]:
    """Return the detections of each of ``count`` classes by falling score; of equal ones the earlier comes first."""
    order = np.lexsort((-scores, categories))
    return np.split(order, np.searchsorted(categories[order], np.arange(1, count)))


def average_precisions(precisions: np.ndarray) -> float:
    """Return the mean in points over classes with objects and thresholds, as COCO's code does; NaN without any."""
    counted = precisions[~np.isnan(precisions)]
    return float(100 * counted.mean()) if len(counted) else float("nan")


def curve(hits: np.ndarray, false_alarms: np.ndarray, total: int) -> np.ndarray:
    """Return the highest precision at each of COCO's recalls or a higher one, (R,) fractions; its mean is the AP.

    Args:
        hits: (D,) bool, by falling score.
        false_alarms: (D,) bool.
        total: objects to be found, at least 1.
    """
    true_positives, false_positives = np.cumsum(hits), np.cumsum(false_alarms)
    precision = true_positives / np.maximum(true_positives + false_positives, 1)
    highest = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    # The first detection at which the recall is reached; behind the last one the precision is 0.
    return np.asarray(highest[np.searchsorted(true_positives / total, RECALLS, side="left")])


def find_best_score(
    scores: np.ndarray, hits: np.ndarray, false_alarms: np.ndarray, total: int
) -> tuple[float, float]:
    """Return the highest F1 (fraction) of any least score, and that score; NaN without a hit.

    Args:
        scores: (D,), falling.
        hits: (D,) bool.
        false_alarms: (D,) bool.
        total: objects to be found.
    """
    if not hits.any():
        return float("nan"), float("nan")
    true_positives, false_positives = np.cumsum(hits), np.cumsum(false_alarms)
    f1 = 2 * true_positives / (true_positives + false_positives + total)
    # Equal scores are kept or left out together.
    f1[:-1][scores[:-1] == scores[1:]] = 0
    best = int(f1.argmax())
    return float(f1[best]), float(scores[best])
