"""Hits, misses and false alarms of an image as SVG shapes with labels, in pixels of the image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from maskrcnn_repro.analysis.analysis import Analysis
from maskrcnn_repro.analysis.error_kinds import KINDS
from maskrcnn_repro.analysis.evaluation_set import EvaluationSet, Region
from maskrcnn_repro.visualization.labels import place_labels

import cv2
import numpy as np
from pycocotools import mask as rle_codec

LETTERS = 1 / 44
"""Height of letters as a share of the image's longer side; less where there are many marks."""
MANY = 15
"""Marks from which on letters become smaller."""
SMALLEST = 0.5
"""Share of their height that is left at least."""
LETTER_WIDTH = 0.62
"""Of bold letters of any font of a browser, as a share of their height."""


@dataclass(frozen=True)
class Mark:
    """A shape over a picture.

    Attributes:
        kind: ``hit``, ``miss``, ``alarm`` or ``ignored``.
        path: data of an SVG path.
        title: class, score, and what is wrong.
        label: the same, of a single class without its name.
        left, bottom: where the label begins, on its base line.
    """

    kind: str
    path: str
    title: str
    label: str
    left: float
    bottom: float


def overlay(evaluated: EvaluationSet, analysis: Analysis, image: int) -> tuple[list[Mark], float]:
    """Return the marks of an image, and the height of their letters.

    Args:
        evaluated: detections and objects.
        analysis: of them.
        image: its place in ``image_ids``.
    """
    shapes = list(_shapes(evaluated, analysis, image))
    width, height = (float(side) for side in evaluated.sizes[image])
    share = max(SMALLEST, min(1.0, (MANY / max(1, len(shapes))) ** 0.5))
    letters = LETTERS * share * max(width, height)
    several = len(evaluated.class_names) > 1
    labels = [f"{name} {rest}" if several else rest for _, _, name, rest in shapes]
    boxes = np.array([_box(region) for _, region, _, _ in shapes]).reshape(-1, 4)
    sizes = np.array([(LETTER_WIDTH * letters * len(label), 1.2 * letters) for label in labels])
    corners = place_labels(boxes, sizes.reshape(-1, 2), (width, height))
    marks = [
        Mark(kind, _path(region), f"{name} {rest}", label, round(x, 1), round(y + letters, 1))
        for (kind, region, name, rest), label, (x, y) in zip(
            shapes, labels, corners.tolist(), strict=True
        )
    ]
    return marks, letters


def _shapes(
    evaluated: EvaluationSet, analysis: Analysis, image: int
) -> Iterator[tuple[str, Region, str, str]]:
    """Yield kind, region, class and the rest of the label; what is right first, below what is wrong."""
    truth, detections, marks = evaluated.truth, evaluated.detections, analysis.marks
    names = evaluated.class_names
    within = truth.images == image
    for row in np.flatnonzero(within & ~analysis.matching.counted).tolist():
        yield "ignored", truth.regions[row], names[truth.categories[row]], "ignored"
    begin, end = np.searchsorted(detections.images, [image, image + 1]).tolist()
    for rows, kind in ((marks.hits, "hit"), (marks.false_alarms, "alarm")):
        for row in (begin + np.flatnonzero(rows[begin:end])).tolist():
            rest = f"{detections.scores[row]:.2f}"
            if kind == "alarm":
                rest += f" {list(KINDS)[analysis.errors.kinds[row]]}"
            yield kind, detections.regions[row], names[detections.categories[row]], rest
    for row in np.flatnonzero(within & marks.misses).tolist():
        yield "miss", truth.regions[row], names[truth.categories[row]], "missed"


def _box(region: Region) -> np.ndarray:
    """Return left, top, right, bottom."""
    x, y, w, h = rle_codec.toBbox(region) if isinstance(region, dict) else region
    return np.array([x, y, x + w, y + h])


def _path(region: Region) -> str:
    """Return the outline of a box or mask as data of an SVG path."""
    if not isinstance(region, dict):
        x, y, w, h = (f"{value:.1f}" for value in region)
        return f"M{x} {y}h{w}v{h}h-{w}z"
    mask = rle_codec.decode(region)
    outlines, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    detail = max(0.5, max(mask.shape) / 1000)
    parts = []
    for outline in outlines:
        points = cv2.approxPolyDP(outline, detail, closed=True)[:, 0] + 0.5
        parts.append("M" + "L".join(f"{x:g} {y:g}" for x, y in points) + "z")
    return "".join(parts)
