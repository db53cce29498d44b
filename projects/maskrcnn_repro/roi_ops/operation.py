"""Base class of the RoI operations that the paper compares (Sec. 3, Table 2c).

========== ================= ============== ==================================
operation  corners           bins           value
========== ================= ============== ==================================
RoIPool    rounded           whole cells    maximum of the cells
RoIWarp    rounded           not rounded    maximum or average of the samples
RoIAlign   not rounded       not rounded    maximum or average of the samples
========== ================= ============== ==================================

A sample is the bilinear interpolation at one of S x S regularly spaced points of a bin. The paper does not
say how often RoIWarp samples; here it does as RoIAlign does, so that they differ in the rounding alone.

Shape legend: N images, C channels, H and W cells of the feature map, R RoIs, P rows and columns of the
output (they may differ), S samples per side of an output cell.
"""

from __future__ import annotations

import math

from maskrcnn_repro.errors import ConfigError
from maskrcnn_repro.roi_ops.fused import Plan
from maskrcnn_repro.roi_ops.kernels import Kernel
from maskrcnn_repro.roi_ops.levels import RoIMaps
from maskrcnn_repro.roi_ops.pooling import is_channels_last, is_traced, pool

import torch
from torch import nn

FAR = 1e6
"""Feature cells, more than any map has: coordinates beyond are moved to it, where float32 still counts cells."""

MAX_SAMPLES = 15
"""Per side of an output cell: the index of the winner of a maximum, at most 15 * 15, then fits in a uint8."""


class RoIOperation(nn.Module):
    """Base class of the RoI operations: pools each RoI of a feature map to a grid of fixed size.

    Runs a kernel of :mod:`maskrcnn_repro.roi_ops.kernels` where that is faster (on the CPU), and
    torchvision's operation elsewhere; both give the same numbers. On a GPU a pooler may instead run a Triton kernel
    over all levels (:mod:`maskrcnn_repro.roi_ops.fused`), whose backward is not bit-reproducible unless torch is
    asked for deterministic algorithms. An RoI with a coordinate that is not
    finite, and any RoI on a map without cells, pools to zeros. A NaN of the map is NaN in every maximum and
    average that reads its cell, and only there (a cell with the weight 0 is not read); on a GPU and in an
    exported model torchvision's operations decide that. No gradient flows to the RoIs.

    Args:
        output_size: rows and columns of the output, cells.
        spatial_scale: feature cells per pixel of the network's input, such as 1/16.
        samples: S; the paper's four regularly spaced points are 2.
        half_pixel: whether the value of cell i lies at i + 0.5 instead of at i, so that half a cell is
            subtracted from coordinates, as Detectron2's ROIAlignV2 does; the paper has no such shift.

    Raises:
        ConfigError: a size is below 1, ``samples`` not from 1 to 15, or the scale not above 0.
    """

    def __init__(
        self,
        output_size: tuple[int, int],
        spatial_scale: float,
        samples: int = 2,
        half_pixel: bool = False,
    ) -> None:
        super().__init__()
        if min(output_size) < 1 or not 1 <= samples <= MAX_SAMPLES or not spatial_scale > 0:
            raise ConfigError(
                f"{type(self).__name__} needs an output size of at least 1, 1 to {MAX_SAMPLES} samples and a "
                f"scale above 0, not output_size={output_size}, samples={samples} (MODEL.ROI_OP.SAMPLES), "
                f"spatial_scale={spatial_scale}."
            )
        self.output_size = (output_size[0], output_size[1])
        self.spatial_scale = spatial_scale
        self.samples = samples
        self.half_pixel = half_pixel

    hides_nan = False
    """Whether torchvision's operation leaves out numbers of the map that are not finite."""

    def forward(self, features: torch.Tensor, rois: torch.Tensor) -> torch.Tensor:
        """Pool the features of each RoI.

        Args:
            features: (N, C, H, W), float.
            rois: (R, 5), float: index of the image, then x1, y1, x2, y2 in pixels of the network's input.

        Returns:
            (R, C, P, P), of the dtype of ``features``, and channels-last if they are.

        Raises:
            ValueError: other shapes, or an image index outside 0 to N - 1 (checked on the CPU only).
        """
        if features.dim() != 4 or rois.shape[1:] != (5,):
            raise ValueError(
                f"RoI operations take features (N, C, H, W) and RoIs (R, 5), not {tuple(features.shape)} "
                f"and {tuple(rois.shape)}."
            )
        traced = is_traced()
        # Skip this check on a GPU: it would force a device sync.
        finite = rois.device.type == "cpu" and not traced and _are_finite(rois, len(features))
        # torchvision would read memory outside of a map that has no cell. The sum keeps the graph.
        if not traced and not features.numel():
            size = (len(rois), features.shape[1], *self.output_size)
            return features.new_zeros(size) + features.sum()
        regions = self.regions(rois, features.dtype, finite=finite)
        # An exported model has to contain torchvision's operation, which other runtimes implement.
        if not traced and self._uses_kernel(features, regions):
            return self._pool_by_kernel(features, regions)
        # torchvision has no 16-bit kernels on the CPU.
        pooled = self.torchvision(features.to(regions.dtype), regions).to(features.dtype)
        if not traced and self._misreads(features, pooled):
            return self._pool_by_kernel(features, regions)
        if is_channels_last(features):
            # torchvision's results are contiguous whatever its input is.
            pooled = pooled.contiguous(memory_format=torch.channels_last)
        return pooled

    def regions(
        self,
        rois: torch.Tensor,
        dtype: torch.dtype = torch.float32,
        *,
        finite: bool = False,
        scale: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the RoIs in feature cells, (R, 5), shifted or rounded as the operation does first.

        An RoI with a number that is not finite is moved far outside the map, and no coordinate lies beyond
        :data:`FAR`.

        Args:
            rois: (R, 5), as for :meth:`forward`.
            dtype: of the features.
            finite: skip the search for numbers that are not finite: there are none.
            scale: (R, 1), feature cells per pixel of each RoI; by default ``spatial_scale`` for all.
        """
        # Coordinates of hundreds of pixels lose their fractions in 16 bits.
        rois = rois.detach().to(torch.promote_types(dtype, torch.float32))
        cells = rois[:, 1:] * (self.spatial_scale if scale is None else scale)
        image, corners = rois[:, :1], self._quantized(cells)
        corners = corners.clamp(-FAR, FAR)
        if not finite:
            corners = corners.where(rois.isfinite().all(dim=1, keepdim=True), -FAR)
            # The kernels index with it. Any image will do: this far outside an RoI reads none.
            image = image.nan_to_num(0.0, 0.0, 0.0)
        return torch.cat([image, corners], dim=1)

    def kernel(self, features: torch.Tensor, regions: torch.Tensor) -> Kernel:
        """Return the CPU kernel that pools these regions from maps of the size of ``features``."""
        raise NotImplementedError

    def plan(self, rois: torch.Tensor, maps: RoIMaps, dtype: torch.dtype) -> Plan:
        """Return how the Triton kernels pool RoIs of several levels.

        Args:
            rois: (R, 5), as for :meth:`forward`.
            maps: the map of each.
            dtype: of the features.
        """
        raise NotImplementedError

    def torchvision(self, features: torch.Tensor, regions: torch.Tensor) -> torch.Tensor:
        """Pool with torchvision's operations; ``features`` and ``regions`` have the same dtype."""
        raise NotImplementedError

    def rows_pay(self, features: torch.Tensor, rois: int, trains: bool) -> bool:
        """Tell whether the kernel is faster although it first has to copy contiguous features by rows.

        Args:
            features: (N, C, H, W).
            rois: R.
            trains: whether a backward will follow.
        """
        return False

    def sampling_points(self, rois: torch.Tensor) -> torch.Tensor:
        """Return the points at which the operation reads the map; the kernels use the same functions.

        Args:
            rois: (R, 5), as for :meth:`forward`.

        Returns:
            (R, P, P, n, 2), x and y in feature cells, where (0, 0) is the centre of the first cell; points
            outside the map are included. n is S * S; for RoIPool it is the most rows times the most columns
            of cells in any bin, with NaN where a bin has fewer.
        """
        raise NotImplementedError

    def extra_repr(self) -> str:
        """Show the settings."""
        return (
            f"output_size={self.output_size}, spatial_scale={self.spatial_scale}, "
            f"samples={self.samples}, half_pixel={self.half_pixel}"
        )

    def _quantized(self, corners: torch.Tensor) -> torch.Tensor:
        """Return corners in feature cells, (R, 4), shifted or rounded as the operation does first."""
        return corners

    def _misreads(self, features: torch.Tensor, pooled: torch.Tensor) -> bool:
        """Tell whether torchvision may have hidden or spread a number that is not finite."""
        # It reads cells of weight 0, too, so that 0 * NaN spreads. On a GPU a sync would cost more.
        suspect = features if self.hides_nan else pooled
        return features.device.type == "cpu" and not _has_finite_sum(suspect)

    def _pool_by_kernel(self, features: torch.Tensor, regions: torch.Tensor) -> torch.Tensor:
        return pool(features, self.kernel(features, regions), len(regions), self.output_size)

    def _uses_kernel(self, features: torch.Tensor, regions: torch.Tensor) -> bool:
        if features.device.type != "cpu":
            return False
        if is_channels_last(features):
            return True
        trains = torch.is_grad_enabled() and features.requires_grad
        # The kernel reads rows of channels: contiguous features have to be copied first.
        return self.rows_pay(features, len(regions), trains)


def _has_finite_sum(numbers: torch.Tensor) -> bool:
    """Tell whether all are finite, in one pass; a sum that overflows says no, too."""
    wide = torch.promote_types(numbers.dtype, torch.float32)
    return math.isfinite(numbers.detach().sum(dtype=wide).item())


def _are_finite(rois: torch.Tensor, images: int) -> bool:
    """Tell whether all RoIs are finite; raise ValueError for an image index outside 0 to ``images`` - 1."""
    if not len(rois):
        return True
    # Kernels do not check: with such an index they would read memory outside of the features.
    low, high = (extreme.tolist() for extreme in rois.detach().aminmax(dim=0))
    if not (low[0] >= 0 and high[0] < images):
        raise ValueError(
            f"RoIs name images {low[0]:g} to {high[0]:g}, but there are features of {images} only."
        )
    return all(map(math.isfinite, low + high))
