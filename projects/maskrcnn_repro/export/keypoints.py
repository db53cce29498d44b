"""Keypoints from heatmaps, all RoIs at once.

Shape legend: R RoIs, K keypoints, m side of a heatmap in cells, h, w pixels of the largest RoI.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

CUBIC = -0.75
"""The parameter of torch's bicubic kernel."""


def decode_keypoints(logits: Tensor, boxes: Tensor) -> Tensor:
    """Return where each heatmap, resized bicubically to the pixels of its box, is highest, and its score.

    Detectron2's ``heatmaps_to_keypoints`` resizes box after box; here the matrices that resize rows and columns
    are written out, padded to the largest box.

    Args:
        logits: (R, K, m, m) float32.
        boxes: (R, 4), xyxy in pixels of the network's input.

    Returns:
        (R, K, 3): x, y in pixels of the network's input, and the score.
    """
    sides = (boxes[:, 2:] - boxes[:, :2]).clamp(min=1)
    pixels = sides.ceil()
    # One pixel where there is no RoI.
    most = F.pad(pixels, (0, 0, 0, 1), value=1.0).amax(dim=0).long()
    columns = _resizing(pixels[:, 0], most[0], logits.shape[3]).transpose(1, 2)
    rows = _resizing(pixels[:, 1], most[1], logits.shape[2])
    outside = _outside(pixels, most)
    points = []
    # Keypoint after keypoint: the resized heatmaps of all of them would not fit into memory.
    for heatmaps in logits.unbind(1):
        resized = (rows @ heatmaps @ columns + outside).flatten(1)
        highest, cell = resized.max(dim=1)
        place = torch.stack([cell % most[0], cell // most[0]], dim=1)
        xy = (place + 0.5) * (sides / pixels) + boxes[:, :2]
        score = 1 / (heatmaps.flatten(1) - highest[:, None]).exp().sum(dim=1)
        points.append(torch.cat([xy, score[:, None]], dim=1))
    return torch.stack(points, dim=1)


def _resizing(pixels: Tensor, most: Any, cells: int) -> Tensor:
    """Return the weights of cells at each pixel along an axis, (R, most, cells)."""
    places = (torch.arange(most, dtype=pixels.dtype) + 0.5) * (cells / pixels)[:, None] - 0.5
    first = places.floor()
    share = places - first
    weights = torch.zeros(1, dtype=pixels.dtype)
    steps = torch.arange(cells, dtype=pixels.dtype)
    for tap, distance in ((-1, share + 1), (0, share), (1, 1 - share), (2, 2 - share)):
        cell = (first + tap).clamp(0, cells - 1)
        weights = weights + _cubic(distance)[:, :, None] * (cell[:, :, None] == steps)
    return weights


def _cubic(distance: Tensor) -> Tensor:
    """Return the bicubic kernel at distances from 0 to 2."""
    near = ((CUBIC + 2) * distance - (CUBIC + 3)) * distance * distance + 1
    far = ((CUBIC * distance - 5 * CUBIC) * distance + 8 * CUBIC) * distance - 4 * CUBIC
    return torch.where(distance <= 1, near, far)


def _outside(pixels: Tensor, most: Any) -> Tensor:
    """Return minus infinity where an RoI has no pixel, else 0: (R, h, w)."""
    x, y = (torch.arange(most[axis]) >= pixels[:, axis, None] for axis in (0, 1))
    outside = y[:, :, None] | x[:, None]
    return torch.zeros(1, dtype=pixels.dtype).masked_fill(outside, float("-inf"))
