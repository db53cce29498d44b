"""How often intervals hold the truth, and Holm's correction finds none against it, in simulated levels of equally good rows.

A level has some trainings, :data:`ROWS` by default, of some seeds each. Seeds move a row by its spread, one for plain rows; test images move
each gap of two rows alike for all seeds. Each row is compared with the next one.
"""

import math
from dataclasses import replace

from maskrcnn_repro.tables.report.correction import ALPHA, holm
from maskrcnn_repro.tables.report.spread import Pooled, pool
from maskrcnn_repro.tables.report.statistics import half_width, interval
from maskrcnn_repro.tables.report.verdicts import p_value

import numpy as np

ROWS = 12
DRAWS = 100
SPREADS = {
    "all alike": np.ones(ROWS),
    "one 5 times": np.r_[5.0, np.ones(ROWS - 1)],
    "one 10 times": np.r_[10.0, np.ones(ROWS - 1)],
    "1 to 10": np.geomspace(10.0, 1.0, ROWS),
}
"""How far the seeds of each row lie apart, the row with the widest spread first."""
FEW = {rows: np.r_[5.0, np.ones(rows - 1)] for rows in (2, 3, 5)}
"""The second of them with fewer trainings, by their number."""
SHARES = {"seeds": 0.01, "both": 1.0, "images": 100.0}
"""What dominates: the variance by images in that of a plain gap's mean by seeds."""


def _pooled(values, rule):
    """Return what the pool says of the gap of two rows; the names of rows that are not in it."""
    if rule == "own" or values.shape[1] == 1:
        return None, ()
    if rule == "whole pool":
        variance = float(values.var(axis=1, ddof=1).mean())
        return Pooled(2 * variance, float(values.size - len(values))), ()
    spread = pool("AP", {str(row): numbers for row, numbers in enumerate(values)})
    return Pooled(2 * spread.deviation**2, spread.freedom), spread.wider


def _half(gap, shared, pooled, rule, level):
    if rule == "whole pool":
        error = math.sqrt(pooled.variance / len(gap))
        return half_width(error, pooled.freedom, float(shared.std(ddof=1)), level)
    bounds = _interval(gap, shared, pooled, level)
    return (bounds.high - bounds.low) / 2


def _interval(gap, shared, pooled, level):
    by_seed = dict(enumerate(gap.tolist()))
    drawn = {seed: value + shared for seed, value in by_seed.items()}
    return interval(by_seed, drawn, level=level, images=1, pooled=pooled)


def _gaps(random, seeds, deviation, spreads, rule):
    """Yield each gap of a simulated level: by seeds, by draws of the images, its error, and what the pool says of it."""
    rows = len(spreads)
    values = spreads[:, None] * random.normal(size=(rows, seeds))
    pooled, wider = _pooled(values, rule)
    for row in range(rows):
        other = (row + 1) % rows
        shared = deviation * random.normal(size=DRAWS)
        gap = values[row] - values[other]
        if pooled:
            pooled = replace(pooled, has_wider=bool({str(row), str(other)} & set(wider)))
        yield gap, shared, gap.mean() + deviation * random.normal(), pooled


def coverage(seeds, share, spreads, trials, *, level=95.0, rule="used"):
    """Return how often intervals hold a true gap of 0, per cent: of all gaps, and of those of the widest row.

    Args:
        seeds: of each training.
        share: one of :data:`SHARES`.
        spreads: one of :data:`SPREADS`, or of :data:`FEW`.
        trials: how many levels are simulated.
        level: confidence, per cent.
        rule: what seeds do is told by the pool as reports ``used`` it, by the ``whole pool``, or by each gap's ``own`` seeds.
    """
    random = np.random.default_rng([seeds, trials])
    deviation = math.sqrt(share * 2 / seeds)
    held = np.zeros((trials, len(spreads)))
    for trial in range(trials):
        level_gaps = _gaps(random, seeds, deviation, spreads, rule)
        for row, (gap, shared, error, pooled) in enumerate(level_gaps):
            held[trial, row] = abs(error) <= _half(gap, shared, pooled, rule, level)
    return 100 * float(held.mean()), 100 * float(held[:, [0, -1]].mean())


def family_error(seeds, share, spreads, trials, *, rule="used"):
    """Return in how many levels, per cent, a gap remains that is not 0 by Holm's correction, though all are.

    The arguments are those of :func:`coverage`.
    """
    random = np.random.default_rng([seeds, trials])
    deviation = math.sqrt(share * 2 / seeds)
    wrong = 0
    for _ in range(trials):
        chances = [
            p_value(">", 0.0, error, _interval(gap, shared, pooled, 95.0))
            for gap, shared, error, pooled in _gaps(random, seeds, deviation, spreads, rule)
        ]
        wrong += min(holm(chances)) <= ALPHA
    return 100 * wrong / trials
