"""RoI pooling from one feature map or from the levels of a feature pyramid (FPN, arXiv 1612.03144).

Letters: N images, R RoIs of all N images together, C channels, P x Q cells of a pooled RoI.
Boxes are xyxy in pixels of the network's input; a pooler scales them to feature cells itself.
"""

import functools
import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F
from torchvision.ops import RoIPool

from detectron2._absent import module_getattr
from detectron2.layers import ROIAlign
from detectron2.structures import Boxes

__all__ = ["ROIPooler"]


def assign_boxes_to_levels(
    box_lists: list[Boxes],
    min_level: int,
    max_level: int,
    canonical_box_size: int,
    canonical_level: int,
) -> torch.Tensor:
    """Choose the pyramid level of every box by its size (FPN, eq. 1).

    Args:
        box_lists: the boxes of each image.
        min_level: finest level there is; level L has stride 2**L.
        max_level: coarsest level there is.
        canonical_box_size: side in pixels of the square box that belongs on ``canonical_level``.
        canonical_level: level of a box of that size; each doubling of the side is one level more.

    Returns:
        (R,) int64, the level of each box counted from ``min_level``; too small and too large boxes
        go to the nearest level there is.
    """
    sides = torch.cat([boxes.area() for boxes in box_lists]).sqrt()
    # 1e-8 lifts a side that rounding left just below a quarter of the canonical one, or less, to
    # the level that begins there, as in Detectron2. Empty boxes (log2 of 0) are for the clamp.
    exact = canonical_level + torch.log2(sides / canonical_box_size + 1e-8)
    return exact.floor().clamp(min_level, max_level).long() - min_level


def convert_boxes_to_pooler_format(box_lists: list[Boxes]) -> torch.Tensor:
    """Return all boxes as (R, 5): index of the image in the batch, x1, y1, x2, y2."""
    return torch.cat(
        [F.pad(boxes.tensor, (1, 0), value=image) for image, boxes in enumerate(box_lists)]
    )


_LEVEL_POOLERS = {
    # V2 shifts by half a cell: a pixel's value belongs to its centre, not to its corner.
    "ROIAlignV2": ROIAlign,
    "ROIAlign": functools.partial(ROIAlign, aligned=False),
    "ROIPool": lambda size, scale, sampling_ratio: RoIPool(size, scale),
}


def _levels_of(scales: Sequence[float]) -> list[int]:
    levels = [round(-math.log2(scale)) for scale in scales]
    if any(abs(scale * 2**level - 1) > 1e-9 for scale, level in zip(scales, levels, strict=True)):
        raise ValueError(f"Pooler scales must be 1/stride with strides powers of 2, not {scales}")
    if levels[0] < 0 or levels != list(range(levels[0], levels[0] + len(levels))):
        raise ValueError(f"Pooler scales must halve from one level to the next, not {scales}")
    return levels


class ROIPooler(nn.Module):
    """Crop RoIs out of feature maps, each RoI from the one level that fits its size.

    Args:
        output_size: P and Q, or one number for both.
        scales: 1/stride of every feature map, finest first, each half of the one before.
        sampling_ratio: sample points per cell and axis for RoIAlign; 0 means as many as feature
            cells lie in the cell.
        pooler_type: "ROIAlignV2" (half-pixel centres), "ROIAlign" or "ROIPool".
        canonical_box_size: see :func:`assign_boxes_to_levels`.
        canonical_level: see :func:`assign_boxes_to_levels`.

    Raises:
        ValueError: unknown type, or scales that form no pyramid.
    """

    def __init__(
        self,
        output_size: int | Sequence[int],
        scales: Sequence[float],
        sampling_ratio: int,
        pooler_type: str,
        canonical_box_size: int = 224,
        canonical_level: int = 4,
    ):
        super().__init__()
        pair = (output_size, output_size) if isinstance(output_size, int) else tuple(output_size)
        if len(pair) != 2 or not all(isinstance(side, int) for side in pair):
            raise ValueError(f"output_size must be one or two integers, not {output_size!r}")
        if canonical_box_size <= 0:
            raise ValueError(f"canonical_box_size must be positive, not {canonical_box_size}")
        if pooler_type not in _LEVEL_POOLERS:
            kinds = ", ".join(_LEVEL_POOLERS)
            raise ValueError(f"Unknown pooler type {pooler_type!r}; choose {kinds}")
        build = _LEVEL_POOLERS[pooler_type]
        self.output_size = pair
        levels = _levels_of(scales)
        self.min_level, self.max_level = levels[0], levels[-1]
        self.canonical_box_size, self.canonical_level = canonical_box_size, canonical_level
        self.level_poolers = nn.ModuleList(build(pair, scale, sampling_ratio) for scale in scales)

    def forward(self, x: list[torch.Tensor], box_lists: list[Boxes]) -> torch.Tensor:
        """Pool every box.

        Args:
            x: one (N, C, H, W) map per scale, in the order of ``scales``.
            box_lists: the boxes of each of the N images.

        Returns:
            (R, C, P, Q), in the order of the boxes.

        Raises:
            ValueError: the number of maps is not that of the scales, or N not that of the lists.
        """
        if len(x) != len(self.level_poolers):
            raise ValueError(f"{len(self.level_poolers)} feature maps expected, {len(x)} given")
        if len(box_lists) != x[0].size(0):
            raise ValueError(f"Boxes of {len(box_lists)} images given for {x[0].size(0)} images")
        if not box_lists:
            return x[0].new_zeros(0, x[0].size(1), *self.output_size)

        rois = convert_boxes_to_pooler_format(box_lists)
        if len(x) == 1:
            return self.level_poolers[0](x[0], rois)

        canonical = self.canonical_box_size, self.canonical_level
        levels = assign_boxes_to_levels(box_lists, self.min_level, self.max_level, *canonical)
        pooled = x[0].new_zeros(rois.size(0), x[0].size(1), *self.output_size)
        for i, (features, pooler) in enumerate(zip(x, self.level_poolers, strict=True)):
            chosen = torch.nonzero(levels == i).squeeze(1)
            # Not `pooled[chosen] = ...`: traced with one RoI on a level, that is wrong for two.
            pooled.index_copy_(0, chosen, pooler(features, rois[chosen]))
        return pooled


__getattr__ = module_getattr(__name__)
