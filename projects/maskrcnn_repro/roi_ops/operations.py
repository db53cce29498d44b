"""The RoI operations that the paper compares (Sec. 3, Table 2c), behind one interface.

Shape legend: N images, C channels, H and W cells of the feature map, R RoIs, P rows and columns of the
output (they may differ), S samples per side of an output cell.
"""

from __future__ import annotations

from maskrcnn_repro.errors import ConfigError
from maskrcnn_repro.roi_ops.registry import ROI_OP_REGISTRY

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import roi_align, roi_pool


class RoIOperation(nn.Module):
    """Base of the RoI operations: settings and interface.

    Args:
        output_size: rows and columns of the output, cells.
        spatial_scale: feature cells per pixel of the network's input, such as 1/16.
        samples: S; the paper's four regularly spaced points are 2.
        half_pixel: subtract half a feature cell from coordinates, as Detectron2's ROIAlignV2 does; the
            paper has no such shift.

    Raises:
        ConfigError: a size or ``samples`` is below 1, or the scale is not above 0.
    """

    def __init__(
        self,
        output_size: tuple[int, int],
        spatial_scale: float,
        samples: int = 2,
        half_pixel: bool = False,
    ) -> None:
        super().__init__()
        if min(output_size) < 1 or samples < 1 or not spatial_scale > 0:
            raise ConfigError(
                f"{type(self).__name__} needs an output size and samples of at least 1 and a scale above "
                f"0, not output_size={output_size}, samples={samples} (MODEL.ROI_OP.SAMPLES), "
                f"spatial_scale={spatial_scale}."
            )
        self.output_size = tuple(output_size)
        self.spatial_scale = spatial_scale
        self.samples = samples
        self.half_pixel = half_pixel

    def forward(self, features: torch.Tensor, rois: torch.Tensor) -> torch.Tensor:
        """Pool.

        Args:
            features: (N, C, H, W), float.
            rois: (R, 5), float: index of the image, then x1, y1, x2, y2 in pixels of the network's input.

        Returns:
            (R, C, P, P), of the dtype of ``features``.
        """
        raise NotImplementedError

    def extra_repr(self) -> str:
        """Show the settings."""
        return (
            f"output_size={self.output_size}, spatial_scale={self.spatial_scale}, "
            f"samples={self.samples}, half_pixel={self.half_pixel}"
        )


@ROI_OP_REGISTRY.register()
class RoIPool(RoIOperation):
    """RoIPool of Fast R-CNN: corners and bins rounded to whole cells, maximum."""

    def forward(self, features: torch.Tensor, rois: torch.Tensor) -> torch.Tensor:
        """See the base class."""
        shifted = rois - rois.new_tensor([0] + [0.5 / self.spatial_scale * self.half_pixel] * 4)
        return roi_pool(features, shifted.to(features.dtype), self.output_size, self.spatial_scale)


class _Sampled(RoIOperation):
    rounded = False
    maximum = False

    def forward(self, features: torch.Tensor, rois: torch.Tensor) -> torch.Tensor:
        """See the base class."""
        boxes = rois[:, 1:] * self.spatial_scale
        if self.rounded:
            boxes = (boxes + 0.5).floor()
        rois = torch.cat([rois[:, :1], boxes], dim=1).to(features.dtype)
        if not self.maximum:
            return roi_align(features, rois, self.output_size, 1.0, self.samples, self.half_pixel)
        fine = (self.output_size[0] * self.samples, self.output_size[1] * self.samples)
        points = roi_align(features, rois, fine, 1.0, 1, self.half_pixel)
        return F.max_pool2d(points, self.samples)


@ROI_OP_REGISTRY.register()
class RoIWarpMax(_Sampled):
    """RoIWarp with the maximum of the samples."""

    rounded, maximum = True, True


@ROI_OP_REGISTRY.register()
class RoIWarpAve(_Sampled):
    """RoIWarp with the average of the samples."""

    rounded = True


@ROI_OP_REGISTRY.register()
class RoIAlignMax(_Sampled):
    """RoIAlign with the maximum of the samples."""

    maximum = True


@ROI_OP_REGISTRY.register()
class RoIAlignAve(_Sampled):
    """RoIAlign with the average of the samples: the paper's operation."""
