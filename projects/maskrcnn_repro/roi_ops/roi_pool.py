"""RoIPool (of Fast R-CNN): the maximum over the whole cells of each bin.

Shape legend: R RoIs, P rows and columns of the output (they may differ).
"""

from __future__ import annotations

import math

from maskrcnn_repro.roi_ops.grid import cross_points, pool_bins
from maskrcnn_repro.roi_ops.kernels import CellMaximum, Kernel
from maskrcnn_repro.roi_ops.levels import RoIMaps
from maskrcnn_repro.roi_ops.operation import RoIOperation
from maskrcnn_repro.roi_ops.plans import PoolPlan
from maskrcnn_repro.roi_ops.registry import ROI_OP_REGISTRY

import torch
from torchvision.ops import roi_pool


@ROI_OP_REGISTRY.register()
class RoIPool(RoIOperation):
    """RoIPool (of Fast R-CNN): the maximum over the whole cells of each bin; the RoI includes its last cell.

    ``samples`` has no effect, as all cells are read. With ``half_pixel`` half a cell is subtracted before
    rounding, so that an RoI covers the cells in whose area its corners lie.
    """

    hides_nan = True

    def kernel(self, features: torch.Tensor, regions: torch.Tensor) -> Kernel:
        """See :class:`RoIOperation`."""
        images, _, height, width = features.shape
        bins_y, bins_x = self._bins(regions)
        # Bins are cut at the border of the map; those outside of it become empty.
        top, bottom = (edge.clamp(0, height)[:, :, None] for edge in bins_y)
        left, right = (edge.clamp(0, width)[:, None, :] for edge in bins_x)
        first = (regions[:, 0].long()[:, None, None] * height + top) * width + left
        rows, columns = torch.broadcast_tensors(bottom - top, right - left)
        cells = images * height * width
        return CellMaximum(first.flatten(), rows.flatten(), columns.flatten(), width, cells)

    def plan(self, rois: torch.Tensor, maps: RoIMaps, dtype: torch.dtype) -> PoolPlan:
        """See :class:`RoIOperation`."""
        regions = self.regions(rois, dtype, scale=maps.scale)
        bins_y, bins_x = self._bins(regions)
        top, bottom = (edge.clamp(min=0).clamp(max=maps.height[:, None]) for edge in bins_y)
        left, right = (edge.clamp(min=0).clamp(max=maps.width[:, None]) for edge in bins_x)
        return PoolPlan(maps, regions[:, 0].long(), top, bottom, left, right)

    def torchvision(self, features: torch.Tensor, regions: torch.Tensor) -> torch.Tensor:
        """See :class:`RoIOperation`."""
        # Scale 1, as regions are in feature cells.
        return roi_pool(features, regions, self.output_size, 1.0)

    def rows_pay(self, features: torch.Tensor, rois: int, trains: bool) -> bool:
        """See :class:`RoIOperation`.

        Measured: torchvision takes 18 ns per number of the output, a transposed copy of the map 1 ns per number of the
        map; training copies the gradient, too, and torchvision's backward is the faster half of its work.
        """
        bins = rois * math.prod(self.output_size)
        return bins * (2 if trains else 12) > features.numel() // features.shape[1]

    def sampling_points(self, rois: torch.Tensor) -> torch.Tensor:
        """See :class:`RoIOperation`."""
        y, x = (_cells(low, high) for low, high in self._bins(self.regions(rois)))
        return cross_points(y, x)

    def _quantized(self, corners: torch.Tensor) -> torch.Tensor:
        return corners - 0.5 if self.half_pixel else corners

    def _bins(
        self, regions: torch.Tensor
    ) -> tuple[tuple[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
        """Return the first cell of each bin and the one after its last, along y and along x."""
        _, left, top, right, bottom = regions.unbind(1)
        rows, columns = self.output_size
        return pool_bins(top, bottom, rows), pool_bins(left, right, columns)


def _cells(low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    """Return the cells of each range from low up to high, (..., longest range) float, padded with NaN."""
    most = int((high - low).max()) if low.numel() else 0
    cells = low[..., None] + torch.arange(most, device=low.device)
    return cells.float().masked_fill(cells >= high[..., None], math.nan)
