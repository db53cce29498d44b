"""Quantiles and tails of Student's t and Fisher's F, for a report that needs a few of them."""

from __future__ import annotations

import functools
import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

# Above so many degrees of freedom Student's t is the normal distribution to four digits.
_MANY = 10_000.0


def student_quantile(level: float, freedom: float) -> float:
    """Return the t between whose negative and itself Student's distribution holds ``level`` per cent.

    Args:
        level: between 0 and 100.
        freedom: degrees of freedom, at least 1, not necessarily whole.
    """
    if freedom > _MANY:
        return NormalDist().inv_cdf(0.5 + level / 200)
    return math.sqrt(f_quantile(level, 1.0, freedom))


def f_quantile(level: float, first: float, second: float) -> float:
    """Return the ratio of variances below which F holds ``level`` per cent.

    Args:
        level: between 0 and 100.
        first: degrees of freedom of the variance above.
        second: those of the variance below.
    """
    mass, angles = _mass(first, second)
    return second / first * math.tan(float(np.interp(level / 100, mass, angles))) ** 2


def f_tail(ratio: float, first: float, second: float) -> float:
    """Return how likely a ratio of variances is at least ``ratio``; arguments as of :func:`f_quantile`."""
    mass, angles = _mass(first, second)
    angle = math.atan(math.sqrt(ratio * first / second))
    return 1.0 - float(np.interp(angle, angles, mass))


@functools.lru_cache(maxsize=64)
def _mass(first: float, second: float) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Return how much of F lies below each of many angles, and the angles."""
    # With F = second / first * tan(angle) ** 2 its density becomes one of sine and cosine, without a tail.
    angles = np.linspace(0.0, math.pi / 2, 20_001)
    middles = (angles[1:] + angles[:-1]) / 2
    density = np.sin(middles) ** (first - 1) * np.cos(middles) ** (second - 1)
    mass = np.concatenate([[0.0], np.cumsum(density)])
    return mass / mass[-1], angles
