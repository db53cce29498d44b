"""Triton kernels of the RoI operations: all RoIs of all levels of a pyramid in one launch.

A program pools some bins of one RoI in some channels. Where it reads, and with which weights, was computed by
:mod:`maskrcnn_repro.roi_ops.grid`; it finds the offsets of rows and of columns, in numbers from the start of
the level's map, in tables: the offset of a cell is their sum. Sums are in float32, or float64 for such maps.

The backward kernels add with atomics, in the order in which programs happen to run: their last bits differ
from run to run.

The module is imported only where a kernel runs, as it needs Triton. With ``TRITON_INTERPRET=1`` set before
the import the kernels run on the CPU, slowly.

Shape legend: R RoIs, P rows (``rows``) and Q columns (``columns``) of the output, S samples per side of an
output cell, C channels.
"""

# Not `from __future__ import annotations`: Triton reads the annotations.

import triton
import triton.language as tl

NOTHING = tl.constexpr(255)
"""Winner of a maximum that no sample equals (NaN)."""


@triton.jit
def _map_of(level, map0, map1, map2, map3, map4, map5):
    """Return the pointer of a level's map."""
    chosen = map0
    if level == 1:
        chosen = map1
    if level == 2:
        chosen = map2
    if level == 3:
        chosen = map3
    if level == 4:
        chosen = map4
    if level == 5:
        chosen = map5
    return chosen


@triton.jit
def _tile(rows, columns, channels, BINS: tl.constexpr, CHANNELS: tl.constexpr):
    """Return the program's bins, (BINS,), its channels, (1, CHANNELS), and which of both exist."""
    bins = tl.program_id(1) * BINS + tl.arange(0, BINS)
    channel = (tl.program_id(2) * CHANNELS + tl.arange(0, CHANNELS))[None, :]
    return bins, channel, (bins < rows * columns)[:, None] & (channel < channels)


@triton.jit
def _taps(entry, SAMPLES: tl.constexpr, sample, tap: tl.constexpr, offsets, shares, exists):
    """Return offset and share of a tap of a sample, both (BINS,), along one axis."""
    place = (entry * SAMPLES + sample) * 2 + tap
    offset = tl.load(offsets + place, mask=exists, other=0)
    return offset, tl.load(shares + place, mask=exists, other=0.0)


@triton.jit
def _offsets(channel, step, CHANNELS_LAST: tl.constexpr):
    """Return the offsets of channels in a map; neighbours known to be adjacent are read together."""
    offsets = channel.to(tl.int64)
    if not CHANNELS_LAST:
        offsets = offsets * tl.load(step)
    return offsets


@triton.jit
def sampled_forward(
    map0, map1, map2, map3, map4, map5,
    level_of, channel_step_of, row_offsets, row_shares, column_offsets, column_shares,
    out, winners, rows, columns, channels, bin_step, out_channel_step,
    SAMPLES: tl.constexpr, MAXIMUM: tl.constexpr, TRAINS: tl.constexpr,
    CHANNELS_LAST: tl.constexpr, BINS: tl.constexpr, CHANNELS: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Write the average or maximum of the samples of each bin, and which sample was the maximum."""
    roi = tl.program_id(0).to(tl.int64)
    source = _map_of(tl.load(level_of + roi), map0, map1, map2, map3, map4, map5)
    bins, channel, exists = _tile(rows, columns, channels, BINS, CHANNELS)
    in_grid = bins < rows * columns
    at_channel = _offsets(channel, channel_step_of + roi, CHANNELS_LAST)
    row, column = roi * rows + bins // columns, roi * columns + bins % columns
    result = tl.full((BINS, CHANNELS), 0.0, WIDE)
    winner = tl.full((BINS, CHANNELS), NOTHING, tl.int32)
    for y in range(SAMPLES):
        for x in range(SAMPLES):
            value = tl.full((BINS, CHANNELS), 0.0, WIDE)
            for i in tl.static_range(2):
                at_row, row_share = _taps(row, SAMPLES, y, i, row_offsets, row_shares, in_grid)
                for j in tl.static_range(2):
                    at_column, column_share = _taps(
                        column, SAMPLES, x, j, column_offsets, column_shares, in_grid
                    )
                    share = (row_share * column_share)[:, None]
                    # A cell of weight 0 is not read: 0 * NaN is NaN.
                    number = tl.load(
                        source + (at_row + at_column)[:, None] + at_channel,
                        mask=exists & (share != 0),
                        other=0.0,
                    )
                    value += share * number.to(WIDE)
            if MAXIMUM:
                sample = y * SAMPLES + x
                # The first of equal samples wins; NaN stays.
                better = (value > result) | (value != value) | (sample == 0)
                winner = tl.where(better, sample, winner)
                result = tl.where(better & (result == result), value, result)
            else:
                result += value
    place = roi * rows * columns * channels + bins[:, None] * bin_step + channel * out_channel_step
    if MAXIMUM:
        if TRAINS:
            winner = tl.where(result == result, winner, NOTHING)
            tl.store(winners + place, winner.to(tl.uint8), mask=exists)
    else:
        result = result / (SAMPLES * SAMPLES)
    tl.store(out + place, result.to(out.dtype.element_ty), mask=exists)


@triton.jit
def sampled_backward(
    grad, winners, table, start_of, channel_step_of,
    row_offsets, row_shares, column_offsets, column_shares,
    rows, columns, channels, bin_step, out_channel_step,
    SAMPLES: tl.constexpr, MAXIMUM: tl.constexpr,
    CHANNELS_LAST: tl.constexpr, BINS: tl.constexpr, CHANNELS: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Add the gradient of each bin to those of the cells that it reads, in the buffer of all levels."""
    roi = tl.program_id(0).to(tl.int64)
    target = table + tl.load(start_of + roi)
    bins, channel, exists = _tile(rows, columns, channels, BINS, CHANNELS)
    in_grid = bins < rows * columns
    at_channel = _offsets(channel, channel_step_of + roi, CHANNELS_LAST)
    row, column = roi * rows + bins // columns, roi * columns + bins % columns
    place = roi * rows * columns * channels + bins[:, None] * bin_step + channel * out_channel_step
    received = tl.load(grad + place, mask=exists, other=0.0).to(WIDE)
    if MAXIMUM:
        winner = tl.load(winners + place, mask=exists, other=NOTHING).to(tl.int32)
    else:
        received = received / (SAMPLES * SAMPLES)
    for y in range(SAMPLES):
        for x in range(SAMPLES):
            flows = exists
            if MAXIMUM:
                flows = flows & (winner == y * SAMPLES + x)
            for i in tl.static_range(2):
                at_row, row_share = _taps(row, SAMPLES, y, i, row_offsets, row_shares, in_grid)
                for j in tl.static_range(2):
                    at_column, column_share = _taps(
                        column, SAMPLES, x, j, column_offsets, column_shares, in_grid
                    )
                    share = (row_share * column_share)[:, None]
                    tl.atomic_add(
                        target + (at_row + at_column)[:, None] + at_channel,
                        share * received,
                        mask=flows & (share != 0),
                        sem="relaxed",
                    )


@triton.jit
def pool_forward(
    map0, map1, map2, map3, map4, map5,
    level_of, start_of, channel_step_of, cell_step_of, width_of, most_rows, most_columns,
    top, bottom, left, right, out, winners,
    rows, columns, channels, bin_step, out_channel_step,
    TRAINS: tl.constexpr,
    CHANNELS_LAST: tl.constexpr, BINS: tl.constexpr, CHANNELS: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Write the maximum of the cells of each bin, 0 for none, and the cell that it is of, -1 for none."""
    roi = tl.program_id(0).to(tl.int64)
    source = _map_of(tl.load(level_of + roi), map0, map1, map2, map3, map4, map5)
    bins, channel, exists = _tile(rows, columns, channels, BINS, CHANNELS)
    in_grid = bins < rows * columns
    source += tl.load(start_of + roi)
    at_channel = _offsets(channel, channel_step_of + roi, CHANNELS_LAST)
    cell_step, width = tl.load(cell_step_of + roi), tl.load(width_of + roi)
    row, column = roi * rows + bins // columns, roi * columns + bins % columns
    first_row = tl.load(top + row, mask=in_grid, other=0)
    after_row = tl.load(bottom + row, mask=in_grid, other=0)
    first_column = tl.load(left + column, mask=in_grid, other=0)
    after_column = tl.load(right + column, mask=in_grid, other=0)
    result = tl.full((BINS, CHANNELS), 0.0, WIDE)
    winner = tl.full((BINS, CHANNELS), -1, tl.int32)
    for y in range(tl.load(most_rows + roi)):
        for x in range(tl.load(most_columns + roi)):
            inside = (first_row + y < after_row) & (first_column + x < after_column)
            cell = ((first_row + y) * width + first_column + x)[:, None]
            reads = exists & inside[:, None]
            number = tl.load(source + cell * cell_step + at_channel, mask=reads, other=0.0)
            value = number.to(WIDE)
            better = reads & ((value > result) | (value != value) | (winner < 0))
            winner = tl.where(better, cell.to(tl.int32), winner)
            result = tl.where(better & (result == result), value, result)
    place = roi * rows * columns * channels + bins[:, None] * bin_step + channel * out_channel_step
    tl.store(out + place, result.to(out.dtype.element_ty), mask=exists)
    if TRAINS:
        tl.store(winners + place, winner, mask=exists)


@triton.jit
def pool_backward(
    grad, winners, table, start_of, channel_step_of, cell_step_of,
    rows, columns, channels, bin_step, out_channel_step,
    CHANNELS_LAST: tl.constexpr, BINS: tl.constexpr, CHANNELS: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Add the gradient of each bin to that of the cell that was its maximum."""
    roi = tl.program_id(0).to(tl.int64)
    bins, channel, exists = _tile(rows, columns, channels, BINS, CHANNELS)
    at_channel = _offsets(channel, channel_step_of + roi, CHANNELS_LAST)
    place = roi * rows * columns * channels + bins[:, None] * bin_step + channel * out_channel_step
    winner = tl.load(winners + place, mask=exists, other=-1).to(tl.int64)
    received = tl.load(grad + place, mask=exists, other=0.0).to(WIDE)
    target = table + tl.load(start_of + roi) + winner * tl.load(cell_step_of + roi) + at_channel
    tl.atomic_add(target, received, mask=winner >= 0, sem="relaxed")


@triton.jit
def probe(written):
    """Write 1: what shows that Triton works."""
    tl.store(written, 1.0)
