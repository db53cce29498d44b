"""LabelMe: one JSON an image, with polygons, boxes, circles and masks."""

from __future__ import annotations

import base64
import binascii
import io
import math
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from maskrcnn_repro.data.check.findings import shorten
from maskrcnn_repro.data.check.outlines import MAX_PIXELS, Defective
from maskrcnn_repro.data.formats.contents import Contents, Decoder, Losses, Outline, Picture, Shape
from maskrcnn_repro.data.formats.geometry import (
    check_within,
    ellipse,
    flat,
    mask_outline,
    reason_of,
    rectangle,
)
from maskrcnn_repro.data.formats.options import Options
from maskrcnn_repro.data.formats.parts import join_groups
from maskrcnn_repro.data.formats.reading import Number, Trees, get, names_beside, part_of, points_of
from maskrcnn_repro.errors import DataError

import numpy as np
from PIL import Image

LARGEST_IMAGE = 1 << 28
"""Bytes of an image within a JSON."""
POLYGONS = ("polygon", "", "oriented_rectangle", "rotation")
OPEN = {"line": "line", "linestrip": "line", "point": "point", "points": "point"}


def knows(tree: Any) -> bool:
    """Whether a JSON is of this format."""
    return isinstance(tree, dict) and isinstance(tree.get("shapes"), list) and "imagePath" in tree


def read(files: Iterable[Path], trees: Trees, options: Options, losses: Losses) -> Contents:
    """Return the contents of LabelMe files.

    Raises:
        DataError: a file is broken.
    """
    return Contents([_picture(file, trees.read(file), losses) for file in files])


def _picture(file: Path, tree: Any, losses: Losses) -> Picture:
    width, height = (get(tree, f"image{s}", Number, str(file), 0) for s in ("Width", "Height"))
    shapes: list[tuple[Shape, str]] = []
    size = (int(width), int(height)) if 0 < width < 2**31 and 0 < height < 2**31 else None
    for index, record in enumerate(get(tree, "shapes", list, str(file))):
        place = f"{file.name}: shape {index + 1}"
        if shape := _shape(record, place, losses):
            shapes.append((shape, str(get(record, "group_id", (int, str), place, ""))))
    path = get(tree, "imagePath", str, str(file))
    embedded = bool(get(tree, "imageData", str, str(file), ""))
    return Picture(
        names_beside(file, path),
        file.name,
        join_groups(shapes, losses),
        size,
        part_of(file.parent.name),
        embedded=file if embedded else None,
    )


def _shape(record: Any, place: str, losses: Losses) -> Shape | None:
    kind = get(record, "shape_type", str, place, "")
    if kind in OPEN:
        losses.add(OPEN[kind], place)
        return None
    label = get(record, "label", str, place, "").strip()
    if not label:
        losses.add("no-class", place)
        return None
    try:
        outline = _outline(record, kind, place, losses)
    except Defective as defect:
        losses.add("outline", reason_of(defect, place))
        return None
    return Shape(label, outline, place) if outline else None


def _outline(record: Any, kind: str, place: str, losses: Losses) -> Outline | Decoder | None:
    points = points_of(get(record, "points", list, place), place)
    if kind in POLYGONS:
        return flat(points)
    if kind not in ("rectangle", "circle", "mask"):
        losses.add("other-kind", f"{place}: {shorten(kind)}")
        return None
    if len(points) == 4 and kind == "rectangle":  # its four corners, as newer versions write
        losses.add("box", place)
        return flat(points)
    if len(points) != 2:
        raise Defective("outline-few-points")
    (x1, y1), (x2, y2) = points
    if kind == "rectangle":
        losses.add("box", place)
        return flat(rectangle(min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)))
    if kind == "circle":
        radius = math.hypot(x2 - x1, y2 - y1)
        losses.add("round", place)
        return flat(ellipse(x1, y1, radius, radius))
    return partial(_mask, get(record, "mask", str, place), points[0], place)


def _mask(text: str, corner: tuple[float, float], place: str, size: tuple[int, int]) -> Outline:
    """Return the outline of a mask, a PNG in base64 whose first pixel lies at a corner."""
    if not all(abs(value) < MAX_PIXELS for value in corner):
        raise Defective("outline-not-finite", value=corner)
    left, top = (round(value) for value in corner)
    try:
        with Image.open(io.BytesIO(decode_base64(text, place)), formats=["PNG"]) as image:
            check_within(left, top, *image.size, size)
            mask = np.asarray(image.convert("L")) > 0
    except (Defective, DataError):
        raise
    except Exception as error:  # whatever Pillow raises on broken bytes
        raise DataError(f"{place}: its mask is no PNG: {error}.") from error
    return mask_outline(mask, left, top, size)


def decode_base64(text: str, place: str) -> bytes:
    """Return what a text in base64 holds.

    Raises:
        DataError: it is none, or holds more than :data:`LARGEST_IMAGE` bytes.
    """
    if len(text) > LARGEST_IMAGE * 4 // 3:
        raise DataError(f"{place} holds an image of more than {LARGEST_IMAGE} bytes.")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise DataError(f"{place} holds no base64: {error}.") from error
