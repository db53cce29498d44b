"""RoIAlign (Sec. 3) as a weighted sum of pixels, which a CPU does several times faster.

RoIAlign with averaging is linear: each output cell is a sum of 4 * S * S pixels with fixed weights. That
is what ``embedding_bag`` computes, with the pixels as rows of the table. torchvision's kernel visits every
channel of every sample apart, above all backward.

Shape legend: N images, C channels, H and W cells of the feature map, R RoIs, P cells of the output's side,
S samples per side of an output cell.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import roi_align


class BagRoIAlign(nn.Module):
    """RoIAlign with averaging, to take the place of ``detectron2.layers.ROIAlign``.

    On the CPU it is :func:`bag_roi_align`; elsewhere, and for an adaptive number of samples, it is
    torchvision's kernel. Both give the same numbers.

    Args:
        output_size: (P, P), cells.
        spatial_scale: feature cells per pixel of the network's input.
        sampling_ratio: S; 0 takes as many as the RoI has cells.
        aligned: whether coordinates are shifted by half a cell, as Detectron2's ROIAlignV2 does; the paper
            does not.
    """

    def __init__(
        self,
        output_size: tuple[int, int],
        spatial_scale: float,
        sampling_ratio: int,
        aligned: bool = False,
    ) -> None:
        super().__init__()
        self.output_size = output_size
        self.spatial_scale = spatial_scale
        self.sampling_ratio = sampling_ratio
        self.aligned = aligned

    def forward(self, features: torch.Tensor, rois: torch.Tensor) -> torch.Tensor:
        """Pool.

        Args:
            features: (N, C, H, W), float.
            rois: (R, 5), float: index of the image, then x1, y1, x2, y2 in pixels of the network's input.

        Returns:
            (R, C, P, P), as ``features``.
        """
        operation = bag_roi_align
        if features.device.type != "cpu" or self.sampling_ratio < 1:
            operation = roi_align
        return operation(
            features,
            rois.to(features.dtype),
            self.output_size,
            self.spatial_scale,
            self.sampling_ratio,
            self.aligned,
        )

    def extra_repr(self) -> str:
        """Show the settings."""
        return (
            f"output_size={self.output_size}, spatial_scale={self.spatial_scale}, "
            f"sampling_ratio={self.sampling_ratio}, aligned={self.aligned}"
        )


def bag_roi_align(
    features: torch.Tensor,
    rois: torch.Tensor,
    output_size: tuple[int, int],
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool = False,
) -> torch.Tensor:
    """Compute what ``torchvision.ops.roi_align`` computes, by one ``embedding_bag``.

    The result lies in memory as channels-last; features that do so too need no copy.

    Args:
        features: (N, C, H, W), float.
        rois: (R, 5): index of the image, then x1, y1, x2, y2 in pixels of the network's input.
        output_size: rows and columns of the output, cells.
        spatial_scale: feature cells per pixel.
        sampling_ratio: S, at least 1.
        aligned: subtract half a cell from all coordinates.

    Returns:
        (R, C, rows, columns).

    Raises:
        ValueError: ``sampling_ratio`` is below 1.
    """
    if sampling_ratio < 1:
        raise ValueError(f"sampling_ratio is {sampling_ratio}; bag_roi_align needs at least 1.")
    channels, height, width = features.shape[1:]
    boxes = rois[:, 1:].detach() * spatial_scale - (0.5 if aligned else 0.0)
    rows, row_weights = _taps(
        boxes[:, 1], boxes[:, 3], output_size[0], sampling_ratio, height, aligned
    )
    columns, column_weights = _taps(
        boxes[:, 0], boxes[:, 2], output_size[1], sampling_ratio, width, aligned
    )
    first_row = rois[:, 0].long()[:, None, None] * height
    index = ((first_row + rows) * width)[:, :, None, :, None] + columns[:, None, :, None, :]
    weight = row_weights[:, :, None, :, None] * column_weights[:, None, :, None, :]
    taps = 4 * sampling_ratio**2
    pooled = F.embedding_bag(
        index.reshape(-1, taps),
        features.permute(0, 2, 3, 1).reshape(-1, channels),
        mode="sum",
        per_sample_weights=weight.reshape(-1, taps).to(features.dtype),
    )
    return pooled.view(len(rois), *output_size, channels).permute(0, 3, 1, 2)


def _taps(
    start: torch.Tensor, end: torch.Tensor, cells: int, samples: int, length: int, aligned: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return which pixels of one axis each output cell reads, and with which weights.

    Args:
        start: (R,) first coordinate of the RoI, feature cells.
        end: (R,) last coordinate.
        cells: output cells along the axis.
        samples: S.
        length: pixels along the axis.
        aligned: without the shift, an RoI is at least one cell long.

    Returns:
        Indices and weights, (R, cells, 2 * S) both; each cell's weights sum to 1 inside the map.
    """
    size = end - start if aligned else (end - start).clamp(min=1.0)
    steps = (torch.arange(cells * samples, device=start.device, dtype=start.dtype) + 0.5) / samples
    points = start[:, None] + steps * (size / cells)[:, None]
    # Points more than one cell outside read zero; those nearer read the border (torchvision's rule).
    inside = ((points >= -1.0) & (points <= length)).to(points.dtype) / samples
    points = torch.nan_to_num(points).clamp(0.0, length - 1.0)
    low = points.floor()
    share = points - low
    low = low.long()
    index = torch.stack([low, (low + 1).clamp(max=length - 1)], dim=-1)
    weight = torch.stack([(1.0 - share) * inside, share * inside], dim=-1)
    return index.view(-1, cells, 2 * samples), weight.view(-1, cells, 2 * samples)
