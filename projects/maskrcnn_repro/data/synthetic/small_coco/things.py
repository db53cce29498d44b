"""Objects as pixels in a window of their own, which may extend beyond the image.

h, w = height and width of the window, H, W = those of the image in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from maskrcnn_repro.data.synthetic.draws import Draws
from maskrcnn_repro.data.synthetic.outlines import FIFTHS, Point, Ring, crop, fill, place
from maskrcnn_repro.data.synthetic.small_coco.shapes import draw_body
from maskrcnn_repro.data.synthetic.small_coco.surfaces import SURFACES, paint_surface
from maskrcnn_repro.data.synthetic.textures import Colour

import numpy as np
from numpy.typing import NDArray

LARGEST_TURN = 30
"""Limit of an object's rotation to either side, in degrees: as in photographs, most objects are upright."""

NARROWEST = 80
"""Least width of an object in percent of that of its kind."""

COLOUR_SPREAD = 64
"""Largest difference of an object's colour from the typical one, in each channel."""


@dataclass(frozen=True)
class Kind:
    """What tells the objects of a class."""

    surface: str
    shape: str
    hue: Colour
    """Typical colour."""

    @property
    def name(self) -> str:
        """Such as ``"banded fish"``."""
        return f"{self.surface} {self.shape}"


@dataclass(frozen=True)
class Outline:
    """The pixels that an object would cover if nothing were in front of it.

    Attributes:
        mask: (h, w) bool.
        left: of the window in pixels of the image.
        top: likewise.
        length: of the object in pixels, before it was rotated.
        turn: of the object in degrees.
    """

    mask: NDArray[np.bool_]
    left: int
    top: int
    length: int
    turn: int

    def crop(self, height: int, width: int) -> tuple[Any, Any]:
        """Return the window's part inside an image of H x W, as slices of the image and of the mask."""
        return crop(self.mask.shape, (self.left, self.top), height, width)


def draw_outline(draws: Draws, shape: str, length: int, centre: Point) -> Outline:
    """Return a random object's outline; its window has no empty row or column at its borders.

    Args:
        draws: source of proportions, mirroring and rotation.
        shape: of its class, or ``"stone"``.
        length: in pixels.
        centre: column and row of the middle of its body in pixels.
    """
    body = draw_body(draws, shape, length)
    turn = draws.between(-LARGEST_TURN, LARGEST_TURN)
    width = length * draws.between(NARROWEST, 100) // 100 * draws.choice((1, -1))
    middle = centre[0] * FIFTHS, centre[1] * FIFTHS
    parts = place(body.parts, (width, length), turn, middle)
    holes = place(body.holes, (width, length), turn, middle)
    mask, left, top = _cover(parts, holes)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    tight = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return Outline(mask[tight], left + int(columns[0]), top + int(rows[0]), length, turn)


def _cover(parts: list[Ring], holes: list[Ring]) -> tuple[NDArray[np.bool_], int, int]:
    """Return the mask of the parts without the holes, and left and top of its window."""
    left, top, right, bottom = _window([point for ring in parts for point in ring])
    mask = np.zeros((bottom - top, right - left), dtype=bool)
    for rings, covered in ((parts, True), (holes, False)):
        for ring in rings:
            x0, y0, x1, y1 = _window(ring)
            # A hole may reach beyond the parts.
            x0, y0, x1, y1 = max(x0, left), max(y0, top), min(x1, right), min(y1, bottom)
            shifted = [(x - x0 * FIFTHS, y - y0 * FIFTHS) for x, y in ring]
            mask[y0 - top : y1 - top, x0 - left : x1 - left][fill([shifted], y1 - y0, x1 - x0)] = (
                covered
            )
    return mask, left, top


def _window(points: Ring) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom of points in whole pixels, right and bottom exclusive."""
    x, y = zip(*points, strict=True)
    return min(x) // FIFTHS, min(y) // FIFTHS, max(x) // FIFTHS + 1, max(y) // FIFTHS + 1


def paint_thing(
    draws: Draws, image: NDArray[np.int16], outline: Outline, surface: str, hue: Colour
) -> None:
    """Paint an object onto an image, (H, W, 3), with a colour near ``hue``."""
    red, green, blue = (c + draws.between(-COLOUR_SPREAD, COLOUR_SPREAD) for c in hue)
    inside, cut = outline.crop(*image.shape[:2])
    size = outline.mask.shape
    colours = paint_surface(draws, surface, (red, green, blue), size, outline.length, outline.turn)
    mask = outline.mask[cut]
    image[inside][mask] = np.clip(colours[cut][mask], 0, 255)


def paint_stone(draws: Draws, image: NDArray[np.int16], length: int) -> None:
    """Paint a lump of no class somewhere, textured as an object."""
    height, width = image.shape[:2]
    centre = draws.below(width), draws.below(height)
    outline = draw_outline(draws, "stone", length, centre)
    hue = draws.between(60, 195), draws.between(60, 195), draws.between(60, 195)
    paint_thing(draws, image, outline, draws.choice(tuple(SURFACES)), hue)
