"""Rasterisation of figures.

h, w = height and width of the figure's bounding window in pixels.
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
    """The pixels of a figure in its bounding window, which may extend beyond the image."""

    left: int
    top: int
    """Left and top of the window, in pixels of the image."""
    part: NDArray[np.uint8]
    """(h, w): number of the visible part; 0 is none."""
    image: NDArray[np.uint8]
    """(h, w, 3) RGB, valid where there is a part."""


def render(draws: Draws, figure: Figure) -> Raster:
    """Return the pixels of a figure; ``draws`` is the source of the texture of its clothes."""
    left, top, right, bottom = window_of(figure)
    shape = bottom - top, right - left
    part, cloth = np.zeros(shape, np.uint8), np.zeros(shape, bool)
    colour = np.zeros((*shape, 3), np.int64)
    for number, strokes in figure.parts:
        covers = [cover(stroke, figure.seam, left, top) for stroke in strokes]
        # All seams first, so that no seam separates the strokes of a part.
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


def window_of(figure: Figure) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom of the figure in pixels, right and bottom exclusive."""
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


def cover(
    stroke: Stroke, seam: int, left: int, top: int
) -> tuple[tuple[slice, slice], NDArray[np.bool_], NDArray[np.bool_]]:
    """Return the pixels whose centres a stroke covers.

    Args:
        stroke: in the image.
        seam: in EIGHTHS of a pixel.
        left: of the canvas, in pixels of the image.
        top: of the canvas, in pixels of the image.

    Returns:
        Rows and columns of the canvas around the stroke, and two masks of this window: the pixels that the
        stroke covers with its seam, and without it.
    """
    reach = stroke.radius + seam
    columns, x = _line(stroke.start[0], stroke.end[0], reach, left)
    rows, y = _line(stroke.start[1], stroke.end[1], reach, top)
    y = y[:, None]
    dx, dy = stroke.end[0] - stroke.start[0], stroke.end[1] - stroke.start[1]
    # Position of the nearest point of the stroke, from 0 at its start to 64 at its end.
    along = np.clip((x * dx + y * dy) * 64 // max(dx * dx + dy * dy, 1), 0, 64)
    square = (64 * x - along * dx) ** 2 + (64 * y - along * dy) ** 2
    return (rows, columns), square <= (64 * reach) ** 2, square <= (64 * stroke.radius) ** 2


def _line(start: int, end: int, reach: int, corner: int) -> tuple[slice, NDArray[np.int64]]:
    """Return the range of pixels around a stroke on one axis, and the distance of each from ``start``."""
    first = (min(start, end) - reach) // EIGHTHS - corner
    last = (max(start, end) + reach) // EIGHTHS + 1 - corner
    pixels = np.arange(first, last, dtype=np.int64) + corner
    return slice(first, last), pixels * EIGHTHS + EIGHTHS // 2 - start
