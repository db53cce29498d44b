"""The worst images with their marks, bounded in bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from maskrcnn_repro.analysis.analysis import Analysis
from maskrcnn_repro.analysis.evaluation_set import EvaluationSet
from maskrcnn_repro.analysis.overlay import Mark, overlay
from maskrcnn_repro.data.image_file import ImageError, ImageFiles
from maskrcnn_repro.visualization.encoding import data_uri, encode_picture

import numpy as np

SIDE = 800
"""Longest side of a picture in pixels."""
QUALITY = 80
MOST_BYTES = 8_000_000
"""Of all pictures of a page; further images are left out."""


@dataclass(frozen=True)
class Picture:
    """An image and its marks.

    Attributes:
        name: of the file.
        width, height: of the image in pixels, which the marks are in.
        source: the image as a data URI, at most :data:`SIDE` pixels wide or high.
        counts: hits, misses and false alarms.
        marks: shapes over the image.
        letters: height of their letters, in pixels of the image.
    """

    name: str
    width: int
    height: int
    source: str
    counts: Sequence[int]
    marks: Sequence[Mark]
    letters: float


@dataclass
class Pictures:
    """The pictures of a page, and what is not among them.

    Attributes:
        shown: the worst images, worst first.
        unreadable: sentence about each image that cannot be read.
        left_out: images with errors that are not shown: beyond the most that were asked for, or without room.
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
        marks, letters = overlay(evaluated, analysis, int(image))
        size += len(source) + sum(len(mark.path) for mark in marks)
        if size > MOST_BYTES:
            result.left_out = len(wrong) - done
            return result
        counts = [int(count) for count in analysis.marks.counts[image]]
        name = Path(evaluated.files[image]).name
        result.shown.append(Picture(name, width, height, source, counts, marks, letters))
    result.left_out = max(0, len(wrong) - most)
    return result


def _data_uri(pixels: np.ndarray) -> str:
    return data_uri(encode_picture(pixels, "WEBP", longest=SIDE, quality=QUALITY), "WEBP")
