"""Mends of single annotations: each takes one and its image, changes it, and says whether it is worth keeping."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from maskrcnn_repro.data.check.clipping import clip_polygon
from maskrcnn_repro.data.check.outlines import NUMBERS, Defective, bounds_of, runs_of
from maskrcnn_repro.data.check.records import Record

Mend = Callable[[Record, Record], bool]


def mend_crowd(annotation: Record, image: Record) -> bool:
    """``"0"`` becomes 0; everything else that is no 0 becomes 1."""
    annotation["iscrowd"] = int(annotation["iscrowd"] not in ("0", "", 0))
    return True


def mend_ignore(annotation: Record, image: Record) -> bool:
    """An ignored object becomes a crowd, which COCO's evaluation leaves out as well."""
    annotation["iscrowd"] = 1
    return bool(annotation.pop("ignore"))


def mend_box(annotation: Record, image: Record) -> bool:
    """The box becomes the bounds of the outline, else it is cut at the border of the image."""
    bounds = _bounds(annotation, image)
    if bounds is None:
        box = _numbers(annotation["bbox"])
        if (
            len(box) != 4
            or not set(map(type, box)) <= NUMBERS
            or not all(abs(v) < 1e9 for v in box)
        ):
            return False
        bounds = (box[0], box[1], box[0] + box[2], box[1] + box[3])
    left, right = (min(max(x, 0), image["width"]) for x in bounds[0::2])
    top, bottom = (min(max(y, 0), image["height"]) for y in bounds[1::2])
    annotation["bbox"] = [left, top, right - left, bottom - top]
    return right > left and bottom > top


def mend_box_fractions(annotation: Record, image: Record) -> bool:
    """The box becomes the bounds of the outline, unless that is in fractions too; else it is multiplied."""
    annotation["bbox"] = _pixels(annotation["bbox"], image)
    bounds = _bounds(annotation, image)
    return (bounds is not None and max(bounds) <= 1) or mend_box(annotation, image)


def mend_area(annotation: Record, image: Record) -> bool:
    """The area becomes that of the outline, else of the box."""
    width, height = annotation["bbox"][2:]
    annotation["area"] = width * height
    if _bounds(annotation, image) is not None:
        outline = annotation["segmentation"]
        if isinstance(outline, dict):
            annotation["area"] = int(runs_of(outline["counts"])[1::2].sum())
        else:
            annotation["area"] = sum(map(_area, outline))
    return bool(annotation["area"] > 0)


def mend_outline(annotation: Record, image: Record) -> bool:
    """Polygons become flat lists of numbers, cut at the border of the image; those of fewer than three points go.

    An RLE in a list becomes the outline; beside polygons it would be lost, so that the annotation goes.
    """
    outline: Any = annotation["segmentation"]
    if set(map(type, outline)) <= NUMBERS:
        outline = [outline]
    if len(outline) == 1 and isinstance(outline[0], dict):
        (annotation["segmentation"],) = outline
        return _bounds(annotation, image) is not None
    if not all(isinstance(polygon, list) for polygon in outline):
        return False
    polygons = [_flat(polygon) for polygon in outline]
    if [annotation["bbox"]] == polygons:
        left, top, width, height = annotation["bbox"]
        right, bottom = left + width, top + height
        polygons = [[left, top, right, top, right, bottom, left, bottom]]
    parts = [
        _cut(polygon, image)
        for polygon in polygons
        if len(polygon) >= 6 and len(polygon) % 2 == 0 and set(map(type, polygon)) <= NUMBERS
    ]
    annotation["segmentation"] = [part for part in parts if len(part) >= 6]
    return bool(annotation["segmentation"])


def mend_outline_numbers(annotation: Record, image: Record) -> bool:
    """Numbers in quotes become numbers."""
    annotation["segmentation"] = [_numbers(polygon) for polygon in annotation["segmentation"]]
    return _bounds(annotation, image) is not None


def mend_outline_fractions(annotation: Record, image: Record) -> bool:
    """Fractions of the image become pixels."""
    annotation["segmentation"] = [_pixels(p, image) for p in annotation["segmentation"]]
    return True


def mend_rle_size(annotation: Record, image: Record) -> bool:
    """The size becomes the image's, where the mask then lies in its box."""
    annotation["segmentation"]["size"] = [image["height"], image["width"]]
    bounds = _bounds(annotation, image)
    if bounds is None:
        return False
    left, top, width, height = annotation["bbox"]
    box = (left, top, left + width, top + height)
    return all(abs(a - b) <= 2 for a, b in zip(bounds, box, strict=True))


def mend_keypoints(annotation: Record, image: Record) -> bool:
    """Points outside of the image become unknown, odd visibilities 2, and the points are counted."""
    values = annotation["keypoints"]
    for index in range(0, len(values), 3):
        x, y, visibility = values[index : index + 3]
        inside = -1 <= x <= image["width"] + 1 and -1 <= y <= image["height"] + 1
        if visibility not in (0, 1, 2):
            values[index + 2] = 2 if visibility > 0 else 0
        if values[index + 2] and not inside:
            values[index : index + 3] = [0, 0, 0]
    annotation["num_keypoints"] = sum(visibility > 0 for visibility in values[2::3])
    return True


MENDS: dict[str, Mend] = {
    "crowd": mend_crowd,
    "ignore": mend_ignore,
    "box": mend_box,
    "area": mend_area,
    "box fractions": mend_box_fractions,
    "outline": mend_outline,
    "outline numbers": mend_outline_numbers,
    "outline fractions": mend_outline_fractions,
    "rle size": mend_rle_size,
    "keypoints": mend_keypoints,
}
"""Name in the column ``fix`` of the table -> mend."""


def _bounds(annotation: Record, image: Record) -> tuple[float, ...] | None:
    outline = annotation.get("segmentation")
    try:
        return bounds_of(outline, image["width"], image["height"]) if outline else None
    except Defective:
        return None


def _numbers(values: list[Any]) -> list[Any]:
    """Return the values with numbers in quotes as numbers, or as they are where a text is none."""
    try:
        return [float(value) if isinstance(value, str) else value for value in values]
    except ValueError:
        return values


def _pixels(fractions: list[float], image: Record) -> list[float]:
    sides = (image["width"], image["height"])
    return [value * sides[index % 2] for index, value in enumerate(fractions)]


def _flat(polygon: list[Any]) -> list[Any]:
    if set(map(type, polygon)) == {list}:
        return [value for point in polygon for value in point]
    return polygon


def _cut(polygon: list[float], image: Record) -> list[float]:
    """Return a polygon cut at the border of its image; as it is where another defect is left for the next check."""
    try:
        bounds_of([polygon], image["width"], image["height"])
    except Defective as defect:
        if defect.code != "outline-no-area":
            return polygon
    return clip_polygon(polygon, image["width"], image["height"])


def _area(polygon: list[float]) -> float:
    """Return the area that a polygon encloses."""
    xs, ys = polygon[0::2], polygon[1::2]
    return abs(sum(xs[i - 1] * ys[i] - xs[i] * ys[i - 1] for i in range(len(xs)))) / 2
