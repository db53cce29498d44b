"""Ratios of timings that were taken in turns, with 95 % intervals, and the rounds that such a ratio needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from maskrcnn_repro.benchmark.processes import BenchmarkError

import numpy as np

RESAMPLES = 10_000
MIN_ROUNDS = 5
"""Rounds whose spread is told: the quartiles of two lie half as far apart as they do, whatever disturbed one of them."""


@dataclass(frozen=True)
class Ratio:
    """A ratio of medians and the bounds of its 95 % interval."""

    value: float
    low: float
    high: float


def check_rounds(rounds: int, option: str = "--rounds") -> None:
    """Raise BenchmarkError if quartiles or an interval of so few rounds say nothing.

    Args:
        rounds: of measurement, without those that warm up.
        option: what the command line calls them.
    """
    if rounds < MIN_ROUNDS:
        raise BenchmarkError(
            f"{option} is {rounds}; it must be at least {MIN_ROUNDS}: fewer tell no spread of a ratio."
        )


def ratio_of_medians(ours: Sequence[float], theirs: Sequence[float], seed: int = 0) -> Ratio:
    """Return median(ours) / median(theirs) with a bootstrap interval over the rounds.

    Args:
        ours: seconds of each round.
        theirs: seconds of the same rounds.
        seed: of the resampling.

    Raises:
        ValueError: the two are empty or differ in length.
    """
    if not ours or len(ours) != len(theirs):
        raise ValueError(f"{len(ours)} timings cannot be paired with {len(theirs)}.")
    # The same rounds are drawn for both: a disturbance of the machine affects both times of a round.
    rounds = np.random.default_rng(seed).integers(len(ours), size=(RESAMPLES, len(ours)))
    medians = [np.median(np.asarray(times)[rounds], axis=1) for times in (ours, theirs)]
    low, high = np.percentile(medians[0] / medians[1], [2.5, 97.5])
    return Ratio(float(np.median(ours) / np.median(theirs)), float(low), float(high))


def format_ratio(ratio: Mapping[str, float], digits: int) -> str:
    """Return the fields of a :class:`Ratio` as text: value [low, high]."""
    value, low, high = (f"{ratio[field]:.{digits}f}" for field in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"
