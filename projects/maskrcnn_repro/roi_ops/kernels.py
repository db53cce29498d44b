"""CPU kernels of the RoI operations, on a table that has one row per cell of the feature map.

Features in channels-last memory are such a table. A row holds all channels, so that a cell is read in one
run through memory; torchvision's kernels read every channel of every sample separately, which costs most in
the backward pass.

Averages are weighted sums of rows: ``embedding_bag``. Its own backward adds row after row into the table.
Sorted by cell, the same terms are again a weighted sum of rows, now of the output's gradient, and
``embedding_bag`` forward computes that 2 to 3 times faster, with every row written once. Maxima are computed
in chunks that stay in the cache; the index of the winning candidate is saved for each channel.

Shape legend: B cells of the output over all RoIs (or bags of a sum), C channels, E rows that all of them
read, K candidates of a maximum, M cells of all images' maps.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Iterator
from typing import Protocol

import torch
import torch.nn.functional as F

CHUNK = 1 << 20
"""Numbers of a chunk: 4 MiB in float32. From 2 to 8 MiB the time of a maximum is the same within 10 %."""

BLOCK = 64
"""The fewest channels in a block, where a copy of all channels would need too much memory."""


class Kernel(Protocol):
    """An RoI operation with its RoIs and the size of its maps fixed."""

    def forward(self, table: torch.Tensor, train: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Pool the rows of a table.

        Args:
            table: (M, C), one row per cell.
            train: whether :meth:`backward` will follow.

        Returns:
            (B, C), and what :meth:`backward` needs, if anything.
        """

    def backward(self, grad: torch.Tensor, saved: torch.Tensor | None) -> torch.Tensor:
        """Return the gradient of the table, (M, C), from that of the output, (B, C)."""


class Bags:
    """Weighted sums of rows of a table: one sum for each of B bags, as in ``embedding_bag``.

    Args:
        index: (E,) int32, rows of the table, bag after bag.
        weight: (E,) float.
        offsets: (B + 1,) int32, the first entry of each bag, then E.
    """

    def __init__(self, index: torch.Tensor, weight: torch.Tensor, offsets: torch.Tensor) -> None:
        self.index, self.weight, self.offsets = index, weight, offsets

    @classmethod
    def from_taps(cls, index: torch.Tensor, weight: torch.Tensor) -> Bags:
        """Return the bags of (B, T) row indices and weights."""
        # Drop zero weights: of RoIAlign's 16 a quarter to two thirds, as samples of an output cell share rows.
        filled = weight != 0
        sizes = filled.sum(1, dtype=torch.int32)
        offsets = F.pad(sizes.cumsum(0, dtype=torch.int32), (1, 0))
        entries = filled.flatten().nonzero().squeeze(1)
        return cls(index.take(entries), weight.take(entries), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def sums(self, table: torch.Tensor) -> torch.Tensor:
        """Return the weighted sums, (B, C), of the rows of a table, (rows, C)."""
        # embedding_bag needs weights of the table's dtype, and indices and offsets of the same one.
        return F.embedding_bag(
            self.index,
            table,
            self.offsets,
            mode="sum",
            per_sample_weights=self.weight.to(table.dtype),
            include_last_offset=True,
        )

    def part(self, first: int, last: int) -> Bags:
        """Return the bags from ``first`` up to, but without, ``last``."""
        offsets = self.offsets[first : last + 1]
        entries = slice(int(offsets[0]), int(offsets[-1]))
        return Bags(self.index[entries], self.weight[entries], offsets - offsets[0])

    def transposed(self, rows: int) -> Bags:
        """Return the bags that multiply a table of B rows by the transposed matrix."""
        bag = torch.arange(len(self), dtype=torch.int32)
        bag = bag.repeat_interleave(self.offsets.diff(), output_size=len(self.index))
        index, order = self.index.sort()
        ends = torch.arange(rows + 1, dtype=torch.int32)
        offsets = torch.searchsorted(index, ends, out_int32=True)
        return Bags(bag.take(order), self.weight.take(order), offsets)


class _OfBags:
    """A kernel of weighted sums of the rows of a table with M cells."""

    def __init__(self, bags: Bags, cells: int) -> None:
        self.bags, self.cells = bags, cells

    @functools.cached_property
    def transposed(self) -> Bags:
        """The transposed bags, for the backward pass of all blocks of channels."""
        return self.bags.transposed(self.cells)


class WeightedSum(_OfBags):
    """Kernel of averages: each output cell is a weighted sum of rows.

    Args:
        bags: B of them.
        cells: M.
    """

    def forward(self, table: torch.Tensor, train: bool) -> tuple[torch.Tensor, None]:
        """See :class:`Kernel`."""
        return self.bags.sums(table), None

    def backward(self, grad: torch.Tensor, saved: torch.Tensor | None) -> torch.Tensor:
        """See :class:`Kernel`."""
        return self.transposed.sums(grad)


class SampleMaximum(_OfBags):
    """Kernel of maxima of samples: each output cell is the maximum of K weighted sums of rows.

    Args:
        bags: B * K of them, one for each sample.
        candidates: K, at most 255.
        cells: M.
    """

    def __init__(self, bags: Bags, candidates: int, cells: int) -> None:
        super().__init__(bags, cells)
        self.candidates = candidates

    def forward(self, table: torch.Tensor, train: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
        """See :class:`Kernel`."""
        count, channels = len(self.bags) // self.candidates, table.shape[1]
        out = table.new_empty(count, channels)
        winners = out.new_empty(out.shape, dtype=torch.uint8) if train else None
        rank = _ranks(self.candidates, table)
        for part in _chunks(count, self.candidates * channels):
            bags = self.bags.part(part.start * self.candidates, part.stop * self.candidates)
            samples = bags.sums(table).view(-1, self.candidates, channels)
            torch.amax(samples, 1, out=out[part])
            if winners is not None:
                winners[part] = _first_winner(samples, out[part], rank)
        return out, winners

    def backward(self, grad: torch.Tensor, saved: torch.Tensor | None) -> torch.Tensor:
        """See :class:`Kernel`."""
        assert saved is not None
        count, channels = grad.shape
        table = grad.new_empty(self.cells, channels)
        # The samples' gradient is K times as large as the output's, so it is computed for one block of
        # channels at a time, in memory that is allocated once.
        memory = grad.new_empty(0)
        for block in blocks(channels, count * self.candidates):
            shape = (count, self.candidates, block.stop - block.start)
            memory = memory if len(memory) else grad.new_empty(math.prod(shape))
            samples = memory[: math.prod(shape)].view(shape)
            self._spread(grad[:, block], saved[:, block], samples)
            table[:, block] = self.transposed.sums(samples.flatten(0, 1))
        return table

    def _spread(self, grad: torch.Tensor, winners: torch.Tensor, samples: torch.Tensor) -> None:
        """Write the gradient of the samples, (B, K, C): the output's for the winner, zero for all others."""
        rank = _ranks(self.candidates, winners)
        for part in _chunks(len(grad), samples[0].numel()):
            # A comparison that writes floats is several times faster than a mask of bool.
            torch.eq(winners[part, None], rank, out=samples[part])
            samples[part] *= grad[part, None]


class CellMaximum:
    """Kernel of RoIPool: each output cell is the maximum over a rectangle of rows, zero if it is empty.

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
        # Sorted by size: the rectangles of a chunk are padded to the largest of them.
        self.sizes, self.order = (height * width).sort(descending=True)
        self.first, self.width = first[self.order], width[self.order].clamp(min=1)
        self.stride, self.cells = stride, cells

    def forward(self, table: torch.Tensor, train: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
        """See :class:`Kernel`."""
        if train:
            return self._with_winners(table)
        # A sparse matrix times the table, with the maximum in place of the sum: no row is copied.
        numbers = table.to(_widen(table)) if table.dtype == torch.float16 else table
        pooled = [torch.sparse.mm(part, numbers, "amax") for part in self._matrices(numbers.dtype)]
        return (pooled[0] if len(pooled) == 1 else torch.cat(pooled)).to(table.dtype), None

    def _with_winners(self, table: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        size, empty = (len(self.order), table.shape[1]), self.order[self.sizes <= 0]
        out, winners = table.new_empty(size), torch.empty(size, dtype=torch.int32)
        out[empty], winners[empty] = 0.0, self.cells
        for part in self._parts(table.shape[1]):
            rows, bins = self._rows(part), self.order[part]
            candidates = table.index_select(0, rows.flatten())
            # As the pixels of images one pixel wide, in channels-last memory: max_pool2d tells the first winner.
            images = candidates.view(*rows.shape, 1, -1).permute(0, 3, 1, 2)
            best, step = F.max_pool2d(images, (rows.shape[1], 1), return_indices=True)
            out.index_copy_(0, bins, best.flatten(1))
            winners.index_copy_(0, bins, rows.gather(1, step.flatten(1)).int())
        return out, winners

    def backward(self, grad: torch.Tensor, saved: torch.Tensor | None) -> torch.Tensor:
        """See :class:`Kernel`."""
        assert saved is not None
        # Empty rectangles have no winner: their gradient goes to a row after the last, which is dropped.
        # (The gradient of a NaN goes to an arbitrary row.)
        table = grad.new_zeros(self.cells + 1, grad.shape[1], dtype=_widen(grad))
        # Summed in float32 at least: in 16 bits a sum of many gradients stops growing.
        for part in _chunks(len(grad), grad.shape[1]):
            table.scatter_add_(0, saved[part].long(), grad[part].to(table.dtype))
        return table[:-1].to(grad.dtype)

    def _matrices(self, dtype: torch.dtype) -> Iterator[torch.Tensor]:
        """Yield sparse (b, M) matrices that have a one where a rectangle has a row, B lines together."""
        place = self.order.argsort()
        sizes = self.sizes[place].clamp(min=0)
        # Split where the ones so far fill another chunk: large RoIs on a large map have millions.
        chunk = (sizes.cumsum(0) - sizes) // CHUNK
        lines = chunk.unique_consecutive(return_counts=True)[1].tolist()
        for part, size in zip(place.split(lines), sizes.split(lines), strict=True):
            rows = self._rows_of(part, size)
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
                yield torch.sparse_csr_tensor(
                    F.pad(size.cumsum(0), (1, 0)),
                    rows,
                    torch.ones(len(rows), dtype=dtype),
                    (len(part), self.cells),
                    check_invariants=False,
                )

    def _rows_of(self, rectangles: torch.Tensor, sizes: torch.Tensor) -> torch.Tensor:
        """Return the rows of some rectangles of these sizes, one rectangle after the other."""
        last = sizes.cumsum(0)
        step = torch.arange(int(last[-1])) - (last - sizes).repeat_interleave(sizes)
        rectangles = rectangles.repeat_interleave(sizes)
        width = self.width[rectangles]
        return self.first[rectangles] + step // width * self.stride + step % width

    def _parts(self, channels: int) -> Iterator[slice]:
        """Yield slices of the rectangles that are not empty, each as long as fits in a chunk."""
        start, stop = 0, int((self.sizes > 0).sum())
        while start < stop:
            end = min(stop, start + max(1, CHUNK // (int(self.sizes[start]) * channels)))
            yield slice(start, end)
            start = end

    def _rows(self, part: slice) -> torch.Tensor:
        """Return the rows of some rectangles, (b, K) int64; smaller ones are padded with their last row."""
        sizes, width = self.sizes[part, None], self.width[part, None]
        step = torch.minimum(torch.arange(int(sizes[0])), sizes - 1)
        return self.first[part, None] + step // width * self.stride + step % width


def blocks(channels: int, rows: int) -> Iterator[slice]:
    """Yield slices of the channels: as many as fill a chunk with this many rows, at least :data:`BLOCK`."""
    step = max(BLOCK, CHUNK // rows)
    for first in range(0, channels, step):
        yield slice(first, min(first + step, channels))


def _chunks(count: int, numbers: int) -> Iterator[slice]:
    """Yield slices of ``count`` items, each item of this many ``numbers``, that fill a chunk."""
    step = max(1, CHUNK // max(numbers, 1))
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))


def _widen(numbers: torch.Tensor) -> torch.dtype:
    return torch.promote_types(numbers.dtype, torch.float32)


def _ranks(candidates: int, like: torch.Tensor) -> torch.Tensor:
    """Return (K, 1): K for the first candidate, 1 for the last, so that the largest rank is the first."""
    return torch.arange(candidates, 0, -1, dtype=like.dtype)[:, None]


def _first_winner(candidates: torch.Tensor, best: torch.Tensor, rank: torch.Tensor) -> torch.Tensor:
    """Return the rank, (B, C), of the first candidate that equals the maximum, 0 if none does (NaN).

    Args:
        candidates: (B, K, C), overwritten to save memory.
        best: (B, C).
        rank: falls from one candidate to the next, broadcast to ``candidates``.
    """
    return candidates.eq_(best[:, None]).mul_(rank).amax(1)
