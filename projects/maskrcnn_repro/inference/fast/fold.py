"""Batch norm folded into the convolution before it.

C output channels of the convolution.
"""

from __future__ import annotations

from typing import Any

import torch
from detectron2.layers import FrozenBatchNorm2d
from torch import Tensor, nn


def is_foldable(norm: nn.Module | None) -> bool:
    """Tell whether a layer in evaluation mode is the same scale and shift for every image, or is none."""
    if isinstance(norm, nn.BatchNorm2d | nn.SyncBatchNorm):
        return norm.running_mean is not None
    return norm is None or isinstance(norm, FrozenBatchNorm2d)


def fold_norm(conv: nn.Module, norm: nn.Module | None) -> tuple[Tensor, Tensor]:
    """Return weight and bias of the convolution that does what a convolution and its batch norm do.

    Computed in float64, so that folding rounds once.

    Args:
        conv: with ``weight`` (C, ...) and ``bias``, which may be None.
        norm: what :func:`is_foldable` accepts.

    Returns:
        The weight, of the shape of that of ``conv``, and the bias (C,), both float32.
    """
    weight = conv.get_parameter("weight").detach().double()
    bias = weight.new_zeros(len(weight))
    if conv.bias is not None:
        bias = conv.get_parameter("bias").detach().double()
    if norm is not None:
        scale, shift = _scale_and_shift(norm)
        weight = weight * scale.view(-1, *[1] * (weight.dim() - 1))
        bias = bias * scale + shift
    return weight.float(), bias.float()


def _scale_and_shift(norm: Any) -> tuple[Tensor, Tensor]:
    """Return the factor and the summand of each channel, both (C,) float64."""
    mean, variance = norm.running_mean.double(), norm.running_var.double()
    scale = torch.rsqrt(variance + norm.eps)
    if norm.weight is not None:  # a batch norm may have no parameters
        scale = scale * norm.weight.detach().double()
    shift = -mean * scale
    return scale, shift if norm.bias is None else shift + norm.bias.detach().double()
