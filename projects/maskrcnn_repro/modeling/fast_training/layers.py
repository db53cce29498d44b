"""Convolutions that do their frozen batch norm with their weights.

Frozen batch norm is a factor and a summand for each channel. Multiplying the weights by the factor takes a thousandth
of what multiplying the map takes, which autograd would also keep for the backward pass.
"""

from __future__ import annotations

from maskrcnn_repro.modeling.hooks import is_hooked

import torch
import torch.nn.functional as F
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from torch import nn


class FoldedConv2d(Conv2d):
    """Detectron2's convolution, with a frozen batch norm folded into its weights while it trains.

    An existing layer becomes one by its ``__class__``; parameters, buffers and their names stay. In evaluation it is
    the plain layer.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, C_in, H, W) to (N, C_out, H', W')."""
        if not self.training or not x.numel():
            return super().forward(x)
        norm = self.norm
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
        shift = norm.bias - norm.running_mean * scale
        if self.bias is not None:
            shift = shift + self.bias * scale
        weight = self.weight * scale[:, None, None, None]
        x = F.conv2d(x, weight, shift, self.stride, self.padding, self.dilation, self.groups)
        return x if self.activation is None else self.activation(x)


def is_foldable(layer: nn.Module) -> bool:
    """Tell whether a layer is a convolution of Detectron2 with frozen batch norm, which has no hooks.

    A folded norm is not called; hooks of the convolution itself are, as before.
    """
    if type(layer) is not Conv2d or not isinstance(layer.norm, FrozenBatchNorm2d):
        return False
    return layer.padding_mode == "zeros" and not is_hooked(layer.norm)
