"""Means over objects by their size."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence

from maskrcnn_repro.tables.report.exchange.masks import Compared
from maskrcnn_repro.tables.report.exchange.model import SizeBin

import numpy as np

ENDS = (0.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0)
"""Lower ends of the bins, in cells."""


def by_size(objects: Sequence[Compared]) -> list[SizeBin]:
    """Return the means of all objects, then of those of each size that there are; nothing without objects."""
    bins = [(0.0, None), *itertools.zip_longest(ENDS, ENDS[1:])]
    chosen = [
        (low, high, [each for each in objects if low <= each.cells < (high or np.inf)])
        for low, high in bins
    ]
    return [_average_bin(low, high, some) for low, high, some in chosen if some]


def _average_bin(low: float, high: float | None, objects: Sequence[Compared]) -> SizeBin:
    return SizeBin(
        low,
        high,
        len(objects),
        corners=_average(each.corners for each in objects),
        bins=_average(each.bins for each in objects),
        centroids=_average_shifts(each.centroids for each in objects),
        exchanged=_average(each.exchanged_iou for each in objects),
        trained=_average(each.trained_iou for each in objects),
    )


def _average(rows: Iterable[Mapping[str, float]]) -> dict[str, float]:
    rows = list(rows)
    return {name: round(float(np.mean([row[name] for row in rows])), 4) for name in rows[0]}


def _average_shifts(rows: Iterable[Mapping[str, float]]) -> dict[str, float | None]:
    """Return means without the NaN of empty masks, which have no centroid; None where there is no other."""
    rows = list(rows)
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    there = {name: values[~np.isnan(values)] for name, values in columns.items()}
    return {
        name: round(float(values.mean()), 4) if len(values) else None
        for name, values in there.items()
    }
