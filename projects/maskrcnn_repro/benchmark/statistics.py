"""Ratios of timings that were taken in turns, with their uncertainty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 10_000


@dataclass(frozen=True)
class Ratio:
    """A ratio of medians with the bounds of its 95 % interval."""

    value: float
    low: float
    high: float


def ratio_of_medians(ours: Sequence[float], theirs: Sequence[float], seed: int = 0) -> Ratio:
    """Return median(ours) / median(theirs) with a bootstrap interval.

    Whole rounds are drawn, so that a disturbance that met both of a round stays with both.

    Args:
        ours: seconds of each round.
        theirs: seconds of the same rounds.
        seed: of the resampling.

    Raises:
        ValueError: the two are empty or differ in length.
    """
    if not ours or len(ours) != len(theirs):
        raise ValueError(f"{len(ours)} timings cannot be paired with {len(theirs)}.")
    rounds = np.random.default_rng(seed).integers(len(ours), size=(RESAMPLES, len(ours)))
    medians = [np.median(np.asarray(times)[rounds], axis=1) for times in (ours, theirs)]
    low, high = np.percentile(medians[0] / medians[1], [2.5, 97.5])
    return Ratio(float(np.median(ours) / np.median(theirs)), float(low), float(high))
