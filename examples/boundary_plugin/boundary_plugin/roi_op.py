"""An RoI operation put together from two registered ones."""

from __future__ import annotations

from typing import Any

from maskrcnn_repro.roi_ops import ROI_OP_REGISTRY, build_roi_op

import torch
from torch import nn


@ROI_OP_REGISTRY.register()
class RoIAlignMixed(nn.Module):
    """The mean of RoIAlign's average and maximum (mixed pooling, Yu et al. 2014).

    Args:
        output_size: rows and columns of the output, cells.
        spatial_scale: feature cells per pixel of the network's input.
        **sampling: ``samples`` and ``half_pixel``.
    """

    def __init__(self, output_size: tuple[int, int], spatial_scale: float, **sampling: Any) -> None:
        super().__init__()
        self.average = build_roi_op("RoIAlignAve", output_size, spatial_scale, **sampling)
        self.maximum = build_roi_op("RoIAlignMax", output_size, spatial_scale, **sampling)

    def forward(self, features: torch.Tensor, rois: torch.Tensor) -> torch.Tensor:
        """Pool.

        Args:
            features: (N, C, H, W).
            rois: (R, 5): index of the image, then x1, y1, x2, y2 in pixels of the network's input.

        Returns:
            (R, C, *output_size).
        """
        return (self.average(features, rois) + self.maximum(features, rois)) / 2
