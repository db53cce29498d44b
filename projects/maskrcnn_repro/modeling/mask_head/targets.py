"""What a mask branch learns: the intersection of each RoI with its object's mask (Sec. 3.1).

Letters: R RoIs of an image, m side of a target in cells, H and W of the image in pixels, L one of the two.
"""

from __future__ import annotations

from maskrcnn_repro.roi_ops.rectangles import Axis, Bins

import torch
from detectron2.structures import BitMasks, Instances
from torch import Tensor


def mask_targets(proposals: list[Instances], side: int) -> Tensor:
    """Return the intersection of each RoI with its object's mask (Sec. 3.1), (R, m, m), bool; R of all images.

    Args:
        proposals: of each image that has any, with ``proposal_boxes`` and ``gt_masks`` (polygons or
            bitmaps).
        side: m, cells.
    """
    if not proposals:
        return torch.zeros(0, side, side, dtype=torch.bool)
    return torch.cat(
        [_targets(image.gt_masks, image.proposal_boxes.tensor, side) for image in proposals]
    )


def _targets(masks: BitMasks, boxes: Tensor, side: int) -> Tensor:
    if type(masks) is BitMasks and masks.device.type == boxes.device.type == "cpu":
        return crop_bitmaps(masks.tensor, boxes, side)
    targets: Tensor = masks.crop_and_resize(boxes, side)
    return targets


def crop_bitmaps(bitmaps: Tensor, boxes: Tensor, side: int) -> Tensor:
    """Return what ``BitMasks.crop_and_resize`` does: RoIAlign of each bitmap, at least half covered, (R, m, m), bool.

    RoIAlign weighs rows and columns apart, so that a target is the product of three matrices, of which the second is the
    bitmap within the RoI; a fifth of the time of sampling it, and without a copy of all bitmaps in float32.

    Args:
        bitmaps: (R, H, W), bool, on the CPU.
        boxes: (R, 4), x1, y1, x2, y2 in pixels, float32.
        side: m, cells.
    """
    # Mixed precision would multiply in bfloat16, and decide other cells.
    with torch.autocast("cpu", enabled=False):
        return _shares(bitmaps, boxes, side) >= 0.5


def _shares(bitmaps: Tensor, boxes: Tensor, side: int) -> Tensor:
    """Return the share of each cell that is covered, (R, m, m)."""
    # As Detectron2's: as many samples as pixels lie in a cell.
    bins = Bins((side, side), samples=0, half_pixel=True)
    vertical = Axis.of(boxes[:, 1], boxes[:, 3], bins, 0, bitmaps.shape[1])
    horizontal = Axis.of(boxes[:, 0], boxes[:, 2], bins, 1, bitmaps.shape[2])
    rows, columns = vertical.sums(), horizontal.sums()
    shares = boxes.new_zeros(len(boxes), side, side)
    extents = zip(_extents(rows), _extents(columns), strict=True)
    for roi, (high, wide) in enumerate(extents):
        inside = bitmaps[roi, high, wide].to(shares.dtype)
        shares[roi] = rows[roi, :, high] @ inside @ columns[roi, :, wide].T
    # Divided last, as in torchvision: thirds and fifths would not add up to one half.
    return shares / (vertical.samples * horizontal.samples).clamp(min=1)[:, None, None]


def _extents(weights: Tensor) -> list[slice]:
    """Return the pixels along an axis that each RoI reads, of weights (R, m, L)."""
    read = (weights != 0).any(dim=1).int()
    first, last = read.argmax(dim=1), read.shape[1] - read.flip(1).argmax(dim=1)
    return [slice(a, b) for a, b in zip(first.tolist(), last.tolist(), strict=True)]
