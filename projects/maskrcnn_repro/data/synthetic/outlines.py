"""Outlines of generated objects, and their rasterisation, in integer arithmetic."""

from __future__ import annotations

from maskrcnn_repro.data.synthetic.draws import ONE, cosine, sine

import numpy as np
from numpy.typing import NDArray

Point = tuple[int, int]
Ring = list[Point]
"""A closed polygon of (x, y), its last point not repeated."""

UNIT = 1000
"""Shapes are drawn in the square from -UNIT to UNIT."""

FIFTHS = 5
"""Vertices lie on fifths of a pixel, the grid on which pycocotools rounds polygons."""


def polar(radius_x: int, radius_y: int, degrees: int) -> Point:
    """Return the point of an ellipse around the origin at ``degrees`` from the x axis towards the y axis."""
    return radius_x * cosine(degrees) // ONE, radius_y * sine(degrees) // ONE


def arc(radius_x: int, radius_y: int, start: int, stop: int, step: int) -> Ring:
    """Return the points of an ellipse from ``start`` to before ``stop``, all in degrees."""
    return [polar(radius_x, radius_y, d) for d in range(start, stop, step)]


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


def crop(
    shape: tuple[int, ...], corner: Point, height: int, width: int
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return the part of a window that lies inside an image of H x W, as slices of the image and of the window.

    Args:
        shape: height and width of the window in pixels.
        corner: column and row of the image at which it begins; it may extend beyond the image.
        height: of the image in pixels.
        width: of the image in pixels.
    """
    rows, columns = shape
    left, top = (max(place, 0) for place in corner)
    bottom = max(min(corner[1] + rows, height), top)
    right = max(min(corner[0] + columns, width), left)
    inside = slice(top, bottom), slice(left, right)
    cut = slice(top - corner[1], bottom - corner[1]), slice(left - corner[0], right - corner[0])
    return inside, cut


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
