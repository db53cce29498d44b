"""Points of masks: where they lie, what maps say there, and which of them are uncertain (PointRend, Sec. 3).

Letters: R RoIs, C channels, P points, S side of a grid of cells. Points are (x, y), in fractions of a box, of an image
or of a grid, whose cells have their centres half a cell inside.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def sample(grids: Tensor, points: Tensor) -> Tensor:
    """Return values (R, C, P) of grids (R, C, H, W) at points (R, P, 2), bilinear, zero outside."""
    return F.grid_sample(grids, 2 * points[:, :, None] - 1, align_corners=False).squeeze(3)


def cell_centres(count: int, side: int, device: torch.device) -> Tensor:
    """Return the centres of a grid's cells, row by row, for ``count`` RoIs: (R, S * S, 2)."""
    axis = (torch.arange(side, device=device) + 0.5) / side
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return torch.stack([x, y], dim=2).reshape(1, -1, 2).expand(count, -1, -1)


def in_image(points: Tensor, boxes: Tensor) -> Tensor:
    """Return points (R, P, 2) of boxes (R, 4) in pixels of the image."""
    return points * (boxes[:, None, 2:] - boxes[:, None, :2]) + boxes[:, None, :2]


def sample_maps(
    maps: Sequence[Tensor], strides: Sequence[float], boxes: Sequence[Tensor], points: Tensor
) -> Tensor:
    """Return the features of points on maps of whole images.

    Args:
        maps: each (N, C, H, W) of a batch of N images.
        strides: pixels of the image per cell of each map.
        boxes: of each image, (R of the image, 4), xyxy in pixels.
        points: of all RoIs, (R, P, 2), in fractions of their box.

    Returns:
        (R, sum of the maps' C, P).
    """
    rows = []
    # An exporter's image is alone, with any number of RoIs.
    alone = len(boxes) == 1
    parts = [points] if alone else points.split([len(image) for image in boxes])
    for number, (image_boxes, image_points) in enumerate(zip(boxes, parts, strict=True)):
        pixels = in_image(image_points, image_boxes).reshape(1, -1, 2)
        sampled = []
        for level, stride in zip(maps, strides, strict=True):
            # Axis by axis: an exporter takes a tensor made of sizes for a constant.
            axes = zip(pixels.unbind(2), level.shape[:1:-1], strict=True)
            places = torch.stack([axis / (cells * stride) for axis, cells in axes], dim=2)
            sampled.append(sample(level[number : number + 1], places)[0])
        # Of all RoIs of the image side by side: (C, R * P).
        features = torch.cat(sampled)
        count, total = image_points.shape[1], features.shape[0]
        rows.append(features.reshape(total, -1, count).transpose(0, 1))
    return torch.cat(rows)


def uncertain_points(logits: Tensor, count: int, oversample: float, important: float) -> Tensor:
    """Draw points to train on, most of them where a coarse mask is uncertain (Sec. 3.1, training).

    Args:
        logits: (R, 1, S, S) of a coarse mask.
        count: P.
        oversample: k; so many times as many points are drawn, of which the most uncertain are taken.
        important: β, the fraction of the points that is taken so; the others are drawn evenly.

    Returns:
        (R, P, 2), in fractions of the box.
    """
    drawn = torch.rand(len(logits), int(count * oversample), 2, device=logits.device)
    # At the point itself: between cells of +1 and -1 lies a logit of 0.
    uncertainty = -sample(logits, drawn)[:, 0].abs()
    taken = uncertainty.topk(int(important * count), dim=1).indices
    chosen = drawn.gather(1, taken[:, :, None].expand(-1, -1, 2))
    rest = torch.rand(len(logits), count - taken.shape[1], 2, device=logits.device)
    return torch.cat([chosen, rest], dim=1)


def refine(logits: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return a mask of twice the side, and its most uncertain cells (Sec. 3.1, inference).

    Args:
        logits: (R, 1, S, S).
        count: of cells to predict anew; at most all of them.

    Returns:
        Logits (R, 1, 2 S, 2 S), indices (R, P) of the cells, row by row, and their centres (R, P, 2).
    """
    finer = F.interpolate(logits, scale_factor=2.0, mode="bilinear", align_corners=False)
    side = 2 * logits.shape[3]
    cells = (-finer.abs()).flatten(1).topk(min(count, side * side), dim=1).indices
    centres = torch.stack([cells % side, cells.div(side, rounding_mode="floor")], dim=2)
    return finer, cells, (centres + 0.5) / side
