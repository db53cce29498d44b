"""Masks at the resolution of the image, in two matrix products.

Shape legend: R masks, m side of a mask in cells, H, W height and width of the image in pixels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def paste(masks: Tensor, boxes: Tensor, size: Tensor, threshold: float = 0.5) -> Tensor:
    """Return each mask at its place in the image, with the pixels of Detectron2's ``paste_masks_in_image``.

    Bilinear interpolation is linear along each axis, so that rows and columns are interpolated one after the
    other; unlike a grid of sampling points this needs no memory for coordinates.

    Args:
        masks: (R, m, m) float in [0, 1].
        boxes: (R, 4), xyxy in pixels of the image.
        size: (2,) int64, H and W.
        threshold: a pixel of at least this value belongs to the object.

    Returns:
        (R, H, W) bool.
    """
    side = masks.shape[1]
    rows = _weights(boxes[:, 1], boxes[:, 3], size[0], side)
    columns = _weights(boxes[:, 0], boxes[:, 2], size[1], side)
    return rows @ masks @ columns.transpose(1, 2) >= threshold


def _weights(start: Tensor, end: Tensor, pixels: Any, side: int) -> Tensor:
    """Return the weights of a mask's cells at each pixel along an axis, (R, pixels, m)."""
    centres = torch.arange(pixels, dtype=start.dtype) + 0.5
    places = (centres - start[:, None]) / (end - start)[:, None] * side - 0.5
    return (1 - (places[:, :, None] - torch.arange(side)).abs()).clamp(min=0)
