"""How well a predicted mask covers its object: what the MaskIoU head learns (Mask Scoring R-CNN, Sec. 3.2).

Letters: R RoIs, m side of a mask in cells. Boxes are xyxy in pixels of the network's input.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from detectron2.structures import BitMasks, Instances
from pycocotools import mask as coco_mask
from torch import Tensor


def iou_targets(predicted: Tensor, truth: Tensor, visible: Tensor) -> Tensor:
    """Return the IoU (R,) of predicted masks with whole objects, of which the RoI may show a part.

    Args:
        predicted: (R, m, m) bool.
        truth: (R, m, m) bool: inside the object.
        visible: (R,), the fraction of the object that lies in the RoI.
    """
    predicted_area, shown, common = (
        cells.sum(dim=(1, 2)) for cells in (predicted, truth, predicted & truth)
    )
    union = predicted_area + shown / visible.clamp(min=1e-10) - common
    return common / union.clamp(min=1)


def visible_fractions(proposals: Sequence[Instances]) -> Tensor:
    """Return the fraction of each object's pixels that its RoI shows, (R,) float32.

    Args:
        proposals: of each image, with ``proposal_boxes`` and ``gt_masks`` (polygons or bitmaps).
    """
    fractions = []
    for image in proposals:
        boxes = image.proposal_boxes.tensor.cpu().numpy()
        of_object = _of_bitmap if isinstance(image.gt_masks, BitMasks) else _of_polygons
        masks = getattr(image.gt_masks, "polygons", None) or image.gt_masks.tensor
        pairs = zip(masks, boxes, strict=True)
        fractions += [float(of_object(mask, box)) for mask, box in pairs]
    return torch.tensor(fractions, dtype=torch.float32)


def _of_polygons(polygons: Sequence[np.ndarray], box: np.ndarray) -> float:
    corners = np.concatenate(polygons).reshape(-1, 2)
    # The grid of the whole object holds the RoI, too.
    low = np.minimum(np.floor(box[:2]), corners.min(axis=0))
    high = np.maximum(np.floor(box[2:]) + 1, corners.max(axis=0))
    whole = _area(polygons, low, high)
    return _area(polygons, box[:2], box[2:]) / whole if whole else 0.0


def _area(polygons: Sequence[np.ndarray], low: np.ndarray, high: np.ndarray) -> int:
    """Return the pixels of polygons, one by one, in a grid between two corners (x, y)."""
    columns, rows = np.maximum((high - low).astype(int), 1).tolist()
    shifted = [(polygon.reshape(-1, 2) - low).ravel().tolist() for polygon in polygons]
    return int(coco_mask.area(coco_mask.frPyObjects(shifted, rows, columns)).sum())


def _of_bitmap(bitmap: Tensor, box: np.ndarray) -> Tensor:
    x1, y1, x2, y2 = box.round().astype(int).clip(min=0).tolist()
    # A sum of bools takes fifteen times as long.
    shown, whole = map(torch.count_nonzero, (bitmap[y1:y2, x1:x2], bitmap))
    return shown / whole.clamp(min=1)
