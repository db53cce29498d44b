"""What each kind of error costs: the AP that is gained by mending it alone [TIDE, Sec. 2.3].

An error of class or place becomes a hit on its object, if no detection matches that object already; of several such
errors on an object the one of the highest score becomes the hit, and the others go. Errors of the other kinds go,
and missed objects need not be found. All AP is that of :func:`~maskrcnn_repro.analysis.precision.class_precisions`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from maskrcnn_repro.analysis.error_kinds import KINDS, Errors
from maskrcnn_repro.analysis.evaluation_set import EvaluationSet
from maskrcnn_repro.analysis.matching import Matching
from maskrcnn_repro.analysis.overlaps import find_last
from maskrcnn_repro.analysis.precision import average_precisions, class_precisions

import numpy as np

ALL = {
    "all false alarms": "every detection that is no hit",
    "all misses": "every object without a match",
}
"""Beside the kinds: what the false alarms and the misses cost in all."""


@dataclass(frozen=True)
class _Counted:
    """What AP is computed from; shapes as in :func:`class_precisions` at one threshold."""

    categories: np.ndarray
    scores: np.ndarray
    hits: np.ndarray
    false_alarms: np.ndarray
    objects: np.ndarray

    def ap(self) -> float:
        return average_precisions(
            class_precisions(
                self.categories, self.scores, self.hits[None], self.false_alarms[None], self.objects
            )
        )


def costs(evaluated: EvaluationSet, matching: Matching, errors: Errors) -> dict[str, float]:
    """Return for each of :data:`KINDS` and :data:`ALL` the AP gained by mending it, in points; NaN without AP.

    Args:
        evaluated: detections and objects.
        matching: at one threshold.
        errors: at that threshold.
    """
    detections = evaluated.detections
    counted = _Counted(
        detections.categories,
        detections.scores,
        matching.hits[0],
        matching.false_alarms[0],
        evaluated.objects,
    )
    base = counted.ap()
    mended = {kind: _mend_errors(counted, evaluated, matching, errors, kind) for kind in KINDS}
    mended["all false alarms"] = replace(counted, false_alarms=np.zeros_like(counted.hits))
    missing = matching.counted & ~matching.found()
    mended["all misses"] = _drop_objects(counted, evaluated, missing)
    return {name: version.ap() - base for name, version in mended.items()}


def _mend_errors(
    counted: _Counted, evaluated: EvaluationSet, matching: Matching, errors: Errors, kind: str
) -> _Counted:
    if kind == "missed":
        return _drop_objects(counted, evaluated, errors.missed)
    rows = errors.of(kind)
    gone = replace(counted, false_alarms=counted.false_alarms & ~rows)
    if kind not in ("class", "place"):
        return gone
    hits, categories = counted.hits.copy(), counted.categories.copy()
    winners = _find_new_hits(counted.scores, errors.targets, rows, matching.found())
    hits[winners] = True
    categories[winners] = evaluated.truth.categories[errors.targets[winners]]
    return replace(gone, hits=hits, categories=categories)


def _find_new_hits(
    scores: np.ndarray, targets: np.ndarray, rows: np.ndarray, found: np.ndarray
) -> np.ndarray:
    """Return the errors that become hits: of each object that is not found, the one of the highest score."""
    candidates = np.flatnonzero(rows)
    candidates = candidates[~found[targets[candidates]]]
    # The highest score last; of equal scores the earlier detection.
    rising = candidates[np.lexsort((-candidates, scores[candidates]))]
    best = find_last(targets[rising], rising, len(found))
    return best[best >= 0]


def _drop_objects(counted: _Counted, evaluated: EvaluationSet, objects: np.ndarray) -> _Counted:
    gone = np.bincount(evaluated.truth.categories[objects], minlength=len(counted.objects))
    return replace(counted, objects=counted.objects - gone)
