"""Textures on the axes of an object: kind and direction belong to the class, colours hardly.

h, w = height and width of the object's window in pixels.
"""

from __future__ import annotations

from collections.abc import Callable

from maskrcnn_repro.data.synthetic.draws import Draws
from maskrcnn_repro.data.synthetic.textures import Colour, Pattern, clouds, turned_grid

import numpy as np
from numpy.typing import NDArray

_PITCH = 7, 12
"""Of a texture, in percent of the object's length."""
_LEAST_PITCH = 24
"""In quarters of a pixel."""


def paint_surface(
    draws: Draws, surface: str, base: Colour, size: tuple[int, int], length: int, turn: int
) -> NDArray[np.int32]:
    """Return a shaded textured area, (h, w, 3) int32, RGB, not clipped.

    Args:
        draws: source of the pitch, the second colour and the shading.
        surface: one of :data:`SURFACES`.
        base: the first colour.
        size: h and w.
        length: of the object in pixels, to which the pitch is proportional.
        turn: of the object, in degrees.
    """
    pitch = max(_LEAST_PITCH, 4 * length * draws.between(*_PITCH) // 100)
    across, along = turned_grid(turn, *size)
    weights = SURFACES[surface](draws, across, along, pitch)
    # Lighter or darker in all channels, with some change of hue.
    contrast = draws.choice((1, -1)) * draws.between(45, 90)
    second = [contrast + draws.between(-25, 25) for _ in base]
    colours = np.array(base, np.int32) + (weights[..., None] * np.array(second, np.int32) >> 8)
    # Brighter towards one side, as a body in the light.
    low, high = int(across.min()), int(across.max())
    tilt = draws.between(-90, 90)
    shade = (256 - tilt // 2 + (across - low) * tilt // max(high - low, 1)).astype(np.int32)
    return np.asarray(colours * shade[..., None] >> 8, np.int32)


def _banded(_: Draws, across: Pattern, along: Pattern, pitch: int) -> Pattern:
    return (along % pitch * 2 >= pitch) * np.int32(256)


def _lined(_: Draws, across: Pattern, along: Pattern, pitch: int) -> Pattern:
    return (across % pitch * 2 >= pitch) * np.int32(256)


def _checked(_: Draws, across: Pattern, along: Pattern, pitch: int) -> Pattern:
    return ((across // pitch + along // pitch) % 2 * 256).astype(np.int32)


def _spotted(_: Draws, across: Pattern, along: Pattern, pitch: int) -> Pattern:
    pitch = pitch * 3 // 2
    row = along // pitch
    # Every second row is shifted by half a pitch.
    x = (across + row % 2 * (pitch // 2)) % pitch - pitch // 2
    y = along % pitch - pitch // 2
    return (x * x + y * y < pitch * pitch // 9) * np.int32(256)


def _netted(_: Draws, across: Pattern, along: Pattern, pitch: int) -> Pattern:
    pitch, line = pitch * 3 // 2, max(pitch // 3, 8)
    rising, falling = (across + along) % pitch < line, (across - along) % pitch < line
    return (rising | falling) * np.int32(256)


def _mottled(draws: Draws, across: Pattern, along: Pattern, pitch: int) -> Pattern:
    height, width = across.shape
    return (clouds(draws, height, width, pitch // 3) > 128) * np.int32(256)


SURFACES: dict[str, Callable[[Draws, Pattern, Pattern, int], Pattern]] = {
    "banded": _banded,
    "lined": _lined,
    "checked": _checked,
    "spotted": _spotted,
    "netted": _netted,
    "mottled": _mottled,
}
"""Name -> function that draws weights of the second colour, in [0, 256]: across the object's axis, along it, or both."""
