"""Of each RoI, the feature map that it is read from: its size, scale and place in memory, on the RoIs' device.

Shape legend: L levels of a pyramid, N images, C channels, H and W cells of a map, R RoIs.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class RoIMaps:
    """The maps of R RoIs; every tensor is (R,) int64. Steps and starts count numbers, not bytes."""

    level: torch.Tensor
    height: torch.Tensor
    """Cells."""
    width: torch.Tensor
    stride: torch.Tensor
    """Pixels of the network's input per cell."""
    start: torch.Tensor
    """Of the level, in a buffer that holds all levels one after the other."""
    image_step: torch.Tensor
    cell_step: torch.Tensor
    """From a cell to the next one in its row; rows follow one another without a gap."""
    channel_step: torch.Tensor

    @classmethod
    def of(
        cls,
        shapes: Sequence[torch.Size],
        strides: Sequence[int],
        levels: torch.Tensor,
        channels_last: bool,
    ) -> RoIMaps:
        """Return the maps of RoIs by their levels.

        Args:
            shapes: (N, C, H, W) of each level, in memory without gaps.
            strides: pixels of the network's input per cell, of each level.
            levels: (R,) int64, below L.
            channels_last: the memory format of all levels.
        """
        sizes = tuple(tuple(shape) for shape in shapes)
        table = _table(sizes, tuple(strides), channels_last, levels.device)
        return cls(levels, *table[:, levels])

    @property
    def scale(self) -> torch.Tensor:
        """Cells per pixel, (R, 1) float32; exact, as strides are powers of 2."""
        return self.stride.float().reciprocal()[:, None]


# Kept, as a copy from the host waits for the device: images of a few sizes come again and again.
@functools.lru_cache(maxsize=1024)
def _table(
    sizes: tuple[tuple[int, ...], ...],
    strides: tuple[int, ...],
    channels_last: bool,
    device: torch.device,
) -> torch.Tensor:
    """Return the fields of :class:`RoIMaps` after the level, of each level, (7, L)."""
    rows, start = [], 0
    for (images, channels, height, width), stride in zip(sizes, strides, strict=True):
        cells = height * width
        steps = (channels, 1) if channels_last else (1, cells)
        rows.append((height, width, stride, start, channels * cells, *steps))
        start += images * channels * cells
    # Made in a forward without gradients, it has to serve one with gradients, too.
    with torch.inference_mode(False):
        return torch.tensor(rows, device=device).T.contiguous()
