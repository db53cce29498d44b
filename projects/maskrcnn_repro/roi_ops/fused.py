"""The RoI operations over all levels of a pyramid at once, by Triton kernels.

The tables that say where the kernels read are computed by the operations themselves, with the rules of
:mod:`maskrcnn_repro.roi_ops.grid`; the results equal those of torch's operations up to rounding.

The backward adds with atomics: the last bits of a gradient differ from run to run. Where
``torch.use_deterministic_algorithms(True)`` holds, it is computed by torch's sorted additions instead, which
gives the same bits in every run and takes longer.

Shape legend: L levels, N images, C channels, H and W cells of a map, R RoIs, P rows and Q columns of the
output, S samples per side of an output cell.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

from maskrcnn_repro.roi_ops.levels import RoIMaps
from maskrcnn_repro.roi_ops.pooling import is_channels_last

import torch
from torch.autograd.function import once_differentiable

MOST_LEVELS = 6
"""Of a pyramid; the kernels take a pointer for each."""
TILE = 512
"""Numbers of the output that a program computes at once."""


class Plan(Protocol):
    """An RoI operation with its RoIs fixed, for maps in the memory of ``maps``."""

    @property
    def maps(self) -> RoIMaps:
        """Of the R RoIs."""

    @property
    def size(self) -> tuple[int, int]:
        """P, Q."""

    @property
    def winner_dtype(self) -> torch.dtype | None:
        """Of what the forward keeps for the backward; None: nothing."""

    def forward(
        self, features: Sequence[torch.Tensor], out: Output, winners: torch.Tensor | None
    ) -> None:
        """Launch the kernel that fills ``out`` and, unless it is None, ``winners``."""

    def backward(self, grad: Output, winners: torch.Tensor | None, table: torch.Tensor) -> None:
        """Launch the kernel that adds the gradient to the buffer of all levels."""

    def add_sorted(
        self, grad: torch.Tensor, winners: torch.Tensor | None, table: torch.Tensor
    ) -> None:
        """Add the gradient, (R * P * Q, C), to a row per cell, (cells of all levels, C), always in the same order.

        ``winners`` is as ``grad``.
        """


class Output:
    """An output, (R, C, P, Q), as the kernels address it, and how they share it out.

    Args:
        numbers: (R, C, P, Q), without gaps.
        channels_last: its memory format.
    """

    def __init__(self, numbers: torch.Tensor, channels_last: bool) -> None:
        self.numbers = numbers
        rois, self.channels, *size = numbers.shape
        bins = math.prod(size)
        self.steps = (self.channels, 1) if channels_last else (1, bins)
        # Neighbours in a tile are neighbours in memory.
        most = min(_power_of_2(self.channels), 128) if channels_last else 8
        together = min(_power_of_2(bins), TILE // most)
        self.tile = {"CHANNELS_LAST": channels_last, "BINS": together, "CHANNELS": most}
        self.grid = (rois, -(-bins // together), -(-self.channels // most))


def pool_levels(features: Sequence[torch.Tensor], plan: Plan, channels_last: bool) -> torch.Tensor:
    """Pool each RoI from the map of its level, in one launch.

    Args:
        features: (N, C, H, W) for each level, all of one float dtype, with numbers in each.
        plan: of at least one RoI, for maps in this memory format.
        channels_last: the memory format.

    Returns:
        (R, C, P, Q), of the dtype of ``features``, in that memory format.
    """
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    maps = [level.contiguous(memory_format=memory_format) for level in features]
    return _Fused.apply(plan, channels_last, *maps)


def by_cell(features: Sequence[torch.Tensor]) -> bool:
    """Tell whether levels are best read as channels-last; a map of one cell is in both formats."""
    last = torch.channels_last
    return all(level.is_contiguous(memory_format=last) for level in features) and any(
        map(is_channels_last, features)
    )


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, plan: Plan, channels_last: bool, *features: torch.Tensor) -> torch.Tensor:
        ctx.plan, ctx.channels_last = plan, channels_last
        ctx.shapes = [level.shape for level in features]
        rois, channels = len(plan.maps.level), features[0].shape[1]
        ctx.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        out = features[0].new_empty((rois, channels, *plan.size))
        out = out.contiguous(memory_format=ctx.memory_format)
        trains = any(ctx.needs_input_grad) and plan.winner_dtype is not None
        winners = torch.empty_like(out, dtype=plan.winner_dtype) if trains else None
        plan.forward(features, Output(out, channels_last), winners)
        ctx.save_for_backward(winners)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (winners,) = ctx.saved_tensors
        # Summed in float32 at least: in 16 bits a sum of many gradients stops growing.
        wide = torch.promote_types(grad.dtype, torch.float32)
        sizes = list(map(math.prod, ctx.shapes))
        table = torch.zeros(sum(sizes), dtype=wide, device=grad.device)
        channels_last = ctx.channels_last
        if torch.are_deterministic_algorithms_enabled():
            channels_last = True
            rows = None if winners is None else _rows(winners)
            ctx.plan.add_sorted(_rows(grad).to(wide), rows, table.view(-1, grad.shape[1]))
        else:
            grad = grad.contiguous(memory_format=ctx.memory_format)
            ctx.plan.backward(Output(grad, channels_last), winners, table)
        parts = zip(table.to(grad.dtype).split(sizes), ctx.shapes, strict=True)
        return None, None, *(_as_map(part, shape, channels_last) for part, shape in parts)


def _as_map(numbers: torch.Tensor, shape: torch.Size, channels_last: bool) -> torch.Tensor:
    images, channels, height, width = shape
    if channels_last:
        return numbers.view(images, height, width, channels).permute(0, 3, 1, 2)
    return numbers.view(shape)


def _rows(pooled: torch.Tensor) -> torch.Tensor:
    """Return (R, C, P, Q) as (R * P * Q, C)."""
    return pooled.permute(0, 2, 3, 1).flatten(0, 2)


def _power_of_2(number: int) -> int:
    """Return the first power of 2 that is not below ``number``."""
    return 1 << (number - 1).bit_length()
