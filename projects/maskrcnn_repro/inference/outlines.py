"""Masks as polygons, for tools that know nothing else.

P = points of a polygon. Coordinates are continuous pixels: (0, 0) is the outer corner of the first pixel, so that a
polygon that is not simplified covers exactly the pixels of its mask.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as rle_codec


@dataclass(frozen=True)
class Outline:
    """The outlines of a mask.

    Attributes:
        parts: of each connected part, by falling area, its outer outline, (P, 2) float64 x and y.
        holes: number of holes, which the parts cover.
    """

    parts: list[np.ndarray]
    holes: int


def outline(rle: Mapping[str, Any], tolerance: float) -> Outline:
    """Return the polygons of a mask; none for an empty one.

    Args:
        rle: COCO's compressed run-length encoding.
        tolerance: largest distance in pixels between an outline and its simplified polygon (Douglas and Peucker
            1973); 0 keeps each corner of each pixel. A part of which fewer than three points would remain is not
            simplified.
    """
    (left, top), crop = crop_mask(rle)
    # Each pixel becomes 2 x 2, so that the pixels on the outline tell at which side of theirs it runs.
    doubled = crop.repeat(2, axis=0).repeat(2, axis=1)
    contours, tree = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    holes = [bool(node[3] >= 0) for node in tree[0]] if contours else []
    outer = [c[:, 0] for c, hole in zip(contours, holes, strict=True) if not hole]
    # Of a doubled pixel 2x is the side x, and 2x + 1 the side x + 1.
    parts = [np.add(_simplify((points + 1) // 2, tolerance), (left, top)) for points in outer]
    parts.sort(key=lambda part: -cv2.contourArea(part.astype(np.float32)))
    return Outline(parts, sum(holes))


def crop_mask(rle: Mapping[str, Any]) -> tuple[tuple[int, int], np.ndarray]:
    """Return the left and top of a mask's own box, and the mask in it as uint8; it is 0 x 0 of an empty mask."""
    left, top, width, height = (int(value) for value in rle_codec.toBbox(rle))
    mask = rle_codec.decode(rle)[top : top + height, left : left + width]
    return (left, top), np.ascontiguousarray(mask)


def _simplify(points: np.ndarray, tolerance: float) -> np.ndarray:
    for limit in (tolerance, 0):
        polygon = cv2.approxPolyDP(points.astype(np.int32), limit, closed=True)[:, 0]
        if len(polygon) >= 3:
            break
    return polygon.astype(np.float64)
