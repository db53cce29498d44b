"""What the Triton kernels do for given RoIs: the tables that they read, and their launches.

Shape legend: R RoIs, P rows and Q columns of the output, S samples per side of an output cell.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from maskrcnn_repro.roi_ops.fused import MOST_LEVELS, Output
from maskrcnn_repro.roi_ops.levels import RoIMaps

import torch


@dataclass(frozen=True)
class SampledPlan:
    """RoIAlign or RoIWarp of R RoIs: see :class:`maskrcnn_repro.roi_ops.fused.Plan`."""

    maps: RoIMaps
    image: torch.Tensor
    """(R,) int64."""
    rows: torch.Tensor
    """The two rows of cells of each sample, (R, P, S, 2) int."""
    row_shares: torch.Tensor
    """Their weights, float32 or float64."""
    columns: torch.Tensor
    """(R, Q, S, 2)."""
    column_shares: torch.Tensor
    maximum: bool

    @property
    def size(self) -> tuple[int, int]:
        """P, Q."""
        return self.rows.shape[1], self.columns.shape[1]

    @property
    def samples(self) -> int:
        """S."""
        return self.rows.shape[2]

    @property
    def winner_dtype(self) -> torch.dtype | None:
        """Of the number of the winning sample."""
        return torch.uint8 if self.maximum else None

    def forward(
        self, features: Sequence[torch.Tensor], out: Output, winners: torch.Tensor | None
    ) -> None:
        """See :class:`Plan`."""
        from maskrcnn_repro.roi_ops.triton_kernels import sampled_forward

        places = (*_maps(features), self.maps.level, self.maps.channel_step, *self._tables)
        settings = {"SAMPLES": self.samples, "MAXIMUM": self.maximum, "TRAINS": winners is not None}
        written = (out.numbers, out.numbers if winners is None else winners)
        _launch(sampled_forward, out, (*places, *written), self.size, settings)

    def backward(self, grad: Output, winners: torch.Tensor | None, table: torch.Tensor) -> None:
        """See :class:`Plan`."""
        from maskrcnn_repro.roi_ops.triton_kernels import sampled_backward

        read = (grad.numbers, grad.numbers if winners is None else winners)
        places = (table, self.maps.start, self.maps.channel_step, *self._tables)
        settings = {"SAMPLES": self.samples, "MAXIMUM": self.maximum}
        _launch(sampled_backward, grad, (*read, *places), self.size, settings)

    def add_sorted(
        self, grad: torch.Tensor, winners: torch.Tensor | None, table: torch.Tensor
    ) -> None:
        """See :class:`Plan`."""
        if not self.maximum:
            grad = grad / self.samples**2
        for sample, index, share in self._taps(table.shape[1]):
            part = grad if winners is None else grad * (winners == sample)
            # Sorted by row on a GPU, where torch is asked for deterministic results.
            table.index_add_(0, index, part * share[:, None])

    @functools.cached_property
    def _tables(self) -> tuple[torch.Tensor, ...]:
        """Offsets and shares of rows and columns, as both kernels take them."""
        maps = self.maps
        first = (self.image * maps.image_step)[:, None, None, None]
        row_step, cell_step = (
            step[:, None, None, None] for step in (maps.width * maps.cell_step, maps.cell_step)
        )
        offsets = first + self.rows * row_step, self.columns * cell_step
        shares = self.row_shares.contiguous(), self.column_shares.contiguous()
        return offsets[0].contiguous(), shares[0], offsets[1].contiguous(), shares[1]

    def _taps(self, channels: int) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
        """Yield the sample, the row in a table of all cells, (R * P * Q,), and the share of each tap."""
        first = _first_rows(self.maps, self.image, channels)[:, None, None, None]
        rows = first + self.rows * self.maps.width[:, None, None, None]
        for tap in range(4 * self.samples**2):
            sample, i, j = tap // 4, tap // 2 % 2, tap % 2
            y, x = divmod(sample, self.samples)
            index = rows[:, :, None, y, i] + self.columns[:, None, :, x, j]
            share = self.row_shares[:, :, None, y, i] * self.column_shares[:, None, :, x, j]
            yield sample, index.flatten(), share.flatten()


@dataclass(frozen=True)
class PoolPlan:
    """RoIPool of R RoIs: see :class:`maskrcnn_repro.roi_ops.fused.Plan`."""

    maps: RoIMaps
    image: torch.Tensor
    """(R,) int64."""
    top: torch.Tensor
    """First row of cells of each row of bins, (R, P) int64, inside the map."""
    bottom: torch.Tensor
    """The row after the last, not above the map's height."""
    left: torch.Tensor
    """(R, Q)."""
    right: torch.Tensor

    winner_dtype = torch.int32

    @property
    def size(self) -> tuple[int, int]:
        """P, Q."""
        return self.top.shape[1], self.left.shape[1]

    def forward(
        self, features: Sequence[torch.Tensor], out: Output, winners: torch.Tensor | None
    ) -> None:
        """See :class:`Plan`."""
        from maskrcnn_repro.roi_ops.triton_kernels import pool_forward

        maps = self.maps
        places = (self.image * maps.image_step, maps.channel_step, maps.cell_step, maps.width)
        most = [(self.bottom - self.top).amax(1), (self.right - self.left).amax(1)]
        edges = [
            edge.contiguous() for edge in (*most, self.top, self.bottom, self.left, self.right)
        ]
        written = (out.numbers, out.numbers if winners is None else winners)
        arguments = (*_maps(features), maps.level, *places, *edges, *written)
        _launch(pool_forward, out, arguments, self.size, {"TRAINS": winners is not None})

    def backward(self, grad: Output, winners: torch.Tensor | None, table: torch.Tensor) -> None:
        """See :class:`Plan`."""
        from maskrcnn_repro.roi_ops.triton_kernels import pool_backward

        maps = self.maps
        places = (maps.start + self.image * maps.image_step, maps.channel_step, maps.cell_step)
        _launch(pool_backward, grad, (grad.numbers, winners, table, *places), self.size, {})

    def add_sorted(
        self, grad: torch.Tensor, winners: torch.Tensor | None, table: torch.Tensor
    ) -> None:
        """See :class:`Plan`."""
        assert winners is not None
        channels = table.shape[1]
        first = _first_rows(self.maps, self.image, channels)
        bins = self.size[0] * self.size[1]
        rows = first.repeat_interleave(bins, output_size=len(winners))[:, None] + winners
        index = rows * channels + torch.arange(channels, device=rows.device)
        # A bin without cells adds zero to the first number.
        filled = winners >= 0
        index, grad = index.where(filled, 0), grad.where(filled, 0)
        table.view(-1).index_put_((index.flatten(),), grad.flatten(), accumulate=True)


def _first_rows(maps: RoIMaps, image: torch.Tensor, channels: int) -> torch.Tensor:
    """Return the row of the first cell of each RoI's image in a table of all levels, (R,)."""
    return maps.start // channels + image * maps.height * maps.width


def _maps(features: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Return as many maps as the kernels take; the last ones are not read."""
    return [*features, *[features[0]] * (MOST_LEVELS - len(features))]


def _launch(
    kernel: Any, out: Output, arguments: tuple, size: tuple[int, int], settings: dict[str, Any]
) -> None:
    import triton.language as tl

    wide = tl.float64 if out.numbers.dtype == torch.float64 else tl.float32
    # Triton launches on the current device, whatever device the tensors are on.
    with torch.cuda.device_of(out.numbers):
        kernel[out.grid](
            *arguments, *size, out.channels, *out.steps, **settings, **out.tile, WIDE=wide
        )
