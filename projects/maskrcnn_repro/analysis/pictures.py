"""The worst images with hits, misses and false alarms as shapes over them, bounded in bytes.

H, W = height and width of an image in pixels; shapes are in pixels of the image whatever the picture's size is.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from maskrcnn_repro.analysis.analysis import Analysis
from maskrcnn_repro.analysis.error_kinds import KINDS
from maskrcnn_repro.analysis.evaluation_set import EvaluationSet, Region
from maskrcnn_repro.data.image_file import ImageError, ImageFiles
from maskrcnn_repro.visualization.labels import place_labels

import cv2
import numpy as np
from PIL import Image
from pycocotools import mask as rle_codec

SIDE = 800
"""Longest side of a picture in pixels."""
QUALITY = 80
MOST_BYTES = 8_000_000
"""Of all pictures of a page; further images are left out."""
LETTERS = 1 / 44
"""Height of letters as a share of the image's longer side."""


@dataclass(frozen=True)
class Mark:
    """A shape over a picture.

    Attributes:
        kind: ``hit``, ``miss``, ``alarm`` or ``ignored``.
        path: data of an SVG path.
        text: class, score and kind of error.
        left, bottom: where the text begins, on its base line.
    """

    kind: str
    path: str
    text: str
    left: float
    bottom: float


@dataclass(frozen=True)
class Picture:
    """An image and its marks."""

    name: str
    width: int
    height: int
    letters: float
    source: str
    counts: Sequence[int]
    marks: Sequence[Mark]


@dataclass
class Pictures:
    """The pictures of a page, and what is not among them.

    Attributes:
        shown: the worst images, worst first.
        unreadable: sentence about each image that cannot be read.
        left_out: images with errors for which there was no room.
    """

    shown: list[Picture] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    left_out: int = 0


def worst_pictures(
    evaluated: EvaluationSet, analysis: Analysis, files: ImageFiles, most: int
) -> Pictures:
    """Return pictures of the ``most`` images with the most errors; images without an error are not among them."""
    result = Pictures()
    size = 0
    wrong = [i for i in analysis.marks.order if analysis.marks.counts[i, 1:].any()]
    for done, image in enumerate(wrong[:most]):
        width, height = (int(side) for side in evaluated.sizes[image])
        try:
            pixels = files.read(evaluated.files[image], "RGB", (height, width))
        except ImageError as error:
            result.unreadable.append(str(error))
            continue
        source = _data_uri(pixels)
        letters = LETTERS * max(width, height)
        marks = _marks(evaluated, analysis, int(image), letters)
        size += len(source) + sum(len(mark.path) for mark in marks)
        if size > MOST_BYTES:
            result.left_out = len(wrong) - done
            return result
        counts = [int(count) for count in analysis.marks.counts[image]]
        name = Path(evaluated.files[image]).name
        result.shown.append(Picture(name, width, height, letters, source, counts, marks))
    result.left_out = max(0, len(wrong) - most)
    return result


def _marks(evaluated: EvaluationSet, analysis: Analysis, image: int, letters: float) -> list[Mark]:
    truth, detections, marks = evaluated.truth, evaluated.detections, analysis.marks
    names, kinds = evaluated.class_names, list(KINDS)
    chosen: list[tuple[str, Region, str]] = []
    for row in np.flatnonzero((truth.images == image) & ~analysis.matching.counted):
        chosen.append(("ignored", truth.regions[row], f"{names[truth.categories[row]]}, ignored"))
    begin, end = np.searchsorted(detections.images, [image, image + 1])
    for row in range(begin, end):
        text = f"{names[detections.categories[row]]} {detections.scores[row]:.2f}"
        if marks.hits[row]:
            chosen.append(("hit", detections.regions[row], text))
        elif marks.false_alarms[row]:
            kind = kinds[analysis.errors.kinds[row]]
            chosen.append(("alarm", detections.regions[row], f"{text}, {kind}"))
    for row in np.flatnonzero((truth.images == image) & marks.misses):
        chosen.append(("miss", truth.regions[row], f"{names[truth.categories[row]]}, missed"))
    boxes = np.array([_box(region) for _, region, _ in chosen]).reshape(-1, 4)
    # Wide enough for the letters of any font of a browser.
    sizes = np.array([(0.62 * letters * len(text), 1.2 * letters) for *_, text in chosen])
    width, height = evaluated.sizes[image]
    corners = place_labels(boxes, sizes.reshape(-1, 2), (float(width), float(height)))
    return [
        Mark(kind, _path(region), text, round(float(x), 1), round(float(y + letters), 1))
        for (kind, region, text), (x, y) in zip(chosen, corners, strict=True)
    ]


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


def _data_uri(pixels: np.ndarray) -> str:
    image = Image.fromarray(pixels)
    image.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    image.save(file, "WEBP", quality=QUALITY)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
