"""Drawing of surface coordinates: each chart in a colour of its own, darker and lighter with u and v.

R = detections, H, W = height and width of the image, h, w = those of a detection's box, in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

from maskrcnn_repro.visualization.draw import PALETTE

import numpy as np
from numpy.typing import NDArray

BLEND = 0.75
"""Part of the coordinates in the picture; the rest is the image."""
LINES = 8
"""Lines of equal u, and of equal v, in a chart."""


def draw_surfaces(
    image: NDArray[np.uint8], surfaces: Sequence[NDArray[np.uint8]], boxes: NDArray[np.floating]
) -> NDArray[np.uint8]:
    """Return the image with the coordinates of detections on it, (H, W, 3) RGB uint8.

    The first detections, which are the likeliest, lie on top.

    Args:
        image: (H, W, 3) RGB uint8.
        surfaces: R of (3, h, w): chart, u and v of each pixel, coordinates in 255ths.
        boxes: (R, 4) xyxy in pixels of the image, in which the surfaces begin.
    """
    canvas = image.copy()
    for surface, box in reversed([*zip(surfaces, boxes, strict=True)]):
        _paint(canvas, surface, int(box[0]), int(box[1]))
    return canvas


def surface_colors(surface: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a picture of a surface, (h, w, 3) RGB: black where there is no chart."""
    chart, u, v = surface.astype(np.float64)
    hue = np.array([(0, 0, 0), *PALETTE])[_place(chart.astype(int))]
    lines = [np.abs((c * LINES / 255) % 1 - 0.5) > 0.42 for c in (u, v)]
    shade = 0.55 + 0.25 * u / 255 + 0.2 * v / 255
    shade[lines[0] | lines[1]] *= 0.6
    return np.asarray(hue * shade[..., None], np.uint8)


def _place(chart: NDArray[np.integer]) -> NDArray[np.integer]:
    """Return the place of each chart's colour; 0 stays."""
    return np.where(chart > 0, (chart - 1) % len(PALETTE) + 1, 0)


def _paint(canvas: NDArray[np.uint8], surface: NDArray[np.uint8], left: int, top: int) -> None:
    height, width = canvas.shape[:2]
    x, y = max(left, 0), max(top, 0)
    shown = surface[:, y - top : max(height - top, 0), x - left : max(width - left, 0)]
    window = canvas[y : y + shown.shape[1], x : x + shown.shape[2]]
    on_body = shown[0] > 0
    colors = surface_colors(shown)[on_body]
    window[on_body] = (BLEND * colors + (1 - BLEND) * window[on_body]).astype(np.uint8)
