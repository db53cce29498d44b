"""Boundary AP (Cheng, Girshick, Dollár, Berg, Kirillov 2021): mask AP by how well outlines agree.

The IoU of two masks says little about the outline of a large object. Here a mask counts by the smaller of that IoU
and the IoU of the strips of pixels near both outlines.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from maskrcnn_repro.utils.rle import RLE

import cv2
import numpy as np
import pycocotools.mask
from pycocotools.cocoeval import COCOeval

STRIP = 0.02
"""Width of the strip, as a fraction of the image's diagonal; the paper's choice for COCO (Sec. 4.2)."""


def boundary(mask: RLE, strip: float = STRIP) -> RLE:
    """Return the pixels of a mask that lie near its outline, as an RLE of the same image.

    Args:
        mask: COCO's compressed run-length encoding.
        strip: a pixel is near where the square of pixels up to this fraction of the image's diagonal away (rounded, at
            least one pixel) holds one outside of the mask. What lies outside of the image is outside of the mask.
    """
    x, y, width, height = map(int, pycocotools.mask.toBbox(mask))
    if not width * height:
        return mask
    pixels = pycocotools.mask.decode(mask)
    # A border of what is outside, since nothing of the mask lies beyond its box.
    part = np.pad(pixels[y : y + height, x : x + width], 1)
    distance = max(1, round(strip * math.hypot(*mask["size"])))
    inner = cv2.erode(part, np.ones((2 * distance + 1,) * 2, np.uint8))
    pixels[y : y + height, x : x + width] -= inner[1:-1, 1:-1]
    return pycocotools.mask.encode(pixels)


def boundary_iou(masks: Sequence[RLE], others: Sequence[RLE]) -> np.ndarray:
    """Return how well each of N masks and each of M others agree, also near their outlines, (N, M) in [0, 1]."""
    crowds = [0] * len(others)
    strips = [[boundary(mask) for mask in side] for side in (masks, others)]
    whole, near = (pycocotools.mask.iou(*pair, crowds) for pair in ((masks, others), strips))
    return np.minimum(whole, near)


class BoundaryEvaluation(COCOeval):
    """COCO's mask evaluation in which overlaps are boundary IoUs; its ``iouType`` is ``segm``."""

    def computeIoU(self, imgId: int, catId: int) -> Any:
        """Return the overlaps of detections (best first) and objects of a class in an image."""
        overlaps = super().computeIoU(imgId, catId)
        if not len(overlaps):
            return overlaps
        key = imgId, catId
        masks = self._gts[key], self._dts[key]
        self._gts[key], self._dts[key] = map(_with_boundaries, masks)
        strips = super().computeIoU(imgId, catId)
        self._gts[key], self._dts[key] = masks
        # Of a crowd's region the outline is not an object's.
        objects = [not annotation["iscrowd"] for annotation in masks[0]]
        overlaps[:, objects] = np.minimum(overlaps, strips)[:, objects]
        return overlaps


def _with_boundaries(annotations: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{**a, "segmentation": boundary(a["segmentation"])} for a in annotations]
