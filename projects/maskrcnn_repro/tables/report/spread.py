"""How much training seeds differ: one variance, pooled over all trainings of a level."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from maskrcnn_repro.tables.report.distributions import f_tail
from maskrcnn_repro.tables.report.model import Report, Spread

import numpy as np

OUTLYING = 0.05
"""Chance that the pool of trainings that all vary alike leaves one of them out."""


@dataclass(frozen=True)
class Pooled:
    """The variance of a difference of rows over seeds, by the pool.

    Attributes:
        variance: squared AP points.
        freedom: its degrees of freedom.
        has_wider: whether a row's training varies more than the pool, so that it is not in it.
    """

    variance: float
    freedom: float
    has_wider: bool = False


def newest_spreads(reports: Iterable[Report]) -> list[Spread]:
    """Return the spreads of some reports of a level, one of each quantity: of the report with the newest record."""
    by_age = sorted(reports, key=lambda r: max((run.written for run in r.origin), default=""))
    return list({spread.quantity: spread for r in by_age for spread in r.spreads}.values())


def pool(quantity: str, trainings: Mapping[str, Iterable[float]]) -> Spread | None:
    """Return the pooled spread of a quantity between seeds; None if no training has two of them.

    The squared deviations of each training's seeds from their mean, added up over the trainings, over the sum of
    their degrees of freedom, S - 1 each. A training whose variance is refuted as that of all others is
    left out: by F at :data:`OUTLYING` over the number of trainings, as Cochran's test for an outlying variance
    has it, one after the other, as long as two remain.

    The deviations are those of rows, not of gaps: rows of the same seed share proposals and the order of data, which
    as a rule makes a gap vary less than two rows apart would. In simulations in which half of a
    row's variance is its seed's, an interval of 95 % holds the truth in 98 % of cases. Free of that is only what
    each gap's own seeds say, and gaps that share a row would count its deviations again and again.

    Args:
        quantity: a metric, or ``A - B``.
        trainings: id of an experiment to the values of its seeds, AP points.
    """
    parts = {name: np.array(list(values)) for name, values in trainings.items()}
    parts = {name: values for name, values in parts.items() if len(values) > 1}
    squares = {name: float(values.var() * len(values)) for name, values in parts.items()}
    freedom = {name: len(values) - 1 for name, values in parts.items()}
    wider: list[str] = []
    while len(squares) > 2:
        tails = {name: _tail(name, squares, freedom) for name in squares}
        name = min(tails, key=lambda each: (tails[each], each))
        if tails[name] > OUTLYING / len(squares):
            break
        wider.append(name)
        del squares[name]
    if not squares:
        return None
    total = sum(freedom[name] for name in squares)
    variance = sum(squares.values()) / total
    return Spread(quantity, variance**0.5, total, len(squares), tuple(sorted(wider)))


def _tail(name: str, squares: Mapping[str, float], freedom: Mapping[str, int]) -> float:
    """Return how likely a training varies so much more than the others if all vary alike."""
    others = [other for other in squares if other != name]
    rest = sum(freedom[other] for other in others)
    variance = sum(squares[other] for other in others) / rest
    own = squares[name] / freedom[name]
    if variance == 0.0:
        return float(own == 0.0)
    return f_tail(own / variance, freedom[name], rest)
