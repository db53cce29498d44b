"""The convolution of which heads are stacked: with an optional norm, and a ReLU."""

from __future__ import annotations

from detectron2.layers import Conv2d, get_norm
from torch import nn


def conv_norm_relu(
    inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1, norm: str = ""
) -> Conv2d:
    """Return a convolution that keeps the size of a map at stride 1; its weights are PyTorch's initial ones.

    Args:
        inputs: channels of the map.
        outputs: channels of the result.
        kernel: side in cells, odd.
        stride: in cells.
        norm: name of a Detectron2 norm behind it, which brings its own bias; empty for none.
    """
    return Conv2d(
        inputs,
        outputs,
        kernel_size=kernel,
        stride=stride,
        padding=kernel // 2,
        bias=not norm,
        norm=get_norm(norm, outputs),
        activation=nn.ReLU(),
    )
