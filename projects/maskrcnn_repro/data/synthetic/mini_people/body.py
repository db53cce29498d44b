"""The surface of the generated people: cylinders that meet in joints, with distances over it and its mirror image."""

from __future__ import annotations

import functools

from maskrcnn_repro.data.densepose.surface import Floats, Ints, Mirror, Surface
from maskrcnn_repro.data.synthetic.mini_people.figures import CHARTS

import numpy as np

METRES = 1.7 / 1000
"""Of a unit of the body: a standing person is 1000 units high."""
ALONG, AROUND = 9, 24
"""Vertices of a chart in each direction."""
_NEVER = 1e6

# Chart without its side -> names of both ends, length and radius in units.
_PIECES = {
    "head": ("top", "neck", 222, 92),
    "torso": ("neck", "hips", 300, 110),
    "upper_arm": ("shoulder", "elbow", 165, 38),
    "forearm": ("elbow", "wrist", 155, 31),
    "thigh": ("hip", "knee", 235, 50),
    "shin": ("knee", "ankle", 225, 38),
    "foot": ("ankle", "toe", 75, 30),
}
_LINKS = {"shoulder": ("neck", 118), "hip": ("hips", 75)}
"""What joins a limb to the trunk -> the end of the trunk there, and how far it is."""


def _ends(chart: str) -> tuple[str, str]:
    """Return the names of both ends of a chart, u = 0 first."""
    side, _, piece = chart.partition("_")
    if piece in _PIECES:
        start, end, *_ = _PIECES[piece]
        return f"{side}_{start}", f"{side}_{end}"
    return _PIECES[chart][:2]


def _size(chart: str) -> tuple[float, float]:
    """Return length and radius of a chart in metres."""
    *_, length, radius = _PIECES.get(chart) or _PIECES[chart.partition("_")[2]]
    return length * METRES, radius * METRES


def _joint_distances() -> dict[tuple[str, str], float]:
    """Return the distances between all joints over the body, by the Floyd-Warshall recursion."""
    edges = {_ends(chart): _size(chart)[0] for chart in CHARTS}
    for side in ("left", "right"):
        for joint, (trunk, units) in _LINKS.items():
            edges[f"{side}_{joint}", trunk] = units * METRES
    names = sorted({name for pair in edges for name in pair})
    far = {(a, b): 0.0 if a == b else _NEVER for a in names for b in names}
    for (a, b), length in edges.items():
        far[a, b] = far[b, a] = length
    for via in names:
        for a in names:
            for b in names:
                far[a, b] = min(far[a, b], far[a, via] + far[via, b])
    return far


def _matrix(chart: Ints, u: Floats, v: Floats) -> Floats:
    """Return distances (V, V) between all vertices in metres.

    Within a chart they are those on a cylinder; from one to another the way goes along both, through the joints between.
    """
    joints = _joint_distances()
    distances = np.empty((len(chart), len(chart)), np.float32)
    for a, first in enumerate(CHARTS, start=1):
        rows = np.flatnonzero(chart == a)
        for b, second in enumerate(CHARTS, start=1):
            columns = np.flatnonzero(chart == b)
            (long_a, radius), (long_b, _) = _size(first), _size(second)
            if a == b:
                turn = np.abs(v[rows][:, None] - v[columns])
                around = np.minimum(turn, 1 - turn) * 2 * np.pi * radius
                block = np.hypot((u[rows][:, None] - u[columns]) * long_a, around)
            else:
                ways = [
                    (np.abs(u[rows] - s) * long_a)[:, None]
                    + joints[x, y]
                    + np.abs(u[columns] - t) * long_b
                    for s, x in enumerate(_ends(first))
                    for t, y in enumerate(_ends(second))
                ]
                block = np.min(ways, axis=0)
            distances[np.ix_(rows, columns)] = block
    return distances


@functools.cache
def body_surface() -> Surface:
    """Return the surface; a chart's scale is the mean distance within it, as that of the SMPL model's parts."""
    along, around = np.linspace(0, 1, ALONG), (np.arange(AROUND) + 0.5) / AROUND
    chart = np.repeat(np.arange(1, len(CHARTS) + 1), ALONG * AROUND)
    u = np.tile(np.repeat(along, AROUND), len(CHARTS))
    v = np.tile(around, ALONG * len(CHARTS))
    distances = _matrix(chart, u, v)
    within = [
        distances[np.ix_(own, own)].mean()
        for own in (chart == n for n in range(1, len(CHARTS) + 1))
    ]
    return Surface(CHARTS, chart, u, v, lambda a, b: distances[a, b], np.array([0.0, *within]))


def body_mirror() -> Mirror:
    """Return what a mirror does: sides are swapped, u stays, v goes round the other way."""
    swap = {"left": "right", "right": "left"}
    names = ["_".join(swap.get(word, word) for word in chart.split("_")) for chart in CHARTS]
    charts = np.array([0, *(CHARTS.index(name) + 1 for name in names)])
    parts = np.arange(256, dtype=np.uint8)
    parts[: len(charts)] = charts
    return Mirror(charts, parts, lambda chart, u, v: (u, 1 - v))
