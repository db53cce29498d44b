"""A kernel of :mod:`maskrcnn_repro.roi_ops.kernels` as a differentiable operation on (N, C, H, W) tensors.

Shape legend: N images, C channels, H and W cells of the feature map, R RoIs, P rows and columns of the
output.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from maskrcnn_repro.roi_ops.kernels import Kernel, blocks

import torch
from torch.autograd.function import once_differentiable


def pool(features: torch.Tensor, kernel: Kernel, rois: int, size: tuple[int, int]) -> torch.Tensor:
    """Pool with a kernel made for these RoIs.

    Channels-last features give a channels-last output and gradient, without a copy of either; others are
    copied in blocks of channels, and give a contiguous output.

    Args:
        features: (N, C, H, W), float, on the CPU.
        kernel: made for these features' N, H and W.
        rois: R.
        size: rows and columns of the output.

    Returns:
        (R, C, P, P), of the dtype and memory format of ``features``.
    """
    return _Pooling.apply(features, kernel, (rois, features.shape[1], *size))


def is_channels_last(features: torch.Tensor) -> bool:
    """Tell whether all channels of a cell lie together, and those of different cells do not."""
    by_cell = features.is_contiguous(memory_format=torch.channels_last)
    return by_cell and not features.is_contiguous()


def is_traced() -> bool:
    """Tell whether operations are being recorded for export or compilation rather than run."""
    # Public, but not in torch.jit's list of names.
    return torch.jit.is_tracing() or torch.compiler.is_compiling()  # type: ignore[attr-defined]


class _Pooling(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, features: torch.Tensor, kernel: Kernel, shape: tuple[int, int, int, int]
    ) -> torch.Tensor:
        ctx.kernel, ctx.shape, ctx.by_cell = kernel, features.shape, is_channels_last(features)
        ctx.kept = []

        def forward(table: torch.Tensor) -> torch.Tensor:
            pooled, kept = kernel.forward(table, ctx.needs_input_grad[0])
            ctx.kept.append(kept)
            return pooled

        return _apply(forward, features, shape, ctx.by_cell)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        kept = iter(ctx.kept)
        return (
            _apply(
                lambda rows: ctx.kernel.backward(rows, next(kept)), grad, ctx.shape, ctx.by_cell
            ),
            None,
            None,
        )


def _apply(
    function: Callable[[torch.Tensor], torch.Tensor],
    images: torch.Tensor,
    shape: tuple[int, int, int, int],
    by_cell: bool,
) -> torch.Tensor:
    """Apply a function from tables to tables, which treats all channels alike, to images.

    Args:
        function: from (cells of ``images``, c) to (cells of ``shape``, c).
        images: (n, C, h, w).
        shape: of the result; it has the same C.
        by_cell: whether the result is channels-last; all channels are then done at once.
    """
    if 0 in (*images.shape, *shape):
        return images.new_zeros(shape)
    count, channels, height, width = shape
    if by_cell:
        return function(_table(images)).view(count, height, width, -1).permute(0, 3, 1, 2)
    result = images.new_empty(shape)
    cells = max(count * height * width, images.numel() // channels)
    for block in blocks(channels, cells):
        table = function(_table(images[:, block]))
        result[:, block] = table.view(count, height, width, -1).permute(0, 3, 1, 2)
    return result


def _table(images: torch.Tensor) -> torch.Tensor:
    """Return (n, c, h, w) as (n * h * w, c); without a copy if it is channels-last."""
    return images.permute(0, 2, 3, 1).reshape(-1, images.shape[1])
