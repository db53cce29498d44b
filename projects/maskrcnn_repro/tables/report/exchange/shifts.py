"""How far from a RoI an operation reads, in pixels of the network's input.

Boxes are x1, y1, x2, y2. Shape legend: R RoIs, P rows and columns of an operation's output.
"""

from __future__ import annotations

from maskrcnn_repro.roi_ops import RoIOperation
from maskrcnn_repro.roi_ops.grid import nearest_cells
from maskrcnn_repro.roi_ops.roi_pool import RoIPool

import torch


def round_boxes(operation: RoIOperation, boxes: torch.Tensor) -> torch.Tensor:
    """Return boxes as an operation rounds them, (R, 4); RoIAlign leaves them as they are.

    Args:
        operation: on one feature map.
        boxes: (R, 4).
    """
    corners = operation.regions(_rois(boxes))[:, 1:]
    if isinstance(operation, RoIPool):
        # It alone subtracts half a cell before it rounds.
        corners = nearest_cells(corners) + 0.5 * operation.half_pixel
    return corners / operation.spatial_scale


def bin_centres(operation: RoIOperation, boxes: torch.Tensor) -> torch.Tensor:
    """Return the centre of what each bin reads, (R, P, P, 2) x and y, also where that lies outside of the map."""
    points = operation.sampling_points(_rois(boxes))
    low = points.nan_to_num(nan=torch.inf).amin(dim=3)
    high = points.nan_to_num(nan=-torch.inf).amax(dim=3)
    return ((low + high) / 2 + 0.5 * operation.half_pixel) / operation.spatial_scale


def corner_shifts(operation: RoIOperation, boxes: torch.Tensor) -> torch.Tensor:
    """Return by how much rounding moves x1, y1, x2 and y2 of each box on average, (R,)."""
    return (round_boxes(operation, boxes) - boxes).abs().mean(dim=1)


def bin_shifts(operation: RoIOperation, boxes: torch.Tensor) -> torch.Tensor:
    """Return how far the centres of the bins lie from those of the box divided evenly, on average, (R,)."""
    rows, columns = operation.output_size
    x = _centres(boxes[:, 0], boxes[:, 2], columns)[:, None].expand(-1, rows, -1)
    y = _centres(boxes[:, 1], boxes[:, 3], rows)[..., None].expand(-1, -1, columns)
    apart = bin_centres(operation, boxes) - torch.stack([x, y], dim=-1)
    return apart.norm(dim=-1).mean(dim=(1, 2))


def _rois(boxes: torch.Tensor) -> torch.Tensor:
    return torch.cat([boxes.new_zeros(len(boxes), 1), boxes], dim=1)


def _centres(start: torch.Tensor, end: torch.Tensor, bins: int) -> torch.Tensor:
    """Return the middles of a side divided into bins, (R, bins)."""
    share = (torch.arange(bins, device=start.device) + 0.5) / bins
    return start[:, None] + (end - start)[:, None] * share
