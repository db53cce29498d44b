"""The layer that box heads and mask heads repeat."""

from torch import nn

from detectron2.layers import Conv2d, get_norm


def conv3x3(in_channels: int, out_channels: int, norm: str) -> Conv2d:
    """Return 3x3 convolution, norm and ReLU in one module; height and width stay as they are."""
    return Conv2d(
        in_channels,
        out_channels,
        kernel_size=3,
        padding=1,
        bias=not norm,
        norm=get_norm(norm, out_channels),
        activation=nn.ReLU(),
    )
