"""Where the RoI operations read a feature map along one axis: at sampled points, or in whole cells.

Rows and columns are independent in every operation, so one axis is enough. The kernels and
``sampling_points`` call the same functions.

Coordinates are feature cells with the centre of cell i at i. Shape legend: R RoIs, P cells of the output
along the axis, S samples per cell of the output, L cells of the map along the axis.
"""

from __future__ import annotations

import math

import torch


def round_corners(corners: torch.Tensor) -> torch.Tensor:
    """Round to whole cells as RoIWarp does: halves up."""
    # torch.round would take halves to the even neighbour.
    return (corners + 0.5).floor()


def sample_points(
    start: torch.Tensor, end: torch.Tensor, cells: int, samples: int, half_pixel: bool
) -> torch.Tensor:
    """Return the regularly spaced points of RoIAlign and RoIWarp (paper, Sec. 3).

    Args:
        start: (R,) first corner, feature cells.
        end: (R,) last corner.
        cells: P.
        samples: S.
        half_pixel: subtract half a cell; without it an RoI is at least one cell long, as in the first
            Detectron.

    Returns:
        (R, P, S).
    """
    size = end - start if half_pixel else (end - start).clamp(min=1.0)
    if half_pixel:
        start = start - 0.5
    # From here on in the order of torchvision's operations, so that both round alike.
    bin_size = (size / cells)[:, None, None]
    steps = torch.arange(max(cells, samples), device=start.device, dtype=start.dtype)
    inside_bin = (steps[:samples] + 0.5) * bin_size / samples
    return start[:, None, None] + steps[:cells, None] * bin_size + inside_bin


def bilinear_taps(
    points: torch.Tensor, length: int | torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the two cells that linear interpolation at each point reads, and their weights.

    Args:
        points: (...), feature cells.
        length: L; integers that are broadcast to ``points`` where RoIs are on maps of several sizes.

    Returns:
        Indices below L, (..., 2) int32, and weights, (..., 2) of the dtype of ``points``, which sum to 1, or
        to 0 for a point that reads nothing.
    """
    # torchvision's rule: a point more than a cell outside the map reads zero, a nearer one the border.
    inside = ((points >= -1.0) & (points <= length)).to(points.dtype)
    # Two clamps: one takes no number beside a tensor.
    points = points.clamp(min=0.0).clamp(max=length - 1.0)
    low = points.floor()
    share = (points - low) * inside
    low = low.int()
    index = torch.stack([low, (low + 1).clamp(max=length - 1)], dim=-1)
    return index, torch.stack([inside - share, share], dim=-1)


def merge_taps(index: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """Sum the weights of a cell that several samples of a bin read, and give the sum to the last sample.

    Averages then read fewer rows: where samples are less than a cell apart, many weights become zero.

    Args:
        index: (R, P, S, 2), of :func:`bilinear_taps`.
        share: (R, P, S, 2), the weights.

    Returns:
        Weights with the same sum for each cell, (R, P, S, 2).
    """
    share = share.clone()
    for sample in range(1, index.shape[2]):
        before, here = share[:, :, sample - 1], share[:, :, sample]
        step = (index[:, :, sample, 0] - index[:, :, sample - 1, 0])[..., None]
        same, next_cell = (step == 0).to(share.dtype), (step == 1).to(share.dtype)
        here += before * same
        here[..., :1] += before[..., 1:] * next_cell
        before[..., 1:] *= 1.0 - next_cell
        before *= 1.0 - same
    return share


def pool_bins(
    start: torch.Tensor, end: torch.Tensor, cells: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the range of whole cells of each bin of RoIPool (Fast R-CNN); neighbours may overlap.

    Args:
        start: (R,) first corner, feature cells.
        end: (R,) last corner; its cell belongs to the RoI.
        cells: P.

    Returns:
        The first cell and the one after the last, both (R, P) int64; they may lie outside the map.
    """
    # An RoI whose end lies before its start still has one cell, as in Fast R-CNN's code.
    first, last = nearest_cells(start), nearest_cells(end)
    bin_size = ((last - first + 1.0).clamp(min=1.0) / cells)[:, None]
    steps = torch.arange(cells + 1, device=start.device, dtype=start.dtype)
    low = (steps[:-1] * bin_size).floor() + first[:, None]
    high = (steps[1:] * bin_size).ceil() + first[:, None]
    return low.long(), high.long()


def cross_points(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Return the points x, y, (R, P, P, a * b, 2), of rows at y, (R, P, a), and columns at x, (R, P, b)."""
    y, x = torch.broadcast_tensors(y[:, :, None, :, None], x[:, None, :, None, :])
    # Bins are padded along each axis; a point that one axis lacks is missing as a whole.
    missing = (x + y).isnan()[..., None]
    return torch.stack([x, y], dim=-1).masked_fill(missing, math.nan).flatten(3, 4)


def nearest_cells(corners: torch.Tensor) -> torch.Tensor:
    """Return corners rounded to whole cells as RoIPool does: halves away from zero."""
    # As C's ``round`` in torchvision's RoIPool. Not floor(x + 0.5): in float32 the largest number below 0.5 would become 1.
    size = corners.abs()
    whole = size.floor()
    return corners.sign() * (whole + ((size - whole) * 2.0).floor())
