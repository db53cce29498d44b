"""Annotations of a COCO file: references, flags, boxes, areas and outlines, in one pass."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from maskrcnn_repro.data.check.findings import Findings, shorten
from maskrcnn_repro.data.check.outlines import NUMBERS, Defective, bounds_of
from maskrcnn_repro.data.check.records import Record, find_repeated

import numpy as np

_FAR = 10.0  # sides of the image
_BORDER = 1.0  # pixels that rounding may put a box or point beyond its image
_ROUNDED = 0.5  # pixels that a box may lose or win where it is rounded
_SAME = 1.5  # pixels that two ways to measure one box may differ by
_LOW_IOU = 0.5


@dataclass(frozen=True)
class Objects:
    """Arrays with a row for each annotation.

    Attributes:
        ids: (N,) int64.
        images: (N,) int64, index of its image, -1 for one that the file does not have.
        categories: (N,) int64, id of its category.
        boxes: (N, 4) float64, left, top, width, height in pixels; NaN where it is no box.
        areas: (N,) float64, as the file says.
        bounds: (N, 4) float64, left, top, right, bottom of the outline; NaN without.
        crowd: (N,) bool.
    """

    ids: np.ndarray
    images: np.ndarray
    categories: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    bounds: np.ndarray
    crowd: np.ndarray

    @property
    def single(self) -> np.ndarray:
        """(N,) bool: no crowd, with an image and with a box of some area."""
        sound = (self.boxes[:, 2:] > 0).all(axis=1) & (self.images >= 0)
        return sound & ~self.crowd


def check_annotations(
    annotations: list[Record], images: list[Record], category_ids: set[int], findings: Findings
) -> Objects:
    """Note what is wrong with annotations, and return what other checks need of them.

    ``iscrowd`` becomes 0 where it is absent or null, 0 or 1 where it is a boolean.
    """
    objects = _empty(len(annotations))
    place = {image["id"]: index for index, image in enumerate(images)}
    for index, annotation in enumerate(annotations):
        image = place.get(annotation["image_id"], -1)
        objects.ids[index], objects.images[index] = annotation["id"], image
        objects.categories[index] = annotation["category_id"]
        if annotation["category_id"] not in category_ids:
            values = {"category": annotation["category_id"]}
            findings.add("annotation-no-category", annotation["id"], **values)
        objects.crowd[index] = _crowd(annotation, findings)
        objects.areas[index] = _float(annotation["area"])
        _read_box(annotation, objects.boxes[index], findings)
        if image < 0:
            findings.add("annotation-no-image", annotation["id"], image=annotation["image_id"])
        else:
            _read_outline(annotation, images[image], objects.bounds[index], findings)
    _check_ids(annotations, findings)
    sizes = np.array([(i["width"], i["height"]) for i in images], dtype=np.float64).reshape(-1, 2)
    _check_boxes(objects, sizes, findings)
    _check_areas(objects, findings)
    _check_doubles(objects, findings)
    return objects


def _empty(count: int) -> Objects:
    return Objects(
        ids=np.zeros(count, np.int64),
        images=np.zeros(count, np.int64),
        categories=np.zeros(count, np.int64),
        boxes=np.full((count, 4), np.nan),
        areas=np.zeros(count),
        bounds=np.full((count, 4), np.nan),
        crowd=np.zeros(count, bool),
    )


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return np.inf if value > 0 else -np.inf


def _crowd(annotation: Record, findings: Findings) -> bool:
    flag = annotation.get("iscrowd")
    if annotation.get("ignore"):
        findings.add("ignore-set", annotation["id"])
    if flag is None or isinstance(flag, bool):
        value = json.dumps(flag) if "iscrowd" in annotation else "absent"
        annotation["iscrowd"] = flag = int(bool(flag))
        findings.add("crowd-absent", annotation["id"], value=value, flag=flag)
    elif type(flag) not in NUMBERS or flag not in (0, 1):
        findings.add("crowd-odd", annotation["id"], value=shorten(flag))
    return flag == 1


def _read_box(annotation: Record, row: np.ndarray, findings: Findings) -> None:
    box = annotation["bbox"]
    if len(box) == 4 and set(map(type, box)) <= NUMBERS:
        row[:] = [_float(value) for value in box]
    if not np.isfinite(row).all():
        row[:] = np.nan
        findings.add("box-no-numbers", annotation["id"], value=shorten(box))


def _read_outline(annotation: Record, image: Record, row: np.ndarray, findings: Findings) -> None:
    outline = annotation.get("segmentation")
    if outline is None or outline == []:
        crowd = annotation["iscrowd"] == 1
        findings.add("outline-absent-crowd" if crowd else "outline-absent", annotation["id"])
        return
    try:
        bounds = bounds_of(outline, image["width"], image["height"])
    except Defective as defect:
        findings.add(defect.code, annotation["id"], **defect.values)
        return
    if bounds is None:
        findings.add("rle-no-pixel", annotation["id"])
        return
    left, top, right, bottom = bounds
    width, height = image["width"], image["height"]
    if isinstance(outline, list) and max(right, bottom) <= 1 and min(width, height) > 2:
        # No bounds, lest the box seem wrong.
        findings.add("outline-fractions", annotation["id"])
        return
    row[:] = bounds
    size = f"{width} x {height}"
    beyond = max(-left, -top, right - width, bottom - height)
    if beyond > _BORDER:
        farthest = max(bounds, key=abs)
        findings.add("outline-beyond", annotation["id"], value=f"{farthest:.6g}", size=size)


def _check_ids(annotations: list[Record], findings: Findings) -> None:
    for annotation in find_repeated(annotations, lambda record: record["id"]):
        findings.add("annotation-id-twice", annotation["id"])
    for annotation in annotations:
        if annotation["id"] <= 0:
            code = "annotation-id-zero" if annotation["id"] == 0 else "annotation-id-odd"
            findings.add(code, annotation["id"])


def _check_boxes(objects: Objects, sizes: np.ndarray, findings: Findings) -> None:
    rows = np.flatnonzero((objects.images >= 0) & np.isfinite(objects.boxes[:, 0]))
    boxes, bounds = objects.boxes[rows], objects.bounds[rows]
    size = sizes[objects.images[rows]] if len(rows) else np.zeros((0, 2))
    corners = np.concatenate((boxes[:, :2], boxes[:, :2] + boxes[:, 2:]), axis=1)
    iou = _iou(corners, bounds)
    contradicts = (iou < _LOW_IOU) & (np.abs(corners - bounds).max(axis=1) > _SAME)
    beyond = np.maximum(-corners[:, :2], corners[:, 2:] - size).max(axis=1)
    tests = {
        "box-huge": np.abs(boxes).max(axis=1, initial=0) > _FAR * size.max(axis=1, initial=0),
        "box-negative": (boxes[:, 2:] < 0).any(axis=1),
        "box-empty": (boxes[:, 2:] == 0).any(axis=1),
        "box-fractions": (corners <= 1).all(axis=1) & (size > 2).all(axis=1),
        "box-corners": contradicts & (np.abs(boxes - bounds).max(axis=1) <= _SAME),
        "box-outside": (corners[:, 2:] <= 0).any(axis=1) | (corners[:, :2] >= size).any(axis=1),
        "box-beyond": beyond > _BORDER,
        "box-contradicts": contradicts & ~objects.crowd[rows],
        "box-tiny": (boxes[:, 2:] < 1).any(axis=1),
        "box-off": np.abs(corners - bounds).max(axis=1) > _ROUNDED,
    }
    free = np.ones(len(rows), bool)
    for code, mask in tests.items():
        for row in np.flatnonzero(mask & free):
            values: dict[str, Any] = {"value": _numbers(boxes[row]), "iou": f"{iou[row]:.2f}"}
            values["size"] = "{:.0f} x {:.0f}".format(*size[row])
            values["off"] = f"{np.abs(corners[row] - bounds[row]).max():.3g}"
            findings.add(code, int(objects.ids[rows[row]]), **values)
        free &= ~mask


def _numbers(box: np.ndarray) -> str:
    return f"[{', '.join(f'{value:.6g}' for value in box)}]"


def _iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the IoU of (N, 4) boxes, left, top, right, bottom; NaN where one is NaN."""
    inner = np.minimum(first[:, 2:], second[:, 2:]) - np.maximum(first[:, :2], second[:, :2])
    inter = inner.clip(min=0).prod(axis=1)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        areas = [(b[:, 2:] - b[:, :2]).prod(axis=1) for b in (first, second)]
        return np.asarray(inter / (areas[0] + areas[1] - inter))


def _check_areas(objects: Objects, findings: Findings) -> None:
    areas = objects.areas
    with np.errstate(over="ignore"):  # of boxes that are noted as huge
        boxes = objects.boxes[:, 2:].prod(axis=1)
    finite = np.isfinite(areas)
    tests = {
        "area-not-finite": ~finite,
        "area-not-positive": finite & (areas <= 0) & ~(boxes <= 0),
        "area-above-box": finite & (boxes > 0) & (areas > 1.05 * boxes + 4),
    }
    for code, mask in tests.items():
        for row in np.flatnonzero(mask):
            values = {"value": f"{areas[row]:.6g}", "box": f"{boxes[row]:.6g}"}
            findings.add(code, int(objects.ids[row]), **values)


def _check_doubles(objects: Objects, findings: Findings) -> None:
    columns = (objects.images, objects.categories, *objects.boxes.T, objects.areas)
    order = np.lexsort(columns)
    same = np.logical_and.reduce([c[order[1:]] == c[order[:-1]] for c in columns])
    for row in np.sort(order[1:][same]):
        findings.add("annotation-twice", int(objects.ids[row]))
