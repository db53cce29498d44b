"""RoIAlign as weighted sums over rectangles of cells, with a fixed number of samples or as many as an RoI has cells.

The average of the samples of a bin is a weighted sum over the cells that they read. Along an axis these are neighbours,
so that a bin reads a rectangle of the map, each cell once.

R RoIs, P rows or columns of the output (of those that are asked for), T cells that a bin reads along an axis,
L of the map.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from maskrcnn_repro.roi_ops.grid import bilinear_taps

import torch
from torch import Tensor

MANY = 5
"""Cells beside a bin's first, from which on RoIs are grouped by the next power of two."""


@dataclass(frozen=True)
class Bins:
    """The bins of RoIAlign."""

    size: tuple[int, int]
    """Rows and columns."""
    samples: int
    """S; 0: as many as cells lie in a bin, rounded up."""
    half_pixel: bool
    """Whether half a cell is subtracted from coordinates."""
    step: int = 1
    """Of every so many rows and columns the first is computed, the others are left out."""


def rectangles(
    rois: Tensor, bins: Bins, height: int, width: int
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield what RoIs read whose bins read rectangles of one size.

    Args:
        rois: (R, 5): index of the image, x1, y1, x2, y2 in cells of the map; finite.
        bins: what to compute.
        height: of each image's map, cells.
        width: the same.

    Yields:
        Indices of r of the RoIs, (r,); the cells of each bin as rows of a table with one row per cell of all images,
        (r * P * P, T * T) int32; and their weights, of the same shape.
    """
    rows = Axis.of(rois[:, 2], rois[:, 4], bins, 0, height)
    columns = Axis.of(rois[:, 1], rois[:, 3], bins, 1, width)
    first = rois[:, 0].int() * (height * width)
    reaches = torch.stack([rows.reach, columns.reach], dim=1)
    for reach in reaches.unique(dim=0).tolist():
        chosen = (reaches == torch.tensor(reach)).all(dim=1).nonzero().squeeze(1)
        y, y_weights = rows.taps(chosen, reach[0])
        x, x_weights = columns.taps(chosen, reach[1])
        y = y * width + first[chosen, None, None]
        index = y[:, :, None, :, None] + x[:, None, :, None, :]
        weights = y_weights[:, :, None, :, None] * x_weights[:, None, :, None, :]
        bag = (-1, (reach[0] + 1) * (reach[1] + 1))
        yield chosen, index.reshape(bag), weights.reshape(bag)


@dataclass(frozen=True)
class Axis:
    """Where RoIs read the map along one axis."""

    start: Tensor
    """(R,), cells."""
    bin_size: Tensor
    """(R,), cells."""
    samples: Tensor
    """(R,) int64, of each bin."""
    reach: Tensor
    """(R,) int64: a bin reads at most so many cells beside its first."""
    steps: Tensor
    """(P,), numbers of the bins."""
    length: int
    """Of the map, cells."""

    @classmethod
    def of(cls, start: Tensor, end: Tensor, bins: Bins, axis: int, length: int) -> Axis:
        """Return how RoIs from ``start`` to ``end``, (R,) cells each, read a map.

        Args:
            start: of the RoIs.
            end: of the RoIs.
            bins: what to compute.
            axis: 0 for rows, 1 for columns.
            length: of the map, cells.
        """
        size = end - start if bins.half_pixel else (end - start).clamp(min=1.0)
        bin_size = size / bins.size[axis]
        # An RoI without an extent has no sample, and pools to zeros.
        adaptive = bin_size.ceil().clamp(min=0.0)
        samples = torch.full_like(bin_size, bins.samples) if bins.samples else adaptive
        between = bin_size * (samples - 1) / samples.clamp(min=1.0)
        reach = 1 + between.ceil().clamp(min=0.0)
        # Few different ones, as each is a call.
        reach = torch.where(reach > MANY, 2.0 ** reach.log2().ceil(), reach)
        steps = torch.arange(0, bins.size[axis], bins.step, dtype=start.dtype)
        start = start - 0.5 if bins.half_pixel else start
        return cls(start, bin_size, samples.long(), reach.long(), steps, length)

    def taps(self, chosen: Tensor, reach: int) -> tuple[Tensor, Tensor]:
        """Return the cells that bins of some RoIs read, (r, P, T) int32, and their weights.

        Args:
            chosen: (r,), indices of the RoIs.
            reach: T - 1, at least theirs.
        """
        cells, shares, exists = self._read(chosen)
        shares = shares * (exists / self.samples[chosen, None, None].clamp(min=1))[..., None]
        lowest = cells[:, :, :1, 0]
        places = (cells - lowest[..., None]).where(exists[..., None], 0).clamp(max=reach)
        weights = shares.new_zeros(*places.shape[:2], reach + 1)
        weights.scatter_add_(2, places.flatten(2).long(), shares.flatten(2))
        # Beyond the border weights are 0.
        cells = lowest + torch.arange(reach + 1, dtype=torch.int32)
        return cells.clamp(max=self.length - 1), weights

    def sums(self) -> Tensor:
        """Return what the samples of each bin take from every cell of the map, (R, P, L); not divided by their number."""
        cells, shares, exists = self._read(slice(None))
        weights = shares.new_zeros(*cells.shape[:2], self.length)
        return weights.scatter_add_(
            2, cells.flatten(2).long(), (shares * exists[..., None]).flatten(2)
        )

    def _read(self, chosen: Tensor | slice) -> tuple[Tensor, Tensor, Tensor]:
        """Return the two cells beside each of S samples, (r, P, S, 2), their shares, and which samples exist, (r, 1, S)."""
        start, bin_size = self.start[chosen, None, None], self.bin_size[chosen, None, None]
        samples = self.samples[chosen, None, None]
        steps = torch.arange(max(1, int(samples.max())) if len(samples) else 1)
        exists = steps < samples
        samples = samples.clamp(min=1)
        # In the order of torchvision's operations, so that both round alike.
        points = start + self.steps[:, None] * bin_size + (steps + 0.5) * bin_size / samples
        return *bilinear_taps(points, self.length), exists
