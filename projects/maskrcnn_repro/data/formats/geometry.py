"""Outlines of shapes: corners, circles and ellipses as polygons, pixels as RLE, all within limits before memory is taken."""

from __future__ import annotations

import math
from typing import Any

from maskrcnn_repro.data.check.clipping import clip_polygon
from maskrcnn_repro.data.check.mends import MENDS, mend_area, mend_box
from maskrcnn_repro.data.check.outlines import MAX_PIXELS, Defective, bounds_of
from maskrcnn_repro.data.check.table import defects
from maskrcnn_repro.data.formats.contents import Outline
from maskrcnn_repro.data.formats.fates import TOLERANCE
from maskrcnn_repro.utils.rle import encode_mask

import numpy as np
import pycocotools.mask as coco_mask

Points = list[tuple[float, float]]
_MOST_VERTICES = 1000
"""Of an ellipse: what :data:`TOLERANCE` takes at a radius of 20,264 px, 1.5 sides of the largest square image."""


def flat(points: Points) -> list[list[float]]:
    """Return points as the outline of one polygon."""
    return [[value for point in points for value in point]]


def rectangle(left: float, top: float, right: float, bottom: float) -> Points:
    """Return the corners of a box, clockwise."""
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def rotate_points(points: Points, centre: tuple[float, float], degrees: float) -> Points:
    """Return points turned clockwise, as seen in an image, around a centre."""
    if not degrees:
        return points
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    x0, y0 = centre
    return [
        (x0 + (x - x0) * cosine - (y - y0) * sine, y0 + (x - x0) * sine + (y - y0) * cosine)
        for x, y in points
    ]


def ellipse(x: float, y: float, x_radius: float, y_radius: float, degrees: float = 0.0) -> Points:
    """Return the vertices of a polygon in an ellipse, which it leaves by at most :data:`TOLERANCE` pixels.

    Beyond a radius of 20,264 pixels, of which few ellipses lie in an image, by 5 millionths of the radius.

    Args:
        x: of the centre.
        y: of the centre.
        x_radius: along x before the turn.
        y_radius: along y before the turn.
        degrees: by which it is turned clockwise.

    Raises:
        Defective: a radius is not positive, not finite, or larger than any image.
    """
    largest = max(x_radius, y_radius)
    if not (math.isfinite(x + y + x_radius + y_radius + degrees) and largest <= MAX_PIXELS):
        raise Defective("outline-not-finite", value=largest)
    if min(x_radius, y_radius) <= 0:
        raise Defective("outline-no-area")
    # The middle of an edge lies radius * (1 - cos(pi / count)) within a circle.
    count = max(12, math.ceil(math.pi / math.acos(max(0.0, 1 - TOLERANCE / largest))))
    count = min(count, _MOST_VERTICES)  # a few bytes of a file are not to take megabytes
    angles = [2 * math.pi * index / count for index in range(count)]
    points = [(x + x_radius * math.cos(a), y + y_radius * math.sin(a)) for a in angles]
    return rotate_points(points, (x, y), degrees)


def check_pixels(width: int, height: int) -> None:
    """Raise Defective for a mask that is larger than any image may be."""
    if width < 1 or height < 1:
        raise Defective("rle-size-invalid", value=[height, width])
    if width * height > MAX_PIXELS:
        raise Defective("rle-too-large", value=[height, width], limit=MAX_PIXELS)


def check_within(left: int, top: int, width: int, height: int, size: tuple[int, int]) -> None:
    """Raise Defective for a mask that does not lie within its image of ``size`` (W, H), before it is decoded."""
    across, down = size
    check_pixels(width, height)
    if left < 0 or top < 0 or left + width > across or top + height > down:
        far = max(left + width, top + height, -left, -top)
        raise Defective("outline-far", value=far, size=f"{across} x {down}")


def mask_outline(mask: np.ndarray, left: int, top: int, size: tuple[int, int]) -> Outline:
    """Return the RLE of a mask, (h, w) bool or uint8, that begins at a column and a row of an image of (W, H)."""
    height, width = mask.shape
    across, down = size
    whole = np.zeros((down, across), np.uint8, order="F")
    whole[top : top + height, left : left + width] = mask
    return encode_mask(whole)


def label_outlines(ids: np.ndarray) -> dict[int, Outline]:
    """Return the RLE of every value but 0 of an (H, W) map of integers, in one pass over it."""
    height, width = ids.shape
    values = ids.ravel(order="F")
    starts = np.concatenate(([0], np.flatnonzero(values[1:] != values[:-1]) + 1))
    stops = np.append(starts[1:], len(values))
    of_run = values[starts]
    order = np.argsort(of_run, kind="stable")
    bounds = np.flatnonzero(np.diff(of_run[order])) + 1
    outlines: dict[int, Outline] = {}
    for rows in np.split(order, bounds):
        if value := int(of_run[rows[0]]):
            # Background and object by turns, from the first pixel to the last.
            edges = np.stack((starts[rows], stops[rows]), axis=1).ravel()
            counts = np.diff(np.concatenate(([0], edges, [len(values)]))).tolist()
            rle = coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)
            outlines[value] = {"size": [height, width], "counts": rle["counts"].decode("ascii")}
    return outlines


def mend_outline(outline: Any, width: int, height: int) -> tuple[dict[str, Any], set[str]]:
    """Return ``segmentation``, ``bbox`` and ``area`` of an object, and codes of what was changed.

    Args:
        outline: polygons or an RLE, from any file.
        width: of the image in pixels.
        height: of the image in pixels.

    Raises:
        Defective: no outline that trains can be made of it.
    """
    image = {"width": width, "height": height}
    record: dict[str, Any] = {"segmentation": outline, "bbox": [0, 0, 0, 0], "area": 0}
    changes = set()
    try:
        bounds = bounds_of(outline, width, height)
    except Defective as defect:
        mend = MENDS.get(defects()[defect.code].fix)
        if mend is None or not mend(record, image):
            raise
        bounds = bounds_of(record["segmentation"], width, height)
        changes.add("mended")
    if bounds is None:
        raise Defective("rle-no-pixel")
    if isinstance(record["segmentation"], list):
        if min(bounds) < 0 or bounds[2] > width or bounds[3] > height:
            parts = [clip_polygon(polygon, width, height) for polygon in record["segmentation"]]
            record["segmentation"] = [part for part in parts if len(part) >= 6]
            changes.add("cut")
        if not record["segmentation"]:
            raise Defective("outline-no-area")
    if not (mend_box(record, image) and mend_area(record, image)):
        raise Defective("outline-no-area")
    return record, changes


def reason_of(defect: Defective, place: str) -> str:
    """Return where an outline is defective, and why."""
    return f"{place}: {defect.says('it')}"
