"""Random colours and textures, in integer arithmetic; a texture does not depend on the object's class.

H, W = height and width in pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from maskrcnn_repro.data.synthetic.draws import ONE, Draws, cosine, sine

import numpy as np
from numpy.typing import NDArray

Pattern = NDArray[np.integer[Any]]
"""(H, W), in [0, 255]."""
Colour = tuple[int, int, int]
"""Red, green, blue; painting clips them to [0, 255]."""


def muted_colour(draws: Draws) -> Colour:
    """Return a random background colour: nearly grey, neither bright nor dark."""
    grey = draws.between(70, 185)
    red, green, blue = (grey + draws.between(-24, 24) for _ in range(3))
    return red, green, blue


def colour_unlike(draws: Draws, ground: Colour, others: list[Colour]) -> Colour:
    """Return, of 16 random colours, the one that differs most from the background and from other colours."""

    # From the background in brightness, which everybody sees, from the others in any channel.
    def distinctness(colour: Colour) -> int:
        gaps = [sum(abs(a - b) for a, b in zip(colour, other, strict=True)) for other in others]
        return min([2 * abs(_brightness(colour) - _brightness(ground)), *gaps])

    candidates = [(draws.below(256), draws.below(256), draws.below(256)) for _ in range(16)]
    return max(candidates, key=distinctness)


def paint(
    draws: Draws, base: Colour, height: int, width: int, swing: int, pattern: str = ""
) -> NDArray[np.uint8]:
    """Return a textured area, (H, W, 3) uint8, RGB.

    Args:
        draws: source of the pattern and of the second colour.
        base: the first colour.
        height: in pixels.
        width: in pixels.
        swing: largest difference of the second colour from the first, in each channel.
        pattern: one of :data:`PATTERNS`; empty: a random one.
    """
    weights = PATTERNS[pattern or draws.choice(tuple(PATTERNS))](draws, height, width)
    second = np.array([draws.between(-swing, swing) for _ in base], dtype=np.int64)
    grain = draws.octets(height, width) // 32 - 4  # from -4 to 3, equal in all channels
    colours = np.array(base) + weights[..., None] * second // 255 + grain[..., None]
    return np.clip(colours, 0, 255).astype(np.uint8)


def _brightness(colour: Colour) -> int:
    # The weights of Rec. 601 in tenths: all is in integers here.
    red, green, blue = colour
    return (3 * red + 6 * green + blue) // 10


def turned_grid(degrees: int, height: int, width: int) -> tuple[Pattern, Pattern]:
    """Return the coordinates of each pixel on two axes turned by ``degrees``, in quarters of a pixel."""
    cos, sin = cosine(degrees), sine(degrees)
    x = np.arange(width, dtype=np.int32)
    y = np.arange(height, dtype=np.int32)[:, None]
    return (x * cos + y * sin) * 4 // ONE, (y * cos - x * sin) * 4 // ONE


def _stripes(draws: Draws, height: int, width: int) -> Pattern:
    across, _ = turned_grid(draws.below(180), height, width)
    return across // draws.between(8, 28) % 2 * 255


def _checks(draws: Draws, height: int, width: int) -> Pattern:
    across, along = turned_grid(draws.below(180), height, width)
    side = draws.between(12, 32)
    return (across // side + along // side) % 2 * 255


def _dots(draws: Draws, height: int, width: int) -> Pattern:
    across, along = turned_grid(draws.below(180), height, width)
    pitch = draws.between(16, 36)
    from_centre = (across % pitch - pitch // 2) ** 2 + (along % pitch - pitch // 2) ** 2
    return (from_centre < pitch * pitch // 10) * np.int64(255)


def _slope(draws: Draws, height: int, width: int) -> Pattern:
    across, _ = turned_grid(draws.below(180), height, width)
    low, high = int(across.min()), int(across.max())
    return (across - low) * 255 // max(high - low, 1)


def _clouds(draws: Draws, height: int, width: int) -> Pattern:
    return clouds(draws, height, width, draws.between(6, 20))


def clouds(draws: Draws, height: int, width: int, cell: int) -> Pattern:
    """Return random values on a grid of ``cell`` pixels, blended linearly in between."""
    knots = draws.octets(height // cell + 2, width // cell + 2)
    (row, dy), (column, dx) = np.divmod(np.arange(height), cell), np.divmod(np.arange(width), cell)
    rows = (knots[row] * (cell - dy)[:, None] + knots[row + 1] * dy[:, None]) // cell
    return (rows[:, column] * (cell - dx) + rows[:, column + 1] * dx) // cell


PATTERNS: dict[str, Callable[[Draws, int, int], Pattern]] = {
    "stripes": _stripes,
    "checks": _checks,
    "dots": _dots,
    "slope": _slope,
    "clouds": _clouds,
}
"""Name -> function that draws a pattern."""
