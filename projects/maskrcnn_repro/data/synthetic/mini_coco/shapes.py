"""Outlines of the classes, and their rasterisation, in integer arithmetic.

Shapes fill about half of their boxes, so that AP depends on the outlines: for ``mini_coco_val``, exact boxes
as masks have 4.4 mask AP, the ellipses inside them 12.4.
"""

from __future__ import annotations

from collections.abc import Callable

from maskrcnn_repro.data.synthetic.draws import ONE, Draws, cosine, sine

import numpy as np
from numpy.typing import NDArray

Point = tuple[int, int]
Ring = list[Point]
"""A closed polygon of (x, y), its last point not repeated."""

UNIT = 1000
"""Shapes are drawn in the square from -UNIT to UNIT."""

FIFTHS = 5
"""Vertices lie on fifths of a pixel, the grid on which pycocotools rounds polygons."""


def _polar(radius_x: int, radius_y: int, degrees: int) -> Point:
    return radius_x * cosine(degrees) // ONE, radius_y * sine(degrees) // ONE


def _arc(radius_x: int, radius_y: int, start: int, stop: int, step: int) -> Ring:
    return [_polar(radius_x, radius_y, d) for d in range(start, stop, step)]


# Parts are thick enough for a quantised RoI of stride 16, which misses thinner ones.
def _bar(draws: Draws) -> list[Ring]:
    w = draws.between(320, 460)
    return [[(-UNIT, -w), (UNIT, -w), (UNIT, w), (-UNIT, w)]]


def _cross(draws: Draws) -> list[Ring]:
    w = draws.between(340, 460)
    quarter = [(w, UNIT), (w, w), (UNIT, w)]
    ring = quarter + [(x, -y) for x, y in reversed(quarter)]
    return [ring + [(-x, -y) for x, y in ring]]


def _ring(draws: Draws) -> list[Ring]:
    hole = draws.between(350, 500)
    return [_arc(UNIT, UNIT, 0, 360, 15), _arc(hole, hole, 0, 360, 15)]


def _star(draws: Draws) -> list[Ring]:
    inner = draws.between(480, 580)
    return [
        [_polar(r, r, d + turn) for d in range(0, 360, 72) for r, turn in ((UNIT, 0), (inner, 36))]
    ]


def _crescent(draws: Draws) -> list[Ring]:
    bulge = draws.between(200, 380)
    outer = _arc(UNIT, UNIT, -90, 91, 15)
    inner = _arc(bulge, UNIT, -75, 90, 15)
    # Half a disc is half as wide as high; stretch it to the whole square.
    return [[(2 * x - UNIT, y) for x, y in outer + inner[::-1]]]


def _ell(draws: Draws) -> list[Ring]:
    w = draws.between(700, 900)
    return [
        [
            (-UNIT, -UNIT),
            (w - UNIT, -UNIT),
            (w - UNIT, UNIT - w),
            (UNIT, UNIT - w),
            (UNIT, UNIT),
            (-UNIT, UNIT),
        ]
    ]


def _arrow(draws: Draws) -> list[Ring]:
    w, neck = draws.between(260, 380), draws.between(-100, 200)
    half = [(-UNIT, -w), (neck, -w), (neck, -800)]
    return [[*half, (UNIT, 0), *((x, -y) for x, y in reversed(half))]]


def _horseshoe(draws: Draws) -> list[Ring]:
    hole = draws.between(330, 450)
    gap = draws.between(3, 4) * 15
    outer = _arc(UNIT, UNIT, gap, 361 - gap, 15)
    inner = _arc(hole, hole, gap, 361 - gap, 15)
    return [outer + inner[::-1]]


SHAPES: dict[str, Callable[[Draws], list[Ring]]] = {
    "arrow": _arrow,
    "bar": _bar,
    "crescent": _crescent,
    "cross": _cross,
    "ell": _ell,
    "horseshoe": _horseshoe,
    "ring": _ring,
    "star": _star,
}
"""Class name -> function that draws an outline: a ring, or an outer and an inner ring around a hole."""


def place(rings: list[Ring], size: Point, degrees: int, centre: Point) -> list[Ring]:
    """Scale, rotate and translate rings.

    Args:
        rings: in the unit square.
        size: width and height before the rotation, in pixels.
        degrees: rotation from the x axis towards the y axis.
        centre: in fifths of a pixel.

    Returns:
        Rings in fifths of a pixel.
    """
    cos, sin = cosine(degrees), sine(degrees)
    scale = 2 * UNIT * ONE

    # `+ scale // 2` rounds to the nearest fifth.
    def move(point: Point) -> Point:
        x, y = point[0] * size[0] * FIFTHS, point[1] * size[1] * FIFTHS
        return (
            centre[0] + (x * cos - y * sin + scale // 2) // scale,
            centre[1] + (x * sin + y * cos + scale // 2) // scale,
        )

    return [[move(point) for point in ring] for ring in rings]


def area(rings: list[Ring]) -> int:
    """Return the enclosed area in square pixels, rounded down; the second ring is a hole."""
    twice = [
        abs(sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(r, r[1:] + r[:1], strict=True)))
        for r in rings
    ]
    return (twice[0] - sum(twice[1:])) // (2 * FIFTHS * FIFTHS)


def fill(rings: list[Ring], height: int, width: int) -> NDArray[np.bool_]:
    """Rasterise rings by pycocotools' rule: return the pixels inside an odd number of them, (height, width).

    The rule: walk along the outline on the grid of fifths; where it crosses the centre line of a column, it
    separates two pixels of that column.

    Args:
        rings: in fifths of a pixel; may leave the image.
        height: of the image.
        width: of the image.
    """
    # In integers: pycocotools' floating-point ties depend on the processor, and the data must not.
    # One more than pixels: a run may end below the last pixel of the last column.
    switches = np.zeros(height * width + 1, dtype=np.int64)
    for ring in rings:
        x, y = _walk(np.array(ring, dtype=np.int64))
        step = np.flatnonzero(x[1:] != x[:-1])
        left, top = np.minimum(x[step], x[step + 1]), np.minimum(y[step], y[step + 1])
        column, off = np.divmod(left - FIFTHS // 2, FIFTHS)
        on_centre = (off == 0) & (column >= 0) & (column < width)
        row = np.clip((top[on_centre] + FIFTHS // 2) // FIFTHS, 0, height)
        switches += np.bincount(column[on_centre] * height + row, minlength=len(switches))
    inside = np.cumsum(switches[:-1]) % 2 == 1
    # Pixels are counted down the columns, as in run-length encodings.
    return np.ascontiguousarray(inside.reshape(width, height).T)


def _walk(ring: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return x and y of the grid points along a closed outline, one unit apart on each edge's longer axis."""
    start, end = ring, np.roll(ring, -1, axis=0)
    across, down = (end - start).T
    length = np.maximum(np.abs(across), np.abs(down))
    edge = np.repeat(np.arange(len(ring)), length + 1)
    first = np.cumsum(length + 1) - (length + 1)
    t = np.arange(len(edge)) - first[edge]
    n = np.maximum(length[edge], 1)
    # Ties are rounded up, seen from the end with the lower coordinate on the longer axis.
    flipped = np.where(np.abs(across) >= np.abs(down), across < 0, down < 0)[edge]
    origin = np.where(flipped[:, None], end[edge], start[edge])
    delta = np.where(flipped[:, None], (start - end)[edge], (end - start)[edge])
    t = np.where(flipped, n - t, t) * (length[edge] > 0)
    points = origin + (2 * delta * t[:, None] + n[:, None]) // (2 * n[:, None])
    return points[:, 0], points[:, 1]
