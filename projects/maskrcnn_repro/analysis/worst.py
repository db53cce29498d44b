"""Images in the order of their errors.

Shape legend: I images, D detections, G objects.
"""

from __future__ import annotations

from dataclasses import dataclass

from maskrcnn_repro.analysis.evaluation_set import EvaluationSet
from maskrcnn_repro.analysis.matching import Matching

import numpy as np


@dataclass(frozen=True)
class Marks:
    """What is right and wrong among detections of at least some score, at one threshold.

    Attributes:
        hits: (D,) bool.
        false_alarms: (D,) bool.
        misses: (G,) bool.
        order: (I,) int, images by falling number of false alarms and misses; of equal ones that with fewer hits.
        counts: (I, 3) int, hits, misses and false alarms of each image.
    """

    hits: np.ndarray
    false_alarms: np.ndarray
    misses: np.ndarray
    order: np.ndarray
    counts: np.ndarray


def mark(evaluated: EvaluationSet, matching: Matching, score: float) -> Marks:
    """Return hits, misses and false alarms, and the worst images.

    Args:
        evaluated: detections and objects.
        matching: at one threshold.
        score: least one of a detection.
    """
    truth, detections = evaluated.truth, evaluated.detections
    # Matching goes by falling score: what lies below the least one takes nothing away.
    sure = detections.scores >= score
    hits, false_alarms = matching.hits[0] & sure, matching.false_alarms[0] & sure
    misses = matching.counted & ~matching.found(sure)
    images = (detections.images[hits], truth.images[misses], detections.images[false_alarms])
    count = len(evaluated.image_ids)
    counts = np.stack([np.bincount(each, minlength=count) for each in images], axis=1)
    order = np.lexsort((counts[:, 0], -counts[:, 1:].sum(axis=1)))
    return Marks(hits, false_alarms, misses, order, counts)
