"""The RoI operation as a pooler of Detectron2's heads, over one feature map or the levels of a pyramid.

Shape legend: N images, C channels, R RoIs of all images together, P rows and columns of the output.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from maskrcnn_repro.errors import ConfigError
from maskrcnn_repro.pooler_keys import operation_of
from maskrcnn_repro.roi_ops.choice import check_kernel, takes_triton
from maskrcnn_repro.roi_ops.fused import MOST_LEVELS, by_cell, pool_levels
from maskrcnn_repro.roi_ops.levels import RoIMaps
from maskrcnn_repro.roi_ops.pooling import is_channels_last, is_traced
from maskrcnn_repro.roi_ops.registry import build_roi_op
from maskrcnn_repro.roi_ops.roi_pool import RoIPool
from maskrcnn_repro.roi_ops.sampled import RoIAlignAve, RoIAlignMax, RoIWarpAve, RoIWarpMax

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling.poolers import ROIPooler
from detectron2.structures import Boxes
from torch import nn
from torch.autograd.function import once_differentiable

FUSED = (RoIPool, RoIWarpMax, RoIWarpAve, RoIAlignMax, RoIAlignAve)
"""The operations that Triton kernels compute."""


class RoIOpPooler(nn.Module):
    """Crop RoIs out of feature maps by a registered operation; takes the place of D2's ``ROIPooler``.

    Args:
        name: of the operation.
        output_size: rows and columns of the output, cells.
        scales: feature cells per pixel of the network's input for each level, finest first; each level
            has half the scale of the one before.
        samples: per side of an output cell.
        half_pixel: subtract half a feature cell from coordinates.
        canonical_box_size: an RoI of this side, pixels of the network's input, is read from
            ``canonical_level`` (FPN, eq. 1).
        canonical_level: see above; level k has scale 2**-k.
        kernel: "auto", the operations of :data:`FUSED` by Triton kernels on GPUs where Triton works; "torch",
            never; "triton", always. The numbers agree up to rounding.

    Raises:
        ConfigError: no such operation or kernel, or the scales are no pyramid.
    """

    def __init__(
        self,
        name: str,
        output_size: tuple[int, int],
        scales: Sequence[float],
        *,
        samples: int = 2,
        half_pixel: bool = False,
        canonical_box_size: float = 224,
        canonical_level: int = 4,
        kernel: str = "auto",
    ) -> None:
        super().__init__()
        check_kernel(kernel)
        self.kernel = kernel
        self.output_size = output_size
        self.min_level = round(-math.log2(scales[0]))
        # Compared without a tolerance: powers of two are exact.
        if list(scales) != [2.0 ** -(self.min_level + i) for i in range(len(scales))]:
            raise ConfigError(
                f"The levels of a pooler have scales 1/2**k, each half of the one before, not {scales}."
            )
        if not canonical_box_size > 0:
            raise ConfigError(
                f"MODEL.ROI_OP.CANONICAL_BOX_SIZE is {canonical_box_size}; a side in pixels is above 0."
            )
        self.canonical_box_size = canonical_box_size
        self.canonical_level = canonical_level
        self.level_poolers = nn.ModuleList(
            build_roi_op(name, output_size, scale, samples=samples, half_pixel=half_pixel)
            for scale in scales
        )

    def forward(self, features: Sequence[torch.Tensor], boxes: Sequence[Boxes]) -> torch.Tensor:
        """Pool all boxes of all images.

        Args:
            features: (N, C, H, W) for each level.
            boxes: for each of the N images, in pixels of the network's input.

        Returns:
            (R, C, P, P), in the order of the boxes.

        Raises:
            ValueError: the number of maps is not that of the scales, or not every image has boxes.
        """
        if len(features) != len(self.level_poolers):
            raise ValueError(
                f"This pooler reads {len(self.level_poolers)} feature maps, not {len(features)}."
            )
        if len(boxes) != len(features[0]):
            raise ValueError(
                f"The boxes are those of {len(boxes)} images, the features of {len(features[0])}."
            )
        rois = rois_of(boxes, features[0])
        if self._fuses(features, rois):
            return self._pool_fused(features, rois)
        if len(self.level_poolers) == 1:
            return self.level_poolers[0](features[0], rois)
        levels = self.assign_levels(rois)
        parts = [
            operation(level_map, rois[levels == level])
            for level, (operation, level_map) in enumerate(
                zip(self.level_poolers, features, strict=True)
            )
        ]
        # Without RoIs there would be nothing to stack.
        if not is_traced() and rois.device.type == "cpu" and len(rois):
            return _Merge.apply(levels, *parts)
        # Sorted twice: the inverse of the order in which the parts lie, level after level. Stable, as within a level
        # the boxes keep their order.
        return torch.cat(parts)[levels.argsort(stable=True).argsort()]

    def assign_levels(self, rois: torch.Tensor) -> torch.Tensor:
        """Choose the level of each RoI by its size (FPN, eq. 1).

        Args:
            rois: (R, 5), see :func:`rois_of`.

        Returns:
            (R,) int64, counted from the finest level; what is too small or too large for the levels there
            are goes to the nearest.
        """
        side = ((rois[:, 3] - rois[:, 1]) * (rois[:, 4] - rois[:, 2])).sqrt()
        # 1e-8 as in Detectron2, so that rounding moves the same RoIs; log2(0) is left to the clamp.
        level = (self.canonical_level + torch.log2(side / self.canonical_box_size + 1e-8)).floor()
        return (level - self.min_level).clamp(0, len(self.level_poolers) - 1).nan_to_num(0).long()

    def _fuses(self, features: Sequence[torch.Tensor], rois: torch.Tensor) -> bool:
        """Tell whether one launch of a Triton kernel pools all levels."""
        # Traced first: the number of RoIs would become a constant.
        if is_traced() or not len(rois) or len(features) > MOST_LEVELS:
            return False
        # Classes of plug-ins have rules of their own, those that inherit from ours, too.
        return type(self.level_poolers[0]) in FUSED and takes_triton(self.kernel, features)

    def _pool_fused(self, features: Sequence[torch.Tensor], rois: torch.Tensor) -> torch.Tensor:
        channels_last = by_cell(features)
        strides = [2 ** (self.min_level + level) for level in range(len(features))]
        shapes = [level.shape for level in features]
        maps = RoIMaps.of(shapes, strides, self.assign_levels(rois), channels_last)
        operation: Any = self.level_poolers[0]  # the levels differ in their scales, which maps has
        plan = operation.plan(rois, maps, features[0].dtype)
        return pool_levels(features, plan, channels_last)


class _Merge(torch.autograd.Function):
    """Lay the levels' outputs in the order of the RoIs; every number is written once, forward and backward.

    On a CPU the backward of ``cat`` and indexing, which would do, costs as much as the operation itself.
    """

    @staticmethod
    def forward(ctx: Any, levels: torch.Tensor, *parts: torch.Tensor) -> torch.Tensor:
        ctx.chosen = [(levels == level).nonzero().squeeze(1) for level in range(len(parts))]
        ctx.by_cell = all(is_channels_last(part) for part in parts if len(part))
        rows = [iter(_in_memory_order(part, ctx.by_cell).unbind()) for part in parts]
        merged = torch.stack([next(rows[level]) for level in levels.tolist()])
        return merged.permute(0, 3, 1, 2) if ctx.by_cell else merged

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        rows = _in_memory_order(grad, ctx.by_cell)
        parts = [rows.index_select(0, index) for index in ctx.chosen]
        return None, *(part.permute(0, 3, 1, 2) if ctx.by_cell else part for part in parts)


def _in_memory_order(pooled: torch.Tensor, by_cell: bool) -> torch.Tensor:
    return pooled.permute(0, 2, 3, 1) if by_cell else pooled


def rois_of(boxes: Sequence[Boxes], like: torch.Tensor) -> torch.Tensor:
    """Return all boxes as (R, 5): index of the image, x1, y1, x2, y2 in pixels; (0, 5) for no image."""
    # Not by the number of boxes, which tracing would keep as a constant.
    rows = [F.pad(image.tensor, (1, 0), value=index) for index, image in enumerate(boxes)]
    return torch.cat(rows) if rows else like.new_zeros(0, 5, dtype=torch.float32)


def build_pooler(
    cfg: CfgNode,
    head: str,
    input_shape: Mapping[str, ShapeSpec],
    *,
    in_features: Sequence[str] | None = None,
    side: int | None = None,
) -> RoIOpPooler | ROIPooler:
    """Build the pooler of a head, as its config and the feature maps say: Detectron2's if no operation is named.

    Args:
        cfg: ``MODEL.ROI_OP``, the head's ``ROI_OP`` and ``POOLER_*``, ``MODEL.ROI_HEADS.IN_FEATURES``.
        head: a node of ``MODEL``, such as ``ROI_BOX_HEAD``.
        input_shape: the feature maps by name, with their strides in pixels of the network's input.
        in_features: maps to pool from in place of the config's.
        side: rows and columns of the output in place of the config's, cells.

    Raises:
        ConfigError: the operation is not registered, the maps are no pyramid, or Triton is asked for and missing.
    """
    op, keys = cfg.MODEL.ROI_OP, cfg.MODEL[head]
    side = side or keys.POOLER_RESOLUTION
    scales = [
        1 / input_shape[name].stride for name in in_features or cfg.MODEL.ROI_HEADS.IN_FEATURES
    ]
    name = operation_of(cfg.MODEL, head)
    if not name:
        return ROIPooler(side, scales, keys.POOLER_SAMPLING_RATIO, keys.POOLER_TYPE)
    return RoIOpPooler(
        name,
        (side, side),
        scales,
        samples=op.SAMPLES,
        half_pixel=op.HALF_PIXEL,
        canonical_box_size=op.CANONICAL_BOX_SIZE,
        canonical_level=op.CANONICAL_LEVEL,
        kernel=op.KERNEL,
    )
