"""Detectron2's RoIAlign, which by default takes as many samples as an RoI has cells, with the kernels of our operations.

Shape legend: R RoIs, P rows and columns of the output.
"""

from __future__ import annotations

from typing import Any

from maskrcnn_repro.roi_ops.kernels import Bags, WeightedSum
from maskrcnn_repro.roi_ops.operation import RoIOperation
from maskrcnn_repro.roi_ops.rectangles import Bins, rectangles
from maskrcnn_repro.roi_ops.sampled import RoIAlignAve

import torch
from detectron2.layers import ROIAlign
from torchvision.ops import roi_align


class AdaptiveRoIAlign(RoIOperation):
    """The average of the samples of each bin, which an RoI's size decides the number of.

    Args:
        bins: what to compute.
        spatial_scale: feature cells per pixel of the network's input.
    """

    def __init__(self, bins: Bins, spatial_scale: float) -> None:
        super().__init__(bins.size, spatial_scale, half_pixel=bins.half_pixel)
        self.bins = bins

    def kernel(self, features: torch.Tensor, regions: torch.Tensor) -> WeightedSum:
        """See :class:`RoIOperation`."""
        images, _, height, width = features.shape
        groups = [*rectangles(regions, self.bins, height, width)]
        most = max((index.shape[1] for _, index, _ in groups), default=1)
        bins = self.output_size[0] * self.output_size[1]
        index = torch.zeros(len(regions), bins, most, dtype=torch.int32)
        weights = regions.new_zeros(index.shape)
        for chosen, cells, shares in groups:
            size = cells.shape[1]
            index[chosen, :, :size] = cells.view(len(chosen), bins, size)
            weights[chosen, :, :size] = shares.view(len(chosen), bins, size)
        bags = Bags.from_taps(index.flatten(0, 1), weights.flatten(0, 1))
        return WeightedSum(bags, images * height * width)

    def torchvision(self, features: torch.Tensor, regions: torch.Tensor) -> torch.Tensor:
        """See :class:`RoIOperation`."""
        samples = self.bins.samples or -1
        return roi_align(features, regions, self.output_size, 1.0, samples, self.half_pixel)


def bins_of(pooler: Any) -> Bins | None:
    """Return what a pooler computes, Detectron2's or ours, or None if it is not RoIAlign with averages."""
    operations = [*pooler.level_poolers]
    kinds = {type(operation) for operation in operations}
    first, step = operations[0], getattr(pooler, "step", 1)
    size = (int(pooler.output_size[0]), int(pooler.output_size[1]))
    if kinds == {RoIAlignAve}:
        return Bins(size, first.samples, first.half_pixel, step)
    if kinds == {ROIAlign}:
        return Bins(size, max(0, first.sampling_ratio), first.aligned, step)
    return None
