"""Any head's RoI operation in the form that exporters record: torchvision's operations, level by level.

Shape legend: C channels, H, W cells of a map, R RoIs, P rows and columns of the output.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from maskrcnn_repro.errors import ExportError
from maskrcnn_repro.roi_ops import RoIOperation, RoIPool
from maskrcnn_repro.roi_ops.grid import nearest_cells

import torch
import torch.nn.functional as F
from detectron2.layers import ROIAlign
from torch import Tensor, nn
from torchvision import ops
from torchvision.ops import roi_align, roi_pool

PoolsCells = RoIPool | ops.RoIPool


class ExportPooler(nn.Module):
    """Pools any number of RoIs of one image, each from the one level that fits its size.

    Args:
        pooler: of a trained head: this project's or Detectron2's.

    Raises:
        ExportError: it has an operation of another kind.
    """

    def __init__(self, pooler: Any) -> None:
        super().__init__()
        self.operations = list(pooler.level_poolers)
        self.min_level = pooler.min_level
        self.canonical = pooler.canonical_box_size, pooler.canonical_level
        for operation in self.operations:
            if not isinstance(operation, RoIOperation | ROIAlign | ops.RoIPool):
                raise ExportError(
                    f"The RoI operation {type(operation).__name__} cannot be exported; those of this project and "
                    "Detectron2's ROIAlign and ROIPool can."
                )

    def forward(self, maps: Sequence[Tensor], boxes: Tensor) -> Tensor:
        """Pool boxes, (R, 4) xyxy in pixels of the network's input, from maps (1, C, H, W) to (R, C, P, P)."""
        rois = F.pad(boxes, (1, 0))
        if len(maps) == 1:
            return _pool(self.operations[0], maps[0], rois)
        levels = self.levels(boxes)
        rows = [(levels == level).nonzero().squeeze(1) for level in range(len(maps))]
        parts = [
            _pool(operation, level_map, with_stand_in(rois[chosen]))[: chosen.shape[0]]
            for operation, level_map, chosen in zip(self.operations, maps, rows, strict=True)
        ]
        order = torch.cat(rows)
        # Where each RoI lies among the parts.
        places = torch.zeros_like(levels).index_copy(0, order, torch.arange(order.shape[0]))
        return torch.cat(parts)[places]

    def every_level(self, maps: Sequence[Tensor], boxes: Tensor) -> list[Tensor]:
        """Pool boxes (R, 4) from each of the maps, whatever their size: to (R, C, P, P) each."""
        pairs = zip(self.operations, maps, strict=True)
        return [_pool(operation, level_map, F.pad(boxes, (1, 0))) for operation, level_map in pairs]

    def levels(self, boxes: Tensor) -> Tensor:
        """Return the level of each box, (R,) int64 from the finest on (FPN, eq. 1)."""
        side = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sqrt()
        size, level = self.canonical
        levels = (level + torch.log2(side / size + 1e-8)).floor() - self.min_level
        return levels.clamp(0, len(self.operations) - 1).long()


def with_stand_in(rows: Tensor) -> Tensor:
    """Return boxes or RoIs (R, n) and one more of zeros: some runtimes refuse layers on no RoI at all."""
    return F.pad(rows, (0, 0, 0, 1))


def _pool(operation: Any, level_map: Tensor, rois: Tensor) -> Tensor:
    if isinstance(operation, PoolsCells):
        # Rounded here: runtimes differ about halves, which boxes cut at the border have.
        regions = nearest_cells(_regions(operation, rois))
        return roi_pool(level_map, regions, operation.output_size, 1.0)
    if isinstance(operation, RoIOperation):
        return operation.torchvision(level_map, _regions(operation, rois))
    settings = operation.spatial_scale, operation.sampling_ratio, operation.aligned
    return roi_align(level_map, rois, operation.output_size, *settings)


def _regions(operation: Any, rois: Tensor) -> Tensor:
    """Return RoIs in feature cells."""
    if isinstance(operation, RoIOperation):
        # Boxes within an image are finite.
        return operation.regions(rois, finite=True)
    # The first column, the image, is zero.
    return rois * operation.spatial_scale
