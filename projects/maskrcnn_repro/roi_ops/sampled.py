"""RoIAlign (paper, Sec. 3) and RoIWarp (of MNC, as the paper uses it): samples in real-valued bins.

Shape legend: R RoIs, P rows and columns of the output (they may differ), S samples per side of an output
cell.
"""

from __future__ import annotations

import math

from maskrcnn_repro.roi_ops.grid import (
    bilinear_taps,
    cross_points,
    merge_taps,
    round_corners,
    sample_points,
)
from maskrcnn_repro.roi_ops.kernels import Bags, Kernel, SampleMaximum, WeightedSum
from maskrcnn_repro.roi_ops.levels import RoIMaps
from maskrcnn_repro.roi_ops.operation import RoIOperation
from maskrcnn_repro.roi_ops.plans import SampledPlan
from maskrcnn_repro.roi_ops.registry import ROI_OP_REGISTRY

import torch
import torch.nn.functional as F
from torchvision.ops import roi_align


class SampledOperation(RoIOperation):
    """RoIAlign and RoIWarp: maximum or average of the values at S x S regularly spaced points of each bin.

    With ``half_pixel`` half a cell is subtracted from the corners, after RoIWarp's rounding, and RoIs may be
    smaller than a cell.
    """

    rounded = False
    maximum = False

    def kernel(self, features: torch.Tensor, regions: torch.Tensor) -> Kernel:
        """See :class:`RoIOperation`."""
        images, _, height, width = features.shape
        points_y, points_x = self._axes(regions)
        rows, row_shares = bilinear_taps(points_y, height)
        columns, column_shares = bilinear_taps(points_x, width)
        if not self.maximum:
            row_shares = merge_taps(rows, row_shares / self.samples)
            column_shares = merge_taps(columns, column_shares / self.samples)
        rows = (rows + regions[:, 0].int()[:, None, None, None] * height) * width
        # Average: one bag per bin. Max: one bag per sample. A sample has 4 taps.
        bag = (-1, 4 if self.maximum else 4 * self.samples**2)
        index = (_expand_rows(rows) + _along(columns)).view(bag)
        weight = (_expand_rows(row_shares) * _along(column_shares)).view(bag)
        bags, cells = Bags.from_taps(index, weight), images * height * width
        if self.maximum:
            return SampleMaximum(bags, self.samples**2, cells)
        return WeightedSum(bags, cells)

    def plan(self, rois: torch.Tensor, maps: RoIMaps, dtype: torch.dtype) -> SampledPlan:
        """See :class:`RoIOperation`."""
        regions = self.regions(rois, dtype, scale=maps.scale)
        points_y, points_x = self._axes(regions)
        rows = bilinear_taps(points_y, maps.height[:, None, None])
        columns = bilinear_taps(points_x, maps.width[:, None, None])
        return SampledPlan(maps, regions[:, 0].long(), *rows, *columns, self.maximum)

    def torchvision(self, features: torch.Tensor, regions: torch.Tensor) -> torch.Tensor:
        """See :class:`RoIOperation`."""
        # Scale 1, as regions are in feature cells.
        size, samples = self.output_size, self.samples
        if not self.maximum:
            return roi_align(features, regions, size, 1.0, samples, self.half_pixel)
        # torchvision only averages samples: take one sample per cell of a finer grid, then their maximum.
        points = (size[0] * samples, size[1] * samples)
        return F.max_pool2d(roi_align(features, regions, points, 1.0, 1, self.half_pixel), samples)

    def rows_pay(self, features: torch.Tensor, rois: int, trains: bool) -> bool:
        """See :class:`RoIOperation`.

        Measured: torchvision's forward takes 19 ns per number of an average and its backward three times that, a
        transposed copy of the map 1 ns per number of the map; training copies the gradient, too.
        """
        # Both limits lie above the measured ones, on the side that copies nothing.
        samples = rois * math.prod(self.output_size) * self.samples**2
        return samples * (4 if trains else 2) > features.numel() // features.shape[1]

    def sampling_points(self, rois: torch.Tensor) -> torch.Tensor:
        """See :class:`RoIOperation`."""
        y, x = self._axes(self.regions(rois))
        return cross_points(y, x)

    def _quantized(self, corners: torch.Tensor) -> torch.Tensor:
        return round_corners(corners) if self.rounded else corners

    def _axes(self, regions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return y, (R, rows, S), and x, (R, columns, S), of the sampled points."""
        _, left, top, right, bottom = regions.unbind(1)
        rows, columns = self.output_size
        return (
            sample_points(top, bottom, rows, self.samples, self.half_pixel),
            sample_points(left, right, columns, self.samples, self.half_pixel),
        )


@ROI_OP_REGISTRY.register()
class RoIWarpMax(SampledOperation):
    """RoIWarp (of MNC, as the paper uses it) with the maximum of the samples."""

    rounded, maximum = True, True


@ROI_OP_REGISTRY.register()
class RoIWarpAve(SampledOperation):
    """RoIWarp (of MNC, as the paper uses it) with the average of the samples."""

    rounded = True


@ROI_OP_REGISTRY.register()
class RoIAlignMax(SampledOperation):
    """RoIAlign with the maximum of the samples."""

    maximum = True


@ROI_OP_REGISTRY.register()
class RoIAlignAve(SampledOperation):
    """RoIAlign with the average of the samples: what the paper uses outside of Table 2c."""


def _expand_rows(rows: torch.Tensor) -> torch.Tensor:
    """Expand the taps of rows, (R, P, S, 2), to (R, P, 1, S * S * 4): one entry per pair with a column's tap."""
    samples = rows.shape[2]
    taps = rows[:, :, :, None, :, None].expand(-1, -1, samples, samples, 2, 2)
    return taps.flatten(2)[:, :, None]


def _along(columns: torch.Tensor) -> torch.Tensor:
    """Expand the taps of columns, (R, P, S, 2), to (R, 1, P, S * S * 4), in the order of :func:`_expand_rows`."""
    samples = columns.shape[2]
    taps = columns[:, :, None, :, None, :].expand(-1, -1, samples, samples, 2, 2)
    return taps.flatten(2)[:, None]
