"""How sure a difference of two models is: over training seeds and over images, at once.

Two things would differ if an experiment were done again: its training seed, and the images that it is tested
on. Both are drawn again here, at once, and the same ones for all models that are compared, so that what they
share cancels in their difference.

Shape legend: S seeds, B draws, I images.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import NormalDist

from maskrcnn_repro.tables.report.model import Interval

import numpy as np
from numpy.typing import NDArray

DRAWS = 1000
"""B: enough for a standard error to within some 2 %."""
SEED = 0
"""Of all draws: a report that is made again says the same."""
# Above so many degrees of freedom Student's t is the normal distribution to four digits.
_MANY = 10_000.0


METHOD = "seeds and images drawn together, Student's t"
"""Of :func:`interval`, kept beside each of its results; another way to compute them has another name."""


def interval(
    values: Mapping[int, float],
    resampled: Mapping[int, NDArray[np.floating]],
    *,
    level: float,
    images: int,
) -> Interval:
    """Return the interval of the mean of ``values`` over seeds.

    Each draw takes one drawing of the images and, of the S seeds, S - 1 with replacement. With S of them the
    variance of the drawn means would be too small by (S - 1) / S, which is a third at three seeds. The
    interval is the mean, plus and minus the standard deviation of the drawn means times a quantile of Student's t:
    a spread known from a few seeds alone is itself uncertain, and the ends of drawn means cannot reach
    further than the outermost seed. The degrees of freedom are Satterthwaite's, where the part of the variance
    that comes from seeds has S - 1 of them and the part from images, of which there are many, no limit. With
    one seed the images are drawn alone.

    What a seed does to single images counts more than once here, as in every drawing of rows and columns at
    once, so the interval is a little too wide rather than too narrow.

    Args:
        values: seed to the difference on all images, AP points.
        resampled: seed to the difference on each draw of the images, (B,); the same draws for all seeds.
        level: confidence, per cent.
        images: I, for the record.
    """
    seeds = tuple(sorted(values))
    points = np.array([values[seed] for seed in seeds])
    drawn = np.array([resampled[seed] for seed in seeds])
    means = np.take_along_axis(drawn, draw_seeds(len(seeds), drawn.shape[1]), axis=0).mean(axis=0)
    # A draw without any object has no AP.
    error = float(np.nanstd(means, ddof=1))
    half = error * student_quantile(level, _freedom(points, error))
    middle = float(points.mean())
    return Interval(middle - half, middle + half, level, seeds, images, METHOD)


def draw_seeds(seeds: int, draws: int) -> NDArray[np.integer]:
    """Return which seeds each draw takes, (max(1, S - 1), B), as numbers from 0."""
    rows = max(1, seeds - 1)
    # Not the stream of the images' draws, with which it would be correlated.
    return np.random.default_rng([SEED, seeds]).integers(seeds, size=(rows, draws))


def _freedom(points: NDArray[np.floating], error: float) -> float:
    """Return Satterthwaite's degrees of freedom of the squared standard error ``error ** 2``."""
    count = len(points)
    of_seeds = float(points.var(ddof=1)) / count if count > 1 else 0.0
    if of_seeds == 0.0:
        return math.inf
    return max(count - 1.0, (error**2 / of_seeds) ** 2 * (count - 1))


def student_quantile(level: float, freedom: float) -> float:
    """Return the t between whose negative and itself Student's distribution holds ``level`` per cent.

    Args:
        level: between 0 and 100.
        freedom: degrees of freedom, at least 1, not necessarily whole.
    """
    if freedom > _MANY:
        return NormalDist().inv_cdf(0.5 + level / 200)
    # With t = sqrt(freedom) tan(angle) its density becomes cos(angle) ** (freedom - 1), without a tail.
    angles = np.linspace(0.0, math.pi / 2, 100_001)
    middles = (angles[1:] + angles[:-1]) / 2
    mass = np.concatenate([[0.0], np.cumsum(np.cos(middles) ** (freedom - 1))])
    angle = float(np.interp(level / 100, mass / mass[-1], angles))
    return math.sqrt(freedom) * math.tan(angle)
