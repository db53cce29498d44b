"""One object of an image, large, under every row of a table: how well its outline is followed, as a picture and a number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from maskrcnn_repro.evaluation.boundary import boundary_iou
from maskrcnn_repro.utils.rle import encode_mask
from maskrcnn_repro.visualization.draw import WHITE, Objects, Style, draw

import cv2
import numpy as np

SIDE = 240
"""Longest side of a picture in pixels."""
MARGIN = 0.12
"""Around the object's box, as a fraction of its longer side."""


@dataclass(frozen=True)
class CloseUp:
    """The largest object of an image, and how well each of its objects is outlined.

    Attributes:
        pixels: (H, W, 3) RGB uint8.
        name: of the object's class.
        overlap: boundary IoU of the object; None where it is not found.
        others: name and boundary IoU of each other object.
    """

    pixels: np.ndarray
    name: str
    overlap: float | None
    others: tuple[tuple[str, float | None], ...]


def close_up(image: np.ndarray, truth: Objects, objects: Objects, style: Style) -> CloseUp | None:
    """Return the largest object of an image as ``objects`` have it; None without masks to compare.

    Args:
        image: (H, W, 3) RGB uint8.
        truth: its objects.
        objects: predictions, or ``truth`` itself.
        style: class names.
    """
    if not len(truth.masks) or (len(objects) and not len(objects.masks)):
        return None
    fits = overlaps(truth, objects)
    names = [style.names[int(number)] for number in truth.classes]
    largest = int(np.argmax([mask.sum() for mask in truth.masks]))
    _, match = fits[largest]
    own = truth.masks[largest]
    pixels = _cut(image, own, objects.masks[match] if match is not None else None)
    others = [
        (name, overlap)
        for number, (name, (overlap, _)) in enumerate(zip(names, fits, strict=True))
        if number != largest
    ]
    return CloseUp(pixels, names[largest], fits[largest][0], tuple(others))


def overlaps(truth: Objects, objects: Objects) -> list[tuple[float | None, int | None]]:
    """Return, for each object, the highest boundary IoU with a prediction of its class, and that prediction's index, or None."""
    if not len(objects):
        return [(None, None)] * len(truth)
    ious = boundary_iou(*(_encode(side.masks) for side in (truth, objects)))
    ious = np.where(truth.classes[:, None] == objects.classes, ious, 0.0)
    best = ious.argmax(axis=1)
    return [
        (float(row[index]), int(index)) if row[index] > 0 else (None, None)
        for row, index in zip(ious, best, strict=True)
    ]


def _encode(masks: Sequence[np.ndarray]) -> list[dict[str, object]]:
    return [encode_mask(mask) for mask in masks]


def _cut(image: np.ndarray, own: np.ndarray, predicted: np.ndarray | None) -> np.ndarray:
    """Return the part of an image around an object, with the mask predicted for it and its own outline in white."""
    rows, columns = (np.flatnonzero(own.any(axis=axis)) for axis in (1, 0))
    margin = round(MARGIN * max(np.ptp(rows), np.ptp(columns))) + 1
    part = tuple(
        slice(max(int(line[0]) - margin, 0), int(line[-1]) + 1 + margin) for line in (rows, columns)
    )
    image, own = image[part], own[part]
    scale = SIDE / max(own.shape)
    masks = () if predicted is None else (predicted[part],)
    prediction = Objects(np.zeros((len(masks), 4)), np.zeros(len(masks), np.int64), masks)
    pixels = draw(image, prediction, Style([""]), scale, crowded=True).copy()
    _outline(pixels, own)
    return pixels


def _outline(canvas: np.ndarray, mask: np.ndarray) -> None:
    size = canvas.shape[1], canvas.shape[0]
    inside = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_LINEAR) >= 0.5
    lines, _ = cv2.findContours(inside.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(canvas, lines, -1, WHITE, 1)
