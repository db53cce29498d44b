"""The losses of surface coordinates: at annotated points, and of the coarse segmentation in each cell.

Letters: R RoIs of the batch, P points, K charts and the background, D classes of the coarse segmentation, S side of the
predicted maps in cells. Boxes are xyxy in pixels of the network's input.
"""

from __future__ import annotations

from dataclasses import dataclass

from maskrcnn_repro.data.densepose.annotation import SIDE
from maskrcnn_repro.data.densepose.targets import SurfaceTargets

import torch
import torch.nn.functional as F
from torch import Tensor

from maskrcnn_family.densepose.maps import SurfaceMaps

NAMES = tuple(f"loss_densepose_{letter}" for letter in "UVIS")


@dataclass(frozen=True)
class Weights:
    """Factors of the losses."""

    coarse: float
    charts: float
    coordinates: float


@dataclass(frozen=True)
class Places:
    """P annotated points in the predicted maps."""

    roi: Tensor
    """(P,) int64."""
    x: Tensor
    """(P,) float, in cells from the left edge; the value of a cell is at its left upper corner."""
    y: Tensor

    def sample(self, maps: Tensor, channel: Tensor | None = None) -> Tensor:
        """Return the maps (R, C, S, S) at the points, interpolated linearly: (P, C), or (P,) of one channel each."""
        side = maps.shape[-1]
        columns, rows = _neighbours(self.x, side), _neighbours(self.y, side)
        total: Tensor | float = 0.0
        for row, by_row in rows:
            for column, by_column in columns:
                if channel is None:
                    values = maps.permute(0, 2, 3, 1)[self.roi, row, column]
                    total = total + values * (by_row * by_column)[:, None]
                else:
                    total = total + maps[self.roi, channel, row, column] * (by_row * by_column)
        assert isinstance(total, Tensor)
        return total


def _neighbours(position: Tensor, side: int) -> list[tuple[Tensor, Tensor]]:
    """Return both cells beside each position, and what part each has; beyond the last cell it has all."""
    low = position.floor().long().clamp(0, side - 1)
    high = (low + 1).clamp(max=side - 1)
    part = torch.minimum(high.to(position.dtype), position) - low
    return [(low, 1 - part), (high, part)]


def densepose_losses(
    maps: SurfaceMaps, targets: SurfaceTargets, truth: Tensor, boxes: Tensor, weights: Weights
) -> dict[str, Tensor]:
    """Return the four losses, all zero and part of the graph if no point on a body lies in an RoI.

    U and V are sums over points of the smooth L1 of the true chart's coordinates, I the mean cross-entropy of charts, S that
    of the coarse segmentation over all cells.

    Args:
        maps: predicted.
        targets: of R people.
        truth: (R, 4), their boxes.
        boxes: (R, 4), the RoIs.
        weights: factors.
    """
    points, roi = _flat(targets.points)
    x, in_x = _in_box(points[:, 0], truth[roi][:, 0::2], boxes[roi][:, 0::2], maps.side)
    y, in_y = _in_box(points[:, 1], truth[roi][:, 1::2], boxes[roi][:, 1::2], maps.side)
    inside = in_x & in_y
    if not (inside & (points[:, 2] > 0)).any():
        return zero_losses(maps)
    points, places = points[inside], Places(roi[inside], x[inside], y[inside])
    charts = points[:, 2].long()
    on_body = charts > 0
    losses = []
    for predicted, coordinate in ((maps.u, points[:, 3]), (maps.v, points[:, 4])):
        sampled = places.sample(predicted, charts)
        losses.append(
            weights.coordinates
            * F.smooth_l1_loss(sampled[on_body], coordinate[on_body], reduction="sum")
        )
    losses.append(weights.charts * F.cross_entropy(places.sample(maps.fine), charts))
    losses.append(weights.coarse * _coarse_loss(maps.coarse, targets, truth, boxes))
    return dict(zip(NAMES, losses, strict=True))


def zero_losses(maps: SurfaceMaps) -> dict[str, Tensor]:
    """Return losses of 0 that are part of the graph, as all processes of a training need them."""
    parts = (maps.u, maps.v, maps.fine, maps.coarse)
    return {name: part.sum() * 0 for name, part in zip(NAMES, parts, strict=True)}


def _flat(points: Tensor) -> tuple[Tensor, Tensor]:
    """Return the points (P, 5) of all RoIs, (R, most, 5), and the RoI of each."""
    present = points[..., 2] >= 0
    return points[present], present.nonzero()[:, 0]


def _in_box(place: Tensor, truth: Tensor, box: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Return where points are on one axis of the RoI, in cells, and whether they are in it.

    Args:
        place: (P,) in the person's box, 0 to SIDE.
        truth: (P, 2), both edges of that box.
        box: (P, 2), of the RoI.
        side: S.
    """
    size, extent = truth[:, 1] - truth[:, 0], box[:, 1] - box[:, 0]
    offset = truth[:, 0] + place * size / SIDE - box[:, 0]
    return offset * side / extent, (offset >= 0) & (offset < extent)


def _coarse_loss(coarse: Tensor, targets: SurfaceTargets, truth: Tensor, boxes: Tensor) -> Tensor:
    """Return the cross-entropy of the RoIs whose parts are annotated, 0 without any."""
    known = targets.has_parts & targets.annotated
    if not known.any():
        return coarse.sum() * 0
    labels = parts_in_boxes(targets[known].parts, truth[known], boxes[known], coarse.shape[-1])
    labels = (labels > 0).long() if coarse.shape[1] == 2 else labels
    return F.cross_entropy(coarse[known], labels)


def parts_in_boxes(parts: Tensor, truth: Tensor, boxes: Tensor, side: int) -> Tensor:
    """Return the part at the cells of RoIs, (R, side, side) int64, 0 outside the person's box.

    A cell has the part at its left upper corner, the nearest of a grid whose first and last cells are at the edges of the
    person's box.

    Args:
        parts: (R, SIDE, SIDE) uint8.
        truth: (R, 4), boxes of the parts.
        boxes: (R, 4), the RoIs.
        side: S.
    """
    steps = torch.arange(side, device=boxes.device, dtype=torch.float) / side
    size = truth[:, 2:] - truth[:, :2]
    first, last = (
        2 * (corner - truth[:, :2]) / size - 1 for corner in (boxes[:, :2], boxes[:, 2:])
    )
    x, y = (first[:, :, None] + steps * (last - first)[:, :, None]).unbind(dim=1)
    grid = torch.stack(
        [x[:, None, :].expand(-1, side, -1), y[:, :, None].expand(-1, -1, side)], dim=3
    )
    sampled = F.grid_sample(
        parts[:, None].float(), grid, mode="nearest", padding_mode="zeros", align_corners=True
    )
    return sampled[:, 0].long()
