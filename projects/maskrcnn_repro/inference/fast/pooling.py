"""RoIAlign of many RoIs in channels-last memory: a bin is a weighted sum of rows of the map's table, each read once.

N images, C channels, H and W cells of a map, R RoIs, P rows or columns of the output (of those that are asked for).
"""

from __future__ import annotations

from collections.abc import Sequence

from maskrcnn_repro.roi_ops.rectangles import Bins, rectangles

import torch
import torch.nn.functional as F
from detectron2.modeling.poolers import assign_boxes_to_levels
from detectron2.structures import Boxes
from torch import Tensor, nn


def align(features: Tensor, rois: Tensor, bins: Bins, out: Tensor, places: Tensor) -> None:
    """Write pooled RoIs, each as P * P * C numbers, cell by cell.

    Args:
        features: (N, C, H, W), float, channels-last.
        rois: (R, 5): index of the image, x1, y1, x2, y2 in cells of the map; finite.
        bins: what to compute.
        out: (R or more, P * P * C), of the dtype of the features.
        places: (R,) int64, their rows in ``out``.
    """
    _, channels, height, width = features.shape
    table = features.permute(0, 2, 3, 1).reshape(-1, channels)
    for chosen, index, weights in rectangles(rois, bins, height, width):
        weights = weights.to(table.dtype)
        sums = F.embedding_bag(index, table, mode="sum", per_sample_weights=weights)
        out.index_copy_(0, places[chosen], sums.view(len(chosen), -1))


class FastPooler(nn.Module):
    """Pools like the pooler it is made of, from maps in channels-last memory.

    Args:
        plain: Detectron2's ``ROIPooler``, or ours, with RoIAlign on all levels.
        bins: what it computes.
        scales: cells per pixel of the network's input for each level, finest first.
        levels: the finest and the coarsest, k of scale 2**-k.
    """

    def __init__(
        self, plain: nn.Module, bins: Bins, scales: Sequence[float], levels: tuple[int, int]
    ) -> None:
        super().__init__()
        self.bins, self.scales, self.levels = bins, list(scales), levels
        self.canonical = plain.canonical_box_size, plain.canonical_level

    def forward(self, features: Sequence[Tensor], boxes: Sequence[Boxes]) -> Tensor:
        """Return the pooled RoIs of all images, (R, C, P, P), in the order of the boxes.

        Args:
            features: (N, C, H, W) for each level.
            boxes: of each image, in pixels of the network's input.
        """
        rois = torch.cat([F.pad(b.tensor, (1, 0), value=i) for i, b in enumerate(boxes)])
        levels = torch.zeros(len(rois), dtype=torch.int64)
        if len(features) > 1:
            levels = assign_boxes_to_levels([*boxes], *self.levels, *self.canonical)
        size = [-(-side // self.bins.step) for side in self.bins.size]
        channels = features[0].shape[1]
        out = features[0].new_empty(len(rois), size[0] * size[1] * channels)
        for level, (level_map, scale) in enumerate(zip(features, self.scales, strict=True)):
            chosen = (levels == level).nonzero().squeeze(1)
            cells = torch.cat([rois[chosen, :1], rois[chosen, 1:] * scale], dim=1)
            level_map = level_map.contiguous(memory_format=torch.channels_last)
            align(level_map, cells, self.bins, out, chosen)
        return out.view(len(rois), *size, channels).permute(0, 3, 1, 2)
