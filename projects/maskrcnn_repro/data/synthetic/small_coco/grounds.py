"""Backgrounds whose textures are those of objects, and a photograph's light, blur and noise, in integers.

H, W = height and width of the image in pixels.
"""

from __future__ import annotations

from maskrcnn_repro.data.synthetic.draws import Draws, cosine, sine
from maskrcnn_repro.data.synthetic.small_coco.surfaces import SURFACES
from maskrcnn_repro.data.synthetic.textures import clouds, muted_colour, turned_grid

import numpy as np
from numpy.typing import NDArray


def paint_ground(draws: Draws, height: int, width: int) -> NDArray[np.int16]:
    """Return a background of one to three textured areas, (H, W, 3), with values in [0, 255]."""
    image = _draw_texture(draws, height, width)
    for _ in range(draws.choice((0, 1, 1, 2))):
        # On one side of a line that runs through the middle half of the image.
        degrees = draws.choice((0, 90, 90, draws.below(180)))
        x = width // 4 + draws.below(width // 2)
        y = height // 4 + draws.below(height // 2)
        columns = (np.arange(width, dtype=np.int32) - x) * cosine(degrees)
        rows = (np.arange(height, dtype=np.int32) - y) * sine(degrees)
        beyond = columns + rows[:, None] > 0
        image[beyond] = _draw_texture(draws, height, width)[beyond]
    return image


def _draw_texture(draws: Draws, height: int, width: int) -> NDArray[np.int16]:
    across, along = turned_grid(draws.below(180), height, width)
    pitch = 4 * draws.between(6, 40)
    weights = SURFACES[draws.choice(tuple(SURFACES))](draws, across, along, pitch)
    swing = draws.between(10, 60)
    second = np.array([draws.between(-swing, swing) for _ in range(3)], np.int32)
    colours = np.array(muted_colour(draws), np.int32) + (weights[..., None] * second >> 8)
    return np.clip(colours, 0, 255).astype(np.int16)


def expose(draws: Draws, image: NDArray[np.int16]) -> NDArray[np.uint8]:
    """Return an image as a camera would take it, (H, W, 3) uint8: uneven light of some colour, blur, noise.

    Args:
        draws: source of light and noise.
        image: (H, W, 3), with values in [0, 255].
    """
    height, width, _ = image.shape
    cell = max(height, width) // draws.between(2, 4)
    shadows = clouds(draws, height, width, cell) * draws.between(20, 150) >> 8
    light = (280 - shadows).astype(np.int32)
    cast = np.array([draws.between(216, 256) for _ in range(3)], np.int32)
    lit = (image * light[..., None] >> 8) * cast >> 8
    soft = _blur(_blur(lit.astype(np.int16), 0), 1)
    grain = draws.octets(height, width).astype(np.int16)
    noise = (grain - 128) * draws.between(4, 14) >> 8
    # Even values: a PNG file is a quarter smaller.
    return np.clip(soft + noise[..., None], 0, 255).astype(np.uint8) & np.uint8(254)


def _blur(image: NDArray[np.int16], axis: int) -> NDArray[np.int16]:
    """Return the mean of each pixel (half of it) and of its two neighbours (a quarter each) on an axis."""
    wide = np.pad(image, [(int(a == axis),) * 2 for a in range(image.ndim)], mode="edge")
    count = image.shape[axis]
    before, middle, behind = (
        wide[(slice(None),) * axis + (slice(i, i + count),)] for i in range(3)
    )
    return (before + 2 * middle + behind + 2) >> 2
