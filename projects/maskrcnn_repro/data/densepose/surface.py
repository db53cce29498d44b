"""A surface on which people are annotated: its charts, how far apart points on it are, and its mirror image.

Letters: C charts, V vertices, P points. Charts count from 1; 0 is no chart. Distances are in metres.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]


@dataclass(frozen=True)
class Mirror:
    """What a mirror makes of annotations; the left hand becomes a right one."""

    charts: Ints
    """(C + 1,): chart -> the one on the other side of the body."""
    parts: NDArray[np.uint8]
    """(256,): the same of parts of the masks."""
    coordinates: Callable[[Ints, Floats, Floats], tuple[Floats, Floats]]
    """Chart, u and v, (P,) each, -> u and v in the chart of the other side."""

    def points(self, chart: Ints, u: Floats, v: Floats) -> tuple[Ints, Floats, Floats]:
        """Return chart, u and v of the mirrored points, (P,) each."""
        return (self.charts[chart], *self.coordinates(chart, u, v))


@dataclass(frozen=True)
class Surface:
    """A surface of C charts that is sampled at V vertices."""

    names: tuple[str, ...]
    """Of the charts; the first is chart 1."""
    chart: Ints
    """(V,)."""
    u: Floats
    """(V,), in [0, 1]."""
    v: Floats
    """(V,)."""
    distance: Callable[[Ints, Ints], Floats]
    """Geodesic distances between vertices, of equally long arrays of their indices."""
    scale: Floats
    """(C + 1,): the distance of a chart at which a point scores exp(-1/2)."""

    def closest(self, chart: Ints, u: Floats, v: Floats) -> Ints:
        """Return the vertex closest to each point within its chart, (P,) int64; -1 where the chart is none.

        Args:
            chart: (P,).
            u: (P,).
            v: (P,).
        """
        vertices = np.full(len(chart), -1, np.int64)
        for number in np.unique(chart):
            own, points = np.flatnonzero(self.chart == number), chart == number
            if len(own):
                du = u[points][:, None] - self.u[own]
                dv = v[points][:, None] - self.v[own]
                vertices[points] = own[np.sqrt(du * du + dv * dv).argmin(axis=1)]
        return vertices

    def similarities(self, truth: Ints, predicted: Ints, charts: Ints) -> Floats:
        """Return how near predicted points are to true ones, in [0, 1], (P,).

        Args:
            truth: (P,), vertices.
            predicted: (P,), vertices; -1 scores 0.
            charts: (P,), those of the true points.
        """
        distances = np.full(len(truth), np.inf)
        hit = predicted >= 0
        distances[hit] = self.distance(truth[hit], predicted[hit])
        return np.exp(-(distances**2) / (2 * self.scale[charts] ** 2))
