"""COCO's greedy matching of detections with objects, for all images and thresholds at once.

A detection takes, by falling score, the free object of the highest IoU. What COCO's code does in loops over images,
thresholds and detections is done here in one round for each place in the order of scores.

Shape legend: T thresholds, D detections, G objects.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from maskrcnn_repro.analysis.evaluation_set import EvaluationSet
from maskrcnn_repro.analysis.overlaps import Pairs

import numpy as np

SIZES = {
    "all": (0.0, 1e10),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}
"""COCO's ranges of area, in square pixels; both ends belong to a range."""


@dataclass(frozen=True)
class Matching:
    """What became of each detection and object.

    Attributes:
        objects: (T, D) int, the object that a detection matches, -1 for none.
        hits: (T, D) bool.
        false_alarms: (T, D) bool; what matches an ignored object is neither.
        counted: (G,) bool, objects that are to be found.
    """

    objects: np.ndarray
    hits: np.ndarray
    false_alarms: np.ndarray
    counted: np.ndarray

    def found(self, only: np.ndarray | None = None) -> np.ndarray:
        """Return which objects are matched at the first threshold, (G,) bool.

        Args:
            only: (D,) bool, the detections to look at; by default all.
        """
        rows = self.hits[0] if only is None else self.hits[0] & only
        result = np.zeros(len(self.counted), bool)
        result[self.objects[0, rows]] = True
        return result


def match(
    evaluated: EvaluationSet,
    pairs: Pairs,
    ranks: np.ndarray,
    thresholds: np.ndarray,
    size: str = "all",
) -> Matching:
    """Match detections with objects as COCO's code does.

    Args:
        evaluated: detections and objects.
        pairs: those that may match: ``pairs.where(pairs.same_class)``, or all of them to match whatever the class is.
        ranks: (D,) int, the place of each detection among those that compete with it.
        thresholds: (T,), of the IoU.
        size: of :data:`SIZES`; objects of others are ignored, and so are unmatched detections of others.
    """
    truth, detections = evaluated.truth, evaluated.detections
    low, high = SIZES[size]
    ignored = truth.ignored | (truth.areas < low) | (truth.areas > high)
    # The best pair of a detection stands last: an object that counts, the highest IoU, the later object.
    order = np.lexsort(
        (pairs.objects, pairs.ious, ~ignored[pairs.objects], ranks[pairs.detections])
    )
    matched = _greedy(pairs, order, ranks, truth.crowd, thresholds, len(detections.scores))
    to_ignored = (matched >= 0) & np.append(ignored, False)[matched]
    outside = (detections.areas < low) | (detections.areas > high)
    hits = (matched >= 0) & ~to_ignored
    return Matching(matched, hits, (matched < 0) & ~outside, ~ignored)


def _greedy(
    pairs: Pairs,
    order: np.ndarray,
    ranks: np.ndarray,
    crowd: np.ndarray,
    thresholds: np.ndarray,
    count: int,
) -> np.ndarray:
    """Return (T, D) int; of each round's pairs, the last one of a detection in ``order`` that is free."""
    rows, objects, ious = (v[order] for v in (pairs.detections, pairs.objects, pairs.ious))
    # As COCO's code: an IoU of 1 in floating point may be a little less.
    limits = np.minimum(thresholds, 1 - 1e-10)[:, None]
    matched = np.full((len(thresholds), count), -1)
    taken = np.zeros((len(thresholds), len(crowd)), bool)
    rounds = np.searchsorted(ranks[rows], np.arange(ranks.max(initial=-1) + 2))
    for begin, end in itertools.pairwise(rounds):
        near, there = rows[begin:end], objects[begin:end]
        free = (ious[begin:end] >= limits) & ~(taken[:, there] & ~crowd[there])
        level, pair = np.nonzero(free)
        # Of repeated indices NumPy leaves the last value.
        matched[level, near[pair]] = there[pair]
        level, pair = np.nonzero(free & (matched[:, near] == there))
        taken[level, there[pair]] = True
    return matched
