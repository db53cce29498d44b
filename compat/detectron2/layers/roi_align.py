"""RoIAlign (paper, Section 3) as a module; torchvision computes it."""

from typing import Any

from torch import Tensor, nn
from torchvision.ops import roi_align

from detectron2._absent import module_getattr

__all__ = ["ROIAlign", "roi_align"]


class ROIAlign(nn.Module):
    """Average of bilinear samples in a grid of cells over each RoI.

    Args:
        output_size: cells (height, width), or one number for both.
        spatial_scale: feature cells per unit of the RoIs' coordinates, such as 1/16.
        sampling_ratio: samples per cell and side; 0 takes one per feature cell or more.
        aligned: the value of feature cell i lies at i + 0.5; if False at i, as in the first
            Detectron, which shifts everything by half a cell.
    """

    def __init__(self, output_size: Any, spatial_scale: float, sampling_ratio: int, aligned=True):
        super().__init__()
        self.output_size, self.spatial_scale = output_size, spatial_scale
        self.sampling_ratio, self.aligned = sampling_ratio, aligned

    def forward(self, input: Tensor, rois: Tensor) -> Tensor:
        """Pool features.

        Args:
            input: (N, C, H, W) features.
            rois: (R, 5) index of the image in the batch, x1, y1, x2, y2.

        Returns:
            (R, C, *output_size).
        """
        assert rois.shape == (len(rois), 5), rois.shape
        options = (self.output_size, self.spatial_scale, self.sampling_ratio, self.aligned)
        return roi_align(input, rois.to(input.dtype), *options)


__getattr__ = module_getattr(__name__)
