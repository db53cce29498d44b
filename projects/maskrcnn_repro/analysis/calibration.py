"""Whether scores say how often a detection is right."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BINS = 10


@dataclass(frozen=True)
class Calibration:
    """Detections in bins of equal width of the score.

    Attributes:
        counts: (B,) int, detections in each bin.
        scores: (B,) mean score, NaN in an empty bin.
        hits: (B,) share of hits, NaN in an empty bin.
    """

    counts: np.ndarray
    scores: np.ndarray
    hits: np.ndarray

    @property
    def error(self) -> float:
        """Expected calibration error: the mean distance of score and share of hits; NaN without detections."""
        filled = self.counts > 0
        if not filled.any():
            return float("nan")
        gaps = np.abs(self.scores - self.hits)[filled]
        return float(np.average(gaps, weights=self.counts[filled]))


def calibration(scores: np.ndarray, hits: np.ndarray, counted: np.ndarray) -> Calibration:
    """Return how scores and hits go together.

    Args:
        scores: (D,) in [0, 1].
        hits: (D,) bool.
        counted: (D,) bool, whether a detection is a hit or a false alarm.
    """
    scores, hits = scores[counted], hits[counted]
    bins = np.clip((scores * BINS).astype(np.int64), 0, BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    divisor = np.where(counts > 0, counts, np.nan)
    return Calibration(
        counts,
        np.bincount(bins, weights=scores, minlength=BINS) / divisor,
        np.bincount(bins, weights=hits, minlength=BINS) / divisor,
    )
