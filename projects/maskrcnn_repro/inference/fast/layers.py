"""Convolutions and linear layers with what follows them: ReLU and the sum of a residual block.

On the CPU oneDNN does both while it writes the result, with weights that were laid out for it once. Its operators in
torch are private (what ``torch.compile`` calls): where they are missing, public functions compute the same.

N images or RoIs, C channels, H and W cells of a map.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_OPERATORS = (
    "_convolution_pointwise",
    "_convolution_pointwise_",
    "_linear_pointwise",
    "_reorder_convolution_weight",
    "_reorder_linear_weight",
)
USUAL_SIDE = 64
"""Side, in cells, of the maps that weights are laid out for; others are computed just as well."""


@functools.cache
def has_fused_operators(dtype: torch.dtype = torch.float32) -> bool:
    """Tell whether this torch has oneDNN's fused operators and they compute a small convolution in ``dtype``."""
    operators = torch.ops.mkldnn
    if not torch.backends.mkldnn.is_available():
        return False
    try:
        if not all(hasattr(operators, name) for name in _OPERATORS):
            return False
        layer = FusedConv(torch.ones(1, 1, 1, 1), -torch.ones(1), relu=True, dtype=dtype)
        x = torch.full((1, 1, 2, 2), 3.0, dtype=dtype)
        return bool((layer(0 * x, x) == 2).all())
    except (AttributeError, RuntimeError, TypeError):
        return False


class FusedConv(nn.Module):
    """A convolution, then a sum with another map, then ReLU, the last two where asked for.

    Args:
        weight: (C_out, C_in / groups, rows, columns), float32.
        bias: (C_out,), float32.
        stride: see ``torch.nn.Conv2d``.
        padding: see there.
        dilation: see there.
        groups: see there.
        relu: whether ReLU ends it.
        dtype: float32 or bfloat16, of weights and results.
        fused: by oneDNN's operators; False: by public functions of torch.
    """

    weight: Tensor
    bias: Tensor

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor,
        *,
        stride: tuple[int, ...] = (1, 1),
        padding: tuple[int, ...] = (0, 0),
        dilation: tuple[int, ...] = (1, 1),
        groups: int = 1,
        relu: bool = False,
        dtype: torch.dtype = torch.float32,
        fused: bool = True,
    ) -> None:
        super().__init__()
        self.dtype, self.relu, self.fused = dtype, relu, fused
        self.groups, self.padding, self.dilation = groups, list(padding), list(dilation)
        # A 1x1 convolution leaves out cells first: oneDNN's own stride is up to twelve times slower in bfloat16 on maps
        # of another size than that which the weights are laid out for.
        skips = weight.shape[2:] == (1, 1) and not any(padding)
        self.cells = (slice(None, None, stride[0]), slice(None, None, stride[1]))
        self.skips = skips and stride != (1, 1)
        self.stride = [1, 1] if skips else list(stride)
        weight = weight.to(dtype)
        if fused:
            size = [1, weight.shape[1] * groups, USUAL_SIDE, USUAL_SIDE]
            window = (self.padding, self.stride, self.dilation, groups, size)
            self.weight = torch.ops.mkldnn._reorder_convolution_weight(weight, *window)
        else:
            self.register_buffer("weight", weight.to(memory_format=torch.channels_last), False)
        # oneDNN adds a float32 bias before it rounds, but not beside a sum.
        self.register_buffer("bias", bias if fused else bias.to(dtype), False)

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        """Map (N, C_in, H, W) to (N, C_out, H', W'), channels-last, of this layer's dtype.

        Args:
            x: float; it is brought to the layer's dtype and channels-last memory.
            other: (N, C_out, H', W'), to be added; it is overwritten with the result.
        """
        if self.skips:
            x = x[:, :, *self.cells]
        x = x.to(self.dtype, memory_format=torch.channels_last)
        if self.fused:
            return self._by_onednn(x, other)
        window = (self.stride, self.padding, self.dilation, self.groups)
        y = F.conv2d(x, self.weight, self.bias, *window)
        if other is not None:
            y = other.add_(y)
        return y.relu_() if self.relu else y

    def _by_onednn(self, x: Tensor, other: Tensor | None) -> Tensor:
        activation = "relu" if self.relu else "none"
        window = (self.padding, self.stride, self.dilation, self.groups)
        operators = torch.ops.mkldnn
        if other is None:
            return operators._convolution_pointwise(
                x, self.weight, self.bias, *window, activation, [], ""
            )
        unary = "relu" if self.relu else None
        return operators._convolution_pointwise_.binary(
            other, x, self.weight, self.bias.to(self.dtype), *window, "add", 1.0, unary, [], ""
        )


class FusedLinear(nn.Module):
    """A linear layer, followed by ReLU where asked for.

    Args:
        weight: (outputs, inputs), float32.
        bias: (outputs,), float32.
        relu: whether ReLU ends it.
        dtype: float32 or bfloat16, of weights and results.
        fused: see :class:`FusedConv`.
        rows: how many the weights are laid out for.
    """

    weight: Tensor
    bias: Tensor

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor,
        *,
        relu: bool = False,
        dtype: torch.dtype = torch.float32,
        fused: bool = True,
        rows: int = 1000,
    ) -> None:
        super().__init__()
        self.dtype, self.relu, self.fused, self.outputs = dtype, relu, fused, len(weight)
        weight = weight.to(dtype).contiguous()
        if fused:
            self.weight = torch.ops.mkldnn._reorder_linear_weight(weight, rows)
        else:
            self.register_buffer("weight", weight, False)
        # oneDNN adds a float32 bias before it rounds, but not beside a sum.
        self.register_buffer("bias", bias if fused else bias.to(dtype), False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (rows, inputs) to (rows, outputs), of this layer's dtype."""
        x = x.to(self.dtype)
        if not len(x):
            return x.new_zeros(0, self.outputs)
        if self.fused:
            activation = "relu" if self.relu else "none"
            return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, activation, [], "")
        y = F.linear(x, self.weight, self.bias)
        return y.relu_() if self.relu else y
