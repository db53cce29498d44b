"""Runs a kernel of :mod:`maskrcnn_repro.roi_ops.kernels` on (N, C, H, W) features, with gradients.

Shape legend: N images, C channels, H and W cells of the feature map, R RoIs, P rows and columns of the
output.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from maskrcnn_repro.roi_ops.kernels import Kernel, blocks

import torch
from torch.autograd.function import once_differentiable


def pool(features: torch.Tensor, kernel: Kernel, rois: int, size: tuple[int, int]) -> torch.Tensor:
    """Pool the features of each RoI with a kernel.

    Channels-last features give a channels-last output and gradient, without a copy of either; others are
    copied in blocks of channels, and give a contiguous output.

    Args:
        features: (N, C, H, W), float, on the CPU.
        kernel: for the RoIs, and for the N, H and W of these features.
        rois: R.
        size: rows and columns of the output.

    Returns:
        (R, C, P, P), of the dtype and memory format of ``features``.
    """
    return _Pooling.apply(features, kernel, (rois, features.shape[1], *size))


def is_channels_last(features: torch.Tensor) -> bool:
    """Tell whether features are channels-last and not contiguous as well."""
    # With one channel or one cell the two formats are the same: such features count as contiguous.
    channels_last = features.is_contiguous(memory_format=torch.channels_last)
    return channels_last and not features.is_contiguous()


def is_traced() -> bool:
    """Tell whether operations are being recorded for export or compilation rather than run."""
    # mypy: is_tracing is public, but missing in torch.jit's __all__.
    return torch.jit.is_tracing() or torch.compiler.is_compiling()  # type: ignore[attr-defined]


class _Pooling(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, features: torch.Tensor, kernel: Kernel, shape: tuple[int, int, int, int]
    ) -> torch.Tensor:
        ctx.kernel, ctx.shape = kernel, features.shape
        ctx.channels_last = is_channels_last(features)
        ctx.saved = []  # one entry per block of channels

        def forward(table: torch.Tensor) -> torch.Tensor:
            pooled, saved = kernel.forward(table, ctx.needs_input_grad[0])
            ctx.saved.append(saved)
            return pooled

        return _apply(forward, features, shape, ctx.channels_last)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        saved = iter(ctx.saved)

        def backward(rows: torch.Tensor) -> torch.Tensor:
            return ctx.kernel.backward(rows, next(saved))

        return _apply(backward, grad, ctx.shape, ctx.channels_last), None, None


def _apply(
    function: Callable[[torch.Tensor], torch.Tensor],
    images: torch.Tensor,
    shape: tuple[int, int, int, int],
    channels_last: bool,
) -> torch.Tensor:
    """Apply a function on tables, one row per cell, to (n, C, h, w) tensors.

    Args:
        function: from (cells of ``images``, c) to (cells of ``shape``, c), alike for all channels.
        images: (n, C, h, w).
        shape: of the result, with the same C.
        channels_last: whether the result is channels-last; all channels are then computed at once.
    """
    if 0 in (*images.shape, *shape):
        return images.new_zeros(shape)
    count, channels, height, width = shape
    if channels_last:
        return function(_table(images)).view(count, height, width, -1).permute(0, 3, 1, 2)
    result = images.new_empty(shape)
    cells = max(count * height * width, images.numel() // channels)
    for block in blocks(channels, cells):
        rows = function(_table(images[:, block])).view(count, height * width, -1)
        for image, pooled in zip(result[:, block].flatten(2), rows, strict=True):
            image.copy_(pooled.T)
    return result


def _table(images: torch.Tensor) -> torch.Tensor:
    """Return (n, c, h, w) as (n * h * w, c): a view if it is channels-last, else a copy."""
    by_cell = images.permute(0, 2, 3, 1)
    if by_cell.is_contiguous():
        return by_cell.flatten(0, 2)
    table = images.new_empty(len(images), math.prod(images.shape[2:]), images.shape[1])
    # Matrix by matrix: torch transposes those several times faster than it permutes four dimensions.
    for rows, image in zip(table, images.flatten(2), strict=True):
        rows.copy_(image.T)
    return table.flatten(0, 1)
