"""Pairs of a detection and an object that overlap, of the same class or not.

Shape legend: P pairs, D detections, G objects.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from maskrcnn_repro.analysis.evaluation_set import EvaluationSet, Regions

import numpy as np
from pycocotools import mask as rle_codec

TOUCHING = 0.1
"""Least IoU of a pair: below it, a detection is said to lie on background [TIDE, Sec. 2.2]."""


@dataclass(frozen=True)
class Pairs:
    """Pairs by rising IoU; of equal ones, the later object comes last.

    Attributes:
        detections: (P,) int.
        objects: (P,) int.
        ious: (P,) float; with a crowd, the share of the detection that lies in it.
        same_class: (P,) bool.
    """

    detections: np.ndarray
    objects: np.ndarray
    ious: np.ndarray
    same_class: np.ndarray

    def where(self, mask: np.ndarray) -> Pairs:
        """Return the pairs that ``mask``, (P,) bool, chooses."""
        return Pairs(
            *(
                values[mask]
                for values in (self.detections, self.objects, self.ious, self.same_class)
            )
        )


def overlaps(evaluated: EvaluationSet) -> Pairs:
    """Return all pairs within an image whose IoU is at least :data:`TOUCHING`, by pycocotools' own IoU."""
    truth, detections = evaluated.truth, evaluated.detections
    by_image = np.argsort(truth.images, kind="stable")
    count = len(evaluated.image_ids)
    object_ends = np.searchsorted(truth.images[by_image], np.arange(count + 1))
    detection_ends = np.searchsorted(detections.images, np.arange(count + 1))
    parts = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]
    for image in range(count):
        objects = by_image[object_ends[image] : object_ends[image + 1]]
        begin, end = detection_ends[image : image + 2]
        if len(objects) and begin < end:
            ious = rle_codec.iou(
                _select(detections.regions, np.arange(begin, end)),
                _select(truth.regions, objects),
                truth.crowd[objects].tolist(),
            )
            rows, columns = np.nonzero(ious >= TOUCHING)
            parts.append((begin + rows, objects[columns], ious[rows, columns]))
    rows, objects, ious = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.lexsort((objects, ious))
    rows, objects, ious = rows[order], objects[order], ious[order]
    return Pairs(rows, objects, ious, detections.categories[rows] == truth.categories[objects])


def _select(regions: Regions, rows: np.ndarray) -> Any:
    return regions[rows] if isinstance(regions, np.ndarray) else [regions[row] for row in rows]


def find_last(keys: np.ndarray, values: np.ndarray, count: int) -> np.ndarray:
    """Return of each key from 0 to ``count`` the last of its values, -1 without any, (count,) int.

    With pairs by rising IoU, it is the one with the highest.
    """
    result = np.full(count, -1)
    # Of repeated indices NumPy leaves the last value.
    result[keys] = values
    return result
