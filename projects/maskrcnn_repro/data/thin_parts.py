"""How much of a mask is thinner than a cell of the feature map."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask


def thin_share(mask: NDArray[np.bool_], cell: int) -> float:
    """Return the share of a mask's pixels that no square of ``cell`` x ``cell`` pixels inside the mask covers.

    Args:
        mask: (H, W), with at least one pixel.
        cell: in pixels of the mask, 1 or more.
    """
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    mask = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    if cell > min(mask.shape):  # a kernel of such a cell could cost any memory
        return 1.0
    thick = cv2.morphologyEx(
        np.pad(mask.astype(np.uint8), 1),  # an even kernel shifts its result by a pixel
        cv2.MORPH_OPEN,
        np.ones((cell, cell), np.uint8),
        borderType=cv2.BORDER_CONSTANT,
        borderValue=0,
    )
    return 1 - int(thick.sum()) / int(mask.sum())


def outline_mask(segmentation: Any, height: int, width: int) -> NDArray[np.bool_]:
    """Return COCO's polygons, or one of its RLEs, as an (H, W) mask."""
    if isinstance(segmentation, dict) and isinstance(segmentation["counts"], str):
        return np.asarray(coco_mask.decode(segmentation), bool)
    rles = coco_mask.frPyObjects(segmentation, height, width)
    return np.asarray(
        coco_mask.decode(coco_mask.merge(rles) if isinstance(rles, list) else rles), bool
    )
