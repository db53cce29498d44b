"""Strokes as pixels.

h, w = height and width in pixels of the smallest window around a figure.
"""

from __future__ import annotations

from dataclasses import dataclass

from maskrcnn_repro.data.synthetic.draws import Draws
from maskrcnn_repro.data.synthetic.mini_people.figures import EIGHTHS, Figure, Stroke
from maskrcnn_repro.data.synthetic.textures import paint

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Raster:
    """A drawn figure in its window, which may leave the image."""

    left: int
    top: int
    """Of the window, in pixels of the image."""
    part: NDArray[np.uint8]
    """(h, w): number of the part that shows; 0 is none."""
    image: NDArray[np.uint8]
    """(h, w, 3) RGB, where there is a part."""


def render(draws: Draws, figure: Figure) -> Raster:
    """Draw a figure; ``draws`` decides the pattern of its clothes."""
    left, top, right, bottom = _bounds(figure)
    shape = bottom - top, right - left
    part, cloth = np.zeros(shape, np.uint8), np.zeros(shape, bool)
    colour = np.zeros((*shape, 3), np.int64)
    for number, strokes in figure.parts:
        covers = [_cover(stroke, figure.seam, left, top) for stroke in strokes]
        # All seams first: the strokes of a part grow into one.
        for stroke, (window, outer, _) in zip(strokes, covers, strict=True):
            part[window][outer] = number
            colour[window][outer] = [channel * 2 // 5 for channel in stroke.colour]
            cloth[window][outer] = False
        for stroke, (window, _, inner) in zip(strokes, covers, strict=True):
            colour[window][inner] = stroke.colour
            cloth[window][inner] = stroke.is_cloth
    pattern = paint(draws, (128, 128, 128), *shape, swing=45).astype(np.int64) - 128
    colour += np.where(cloth[..., None], pattern, pattern // 4)
    return Raster(left, top, part, np.clip(colour, 0, 255).astype(np.uint8))


def _bounds(figure: Figure) -> tuple[int, int, int, int]:
    """Return left, top, right, bottom in pixels; right and bottom are not touched any more."""
    ends = [
        (*end, stroke.radius + figure.seam)
        for _, strokes in figure.parts
        for stroke in strokes
        for end in (stroke.start, stroke.end)
    ]
    x, y, reach = np.array(ends).T
    low, high = np.stack([x - reach, y - reach]), np.stack([x + reach, y + reach])
    left, top = (low.min(axis=1) // EIGHTHS).tolist()
    right, bottom = (high.max(axis=1) // EIGHTHS + 1).tolist()
    return left, top, right, bottom


def _cover(
    stroke: Stroke, seam: int, left: int, top: int
) -> tuple[tuple[slice, slice], NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which pixels' centres a stroke covers.

    Args:
        stroke: in the image.
        seam: in EIGHTHS of a pixel.
        left: of the canvas in the image, in pixels.
        top: the same.

    Returns:
        Rows and columns of the canvas that the stroke touches; and of these pixels, those that are
        covered with the seam, and without.
    """
    reach = stroke.radius + seam
    columns, x = _line(stroke.start[0], stroke.end[0], reach, left)
    rows, y = _line(stroke.start[1], stroke.end[1], reach, top)
    y = y[:, None]
    dx, dy = stroke.end[0] - stroke.start[0], stroke.end[1] - stroke.start[1]
    # How far along the stroke its nearest point lies, in 64ths.
    along = np.clip((x * dx + y * dy) * 64 // max(dx * dx + dy * dy, 1), 0, 64)
    square = (64 * x - along * dx) ** 2 + (64 * y - along * dy) ** 2
    return (rows, columns), square <= (64 * reach) ** 2, square <= (64 * stroke.radius) ** 2


def _line(start: int, end: int, reach: int, corner: int) -> tuple[slice, NDArray[np.int64]]:
    """Return the pixels of the canvas that lie near on one axis, and how far after ``start`` each is."""
    first = (min(start, end) - reach) // EIGHTHS - corner
    last = (max(start, end) + reach) // EIGHTHS + 1 - corner
    pixels = np.arange(first, last, dtype=np.int64) + corner
    return slice(first, last), pixels * EIGHTHS + EIGHTHS // 2 - start
