"""The arithmetic of the RoI operations on a CPU: a table with one row per cell of the map, pooled by rows.

Features in channels-last memory are such a table. A row holds all channels, so that reading a cell is one
run through memory; torchvision's kernels visit every channel of every sample apart, above all backward.

Averages are weighted sums of rows: ``embedding_bag``. Its own backward adds row after row into the table.
Sorted by cell, the same terms are again a weighted sum of rows, now of the output's gradient, and
``embedding_bag`` forward computes that 2 to 3 times faster, with every row written once. Maxima go through
memory in chunks that stay in the cache, and note for each channel which candidate won.

Shape legend: B cells of the output over all RoIs (or bags of a sum), C channels, E rows that are read for all
of them, K candidates of a maximum, M cells of all images' maps.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Protocol

import torch
import torch.nn.functional as F

CHUNK = 1 << 20
"""Numbers that are held at once: 4 MiB. From 2 to 8 MiB the time of a maximum is the same within 10 %."""

BLOCK = 64
"""The fewest channels that are copied at once where a copy of all would need too much memory."""


class Kernel(Protocol):
    """One RoI operation for given RoIs and maps."""

    def forward(self, table: torch.Tensor, keep: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Pool.

        Args:
            table: (M, C), one row per cell.
            keep: whether :meth:`backward` will follow.

        Returns:
            (B, C), and what backward needs, if anything.
        """

    def backward(self, grad: torch.Tensor, kept: torch.Tensor | None) -> torch.Tensor:
        """Return the gradient of the table, (M, C), from that of the output, (B, C)."""


class Bags:
    """Weighted sums of rows of a table, one for each of B bags.

    Args:
        index: (E,) int32, rows of the table, bag after bag.
        weight: (E,) float.
        offsets: (B + 1,) int32, where each bag begins, and E.
    """

    def __init__(self, index: torch.Tensor, weight: torch.Tensor, offsets: torch.Tensor) -> None:
        self.index, self.weight, self.offsets = index, weight, offsets

    @classmethod
    def of_taps(cls, index: torch.Tensor, weight: torch.Tensor) -> Bags:
        """Make bags of (B, T) rows and weights, without those of weight 0.

        Of RoIAlign's 16 these are a quarter to two thirds: the samples of an output cell share rows.
        """
        filled = weight != 0
        sizes = filled.sum(1, dtype=torch.int32)
        offsets = F.pad(sizes.cumsum(0, dtype=torch.int32), (1, 0))
        chosen = filled.flatten().nonzero().squeeze(1)
        return cls(index.take(chosen), weight.take(chosen), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def sums(self, table: torch.Tensor) -> torch.Tensor:
        """Return (B, C) from (rows, C)."""
        return F.embedding_bag(
            self.index,
            table,
            self.offsets,
            mode="sum",
            per_sample_weights=self.weight.to(table.dtype),
            include_last_offset=True,
        )

    def part(self, first: int, last: int) -> Bags:
        """Return the bags from ``first`` to below ``last``."""
        offsets = self.offsets[first : last + 1]
        entries = slice(int(offsets[0]), int(offsets[-1]))
        return Bags(self.index[entries], self.weight[entries], offsets - offsets[0])

    def transposed(self, rows: int) -> Bags:
        """Return bags of a table of B rows that do what the transposed matrix does."""
        bag = torch.arange(len(self), dtype=torch.int32)
        bag = bag.repeat_interleave(self.offsets.diff(), output_size=len(self.index))
        index, order = self.index.sort()
        ends = torch.arange(rows + 1, dtype=torch.int32)
        offsets = torch.searchsorted(index, ends, out_int32=True)
        return Bags(bag.take(order), self.weight.take(order), offsets)


class WeightedSum:
    """Each output cell is a weighted sum of rows.

    Args:
        bags: B of them.
        cells: M.
    """

    def __init__(self, bags: Bags, cells: int) -> None:
        self.bags, self.cells = bags, cells

    def forward(self, table: torch.Tensor, keep: bool) -> tuple[torch.Tensor, None]:
        """See :class:`Kernel`."""
        return self.bags.sums(table), None

    def backward(self, grad: torch.Tensor, kept: torch.Tensor | None) -> torch.Tensor:
        """See :class:`Kernel`."""
        return self.transposed.sums(grad)

    @functools.cached_property
    def transposed(self) -> Bags:
        """The same sums seen from the table; several blocks of channels share them."""
        return self.bags.transposed(self.cells)


class SampleMaximum:
    """Each output cell is the maximum of K samples, at most 255, each a weighted sum of rows.

    Args:
        bags: B * K of them, one for each sample.
        candidates: K.
        cells: M.
    """

    def __init__(self, bags: Bags, candidates: int, cells: int) -> None:
        self.bags, self.candidates, self.cells = bags, candidates, cells

    def forward(self, table: torch.Tensor, keep: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
        """See :class:`Kernel`."""
        count, channels = len(self.bags) // self.candidates, table.shape[1]
        out = table.new_empty(count, channels)
        won = out.new_empty(out.shape, dtype=torch.uint8) if keep else None
        rank = _ranks(self.candidates, table)
        for part in _chunks(count, self.candidates * channels):
            bags = self.bags.part(part.start * self.candidates, part.stop * self.candidates)
            samples = bags.sums(table).view(-1, self.candidates, channels)
            torch.amax(samples, 1, out=out[part])
            if won is not None:
                won[part] = _first_winner(samples, out[part], rank)
        return out, won

    def backward(self, grad: torch.Tensor, kept: torch.Tensor | None) -> torch.Tensor:
        """See :class:`Kernel`."""
        assert kept is not None
        count, channels = grad.shape
        table = grad.new_empty(self.cells, channels)
        # The samples' gradient is K times as large as the output's: a block of channels at a time, in memory
        # that is taken once.
        memory = grad.new_empty(0)
        for block in blocks(channels, count * self.candidates):
            shape = (count, self.candidates, block.stop - block.start)
            memory = memory if len(memory) else grad.new_empty(math.prod(shape))
            samples = memory[: math.prod(shape)].view(shape)
            self._spread(grad[:, block], kept[:, block], samples)
            table[:, block] = self.transposed.sums(samples.flatten(0, 1))
        return table

    def _spread(self, grad: torch.Tensor, won: torch.Tensor, samples: torch.Tensor) -> None:
        """Write the gradient of the samples, (B, K, C): the output's for the winner, else zero."""
        rank = _ranks(self.candidates, won)
        for part in _chunks(len(grad), samples[0].numel()):
            # A comparison written as numbers is several times faster than a mask of bool.
            torch.eq(won[part, None], rank, out=samples[part])
            samples[part] *= grad[part, None]

    @functools.cached_property
    def transposed(self) -> Bags:
        """The samples' sums seen from the table."""
        return self.bags.transposed(self.cells)


class CellMaximum:
    """Each output cell is the maximum over a rectangle of rows, or zero over an empty one.

    Args:
        first: (B,) int64, the rectangle's first row in the table.
        height: (B,) int64, cells.
        width: (B,) int64, cells.
        stride: rows of the table from one line of a map to the next.
        cells: M.
    """

    def __init__(
        self,
        first: torch.Tensor,
        height: torch.Tensor,
        width: torch.Tensor,
        stride: int,
        cells: int,
    ) -> None:
        # In the order of their sizes: a chunk's rectangles then differ little.
        self.sizes, self.order = (height * width).sort(descending=True)
        self.first, self.width = first[self.order], width[self.order].clamp(min=1)
        self.stride, self.cells = stride, cells

    def forward(self, table: torch.Tensor, keep: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
        """See :class:`Kernel`."""
        size = (len(self.order), table.shape[1])
        out = table.new_zeros(size)
        won = torch.full(size, self.cells, dtype=torch.int32) if keep else None
        for part in self._parts(table.shape[1]):
            rows = self._rows(part)
            candidates = table.index_select(0, rows.flatten())
            # Ranks count the cells of a map: exact in float32, but not in the 16-bit formats.
            candidates = candidates.view(*rows.shape, -1).to(_wide(table))
            best = torch.amax(candidates, 1)
            out[self.order[part]] = best.to(out.dtype)
            if won is not None:
                after = rows[:, -1:] + 1
                rank = (after - rows).to(best.dtype)[..., None]
                winner = _first_winner(candidates, best, rank)
                won[self.order[part]] = after.int() - winner.int()
        return out, won

    def backward(self, grad: torch.Tensor, kept: torch.Tensor | None) -> torch.Tensor:
        """See :class:`Kernel`."""
        assert kept is not None
        # The row after the last takes what empty rectangles give. (What a NaN gives goes to some row.)
        table = grad.new_zeros(self.cells + 1, grad.shape[1], dtype=_wide(grad))
        for part in _chunks(len(grad), grad.shape[1]):
            table.scatter_add_(0, kept[part].long(), grad[part].to(table.dtype))
        return table[:-1].to(grad.dtype)

    def _parts(self, channels: int) -> Iterator[slice]:
        """Yield ranges of not empty rectangles that fill a chunk."""
        start, stop = 0, int((self.sizes > 0).sum())
        while start < stop:
            end = min(stop, start + max(1, CHUNK // (int(self.sizes[start]) * channels)))
            yield slice(start, end)
            start = end

    def _rows(self, part: slice) -> torch.Tensor:
        """Return the rows of some rectangles, (b, K) int64; smaller ones repeat their last row."""
        sizes, width = self.sizes[part, None], self.width[part, None]
        step = torch.minimum(torch.arange(int(sizes[0])), sizes - 1)
        return self.first[part, None] + step // width * self.stride + step % width


def blocks(channels: int, rows: int) -> Iterator[slice]:
    """Yield ranges of channels: as many as fill a chunk with so many rows, but at least :data:`BLOCK`."""
    step = max(BLOCK, CHUNK // rows)
    for first in range(0, channels, step):
        yield slice(first, min(first + step, channels))


def _chunks(count: int, numbers: int) -> Iterator[slice]:
    """Yield ranges of ``count`` things of so many numbers each."""
    step = max(1, CHUNK // max(numbers, 1))
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))


def _wide(numbers: torch.Tensor) -> torch.dtype:
    return torch.promote_types(numbers.dtype, torch.float32)


def _ranks(candidates: int, like: torch.Tensor) -> torch.Tensor:
    """Return (K, 1): K for the first candidate, 1 for the last."""
    return torch.arange(candidates, 0, -1, dtype=like.dtype)[:, None]


def _first_winner(candidates: torch.Tensor, best: torch.Tensor, rank: torch.Tensor) -> torch.Tensor:
    """Return the rank of the first candidate that is the best, 0 if none is (NaN); spends ``candidates``.

    Args:
        candidates: (B, K, C); overwritten.
        best: (B, C).
        rank: falls from one candidate to the next, broadcast to ``candidates``.
    """
    return candidates.eq_(best[:, None]).mul_(rank).amax(1)
