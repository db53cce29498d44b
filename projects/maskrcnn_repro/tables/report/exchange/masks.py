"""What the operations make of one object: its masks, their IoUs with it, and where they lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from maskrcnn_repro.tables.report.exchange.model import ALIGN, ByOperation
from maskrcnn_repro.utils.rle import RLE

import numpy as np
from pycocotools import mask as coco_mask

Masks = Mapping[str, RLE]
"""Operation to a mask of the whole image."""


@dataclass(frozen=True)
class Compared:
    """An object that all models detect; lengths are in pixels of the network's input.

    Attributes:
        record: of its image, Detectron2's dict.
        category: number of its class.
        scale: pixels of the input per pixel of the file, along x and y.
        cells: the root of the area of its box, in cells.
        roi: x1, y1, x2, y2, the box that the masks are predicted in.
        corners: as in :class:`~maskrcnn_repro.tables.report.exchange.model.SizeBin`.
        bins: as there.
        truth: the object.
        exchanged: the masks with the same weights.
        trained: those of the trained models.
    """

    record: Mapping[str, Any]
    category: int
    scale: tuple[float, float]
    cells: float
    roi: np.ndarray
    corners: ByOperation
    bins: ByOperation
    truth: RLE
    exchanged: Masks
    trained: Masks

    @cached_property
    def exchanged_iou(self) -> ByOperation:
        """IoU with the object of each of ``exchanged``."""
        return _ious(self.exchanged, self.truth)

    @cached_property
    def trained_iou(self) -> ByOperation:
        """IoU with the object of each of ``trained``."""
        return _ious(self.trained, self.truth)

    @cached_property
    def centroids(self) -> ByOperation:
        """How far the centroids of ``exchanged`` lie from RoIAlign's; NaN where there is no mask."""
        places = {name: centroid(mask) for name, mask in self.exchanged.items()}
        return {
            name: float(np.linalg.norm((place - places[ALIGN]) * self.scale))
            for name, place in places.items()
        }

    @property
    def difference(self) -> float:
        """The highest IoU less the lowest, of the same weights."""
        return max(self.exchanged_iou.values()) - min(self.exchanged_iou.values())


def centroid(mask: RLE) -> np.ndarray:
    """Return the mean x and y of a mask's pixels, (2,); NaN for an empty one."""
    rows, columns = np.nonzero(coco_mask.decode(mask))
    if not len(rows):
        return np.full(2, np.nan)
    return np.array([columns.mean(), rows.mean()])


def _ious(masks: Masks, truth: RLE) -> ByOperation:
    ious = coco_mask.iou(list(masks.values()), [truth], [0])[:, 0]
    return dict(zip(masks, ious.tolist(), strict=True))
