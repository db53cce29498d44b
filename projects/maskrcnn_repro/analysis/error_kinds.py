"""What kind of error each false alarm is, and which objects are missed by everything [TIDE, Sec. 2.2].

Bolya et al., "TIDE: A General Toolbox for Identifying Object Detection Errors", ECCV 2020.

Shape legend: P pairs, D detections, G objects.
"""

from __future__ import annotations

from dataclasses import dataclass

from maskrcnn_repro.analysis.matching import Matching
from maskrcnn_repro.analysis.overlaps import Pairs, find_last

import numpy as np

KINDS = {
    "class": "in the place of an object of another class",
    "place": "on an object of its class, but not well enough",
    "both": "on an object of another class, and not well enough",
    "duplicate": "on an object that a detection of a higher score has found",
    "background": "on no object",
    "missed": "an object that no detection is on, not even one of a wrong class or place",
}
"""Name of each kind of error -> what it says of a detection (of an object for the last)."""
NO_ERROR = -1


@dataclass(frozen=True)
class Errors:
    """The errors at one threshold.

    Attributes:
        kinds: (D,) int, place in :data:`KINDS`; :data:`NO_ERROR` for a hit and for what does not count.
        targets: (D,) int, the object that an error of class or place is about, -1 for others.
        missed: (G,) bool.
    """

    kinds: np.ndarray
    targets: np.ndarray
    missed: np.ndarray

    def count(self, kind: str) -> int:
        """Return the number of errors of a kind."""
        return int((self.missed if kind == "missed" else self.of(kind)).sum())

    def of(self, kind: str) -> np.ndarray:
        """Return which detections are errors of a kind, (D,) bool."""
        return self.kinds == list(KINDS).index(kind)


def classify(pairs: Pairs, matching: Matching, iou: float) -> Errors:
    """Return the kind of each error, tested in the order place, class, duplicate, background, both.

    Args:
        pairs: of all classes.
        matching: at the threshold ``iou``, with all sizes.
        iou: at least which a detection and an object of its class must have to match.
    """
    false_alarms, found = matching.false_alarms[0], matching.found()
    count = len(false_alarms)
    pairs = pairs.where(matching.counted[pairs.objects])
    own, other = (_find_best(pairs, pairs.same_class == same, count) for same in (True, False))
    own_iou, other_iou = (_iou(pairs, best) for best in (own, other))
    tests = {
        "place": (own_iou > 0) & (own_iou < iou),
        "class": other_iou >= iou,
        # Its object is taken, or it would have matched.
        "duplicate": own_iou >= iou,
        "background": (own_iou == 0) & (other_iou == 0),
        "both": np.ones(count, bool),
    }
    names = list(KINDS)
    kinds = np.select(
        [false_alarms & test for test in tests.values()],
        [names.index(name) for name in tests],
        NO_ERROR,
    )
    targets = np.full(count, -1)
    for name, best in (("place", own), ("class", other)):
        rows = kinds == names.index(name)
        targets[rows] = pairs.objects[best[rows]]
    missed = matching.counted & ~found
    missed[targets[targets >= 0]] = False
    return Errors(kinds, targets, missed)


def _find_best(pairs: Pairs, mask: np.ndarray, count: int) -> np.ndarray:
    """Return of each detection its pair of the highest IoU among those of ``mask``, -1 without, (D,) int."""
    rows = np.flatnonzero(mask)
    return find_last(pairs.detections[rows], rows, count)


def _iou(pairs: Pairs, best: np.ndarray) -> np.ndarray:
    """Return the IoU of each detection's pair, 0 without one, (D,)."""
    return np.append(pairs.ious, 0.0)[best]
