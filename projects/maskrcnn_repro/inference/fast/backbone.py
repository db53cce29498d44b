"""ResNets and feature pyramids of fused convolutions.

N images, C channels, H and W cells of a map.
"""

from __future__ import annotations

from collections.abc import Callable

from maskrcnn_repro.inference.fast.layers import FusedConv
from maskrcnn_repro.inference.fast.winograd import WinogradConv

import torch.nn.functional as F
from detectron2.modeling.backbone import FPN, Backbone
from torch import Tensor, nn

FuseConv = Callable[..., FusedConv | WinogradConv]
"""Convolution, and ``relu`` to end with ReLU, to a fused one."""


class FusedBlock(nn.Module):
    """A residual block of a ResNet: ``relu(last(...first(x)) + shortcut(x))``.

    Args:
        block: of Detectron2, with ``conv1`` and so on, and ``shortcut``, all of which can be fused.
        fuse: makes its convolutions.
        owns_input: nobody else reads the block's input, which may then be overwritten.
    """

    def __init__(self, block: nn.Module, fuse: FuseConv, *, owns_input: bool) -> None:
        super().__init__()
        convs = [conv for name, conv in sorted(block.named_children()) if name.startswith("conv")]
        self.convs = nn.ModuleList(fuse(conv, relu=True) for conv in convs)
        self.shortcut = None if block.shortcut is None else fuse(block.shortcut, relu=False)
        self.owns_input = owns_input

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', H', W'), not negative."""
        *first, last = self.convs
        y = x
        for conv in first:
            y = conv(y)
        if self.shortcut is not None:
            return last(y, self.shortcut(x))
        x = x.to(y.dtype)
        return last(y, x if self.owns_input else x.clone())


class FusedStem(nn.Module):
    """The convolutions before the first stage, each with ReLU, and a 3x3 max pooling of stride 2 where there is one.

    Args:
        convs: to be fused.
        fuse: makes them.
        pools: whether the pooling follows.
    """

    def __init__(self, convs: list[nn.Module], fuse: FuseConv, *, pools: bool) -> None:
        super().__init__()
        self.convs = nn.ModuleList(fuse(conv, relu=True) for conv in convs)
        self.pools = pools

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, 3, H, W) to (N, C, H', W'), not negative."""
        for conv in self.convs:
            x = conv(x)
        return F.max_pool2d(x, kernel_size=3, stride=2, padding=1) if self.pools else x


class FusedPyramid(Backbone):
    """A feature pyramid that sums its levels; it answers like the ``FPN`` it is made of.

    Args:
        pyramid: of Detectron2, with ``fuse_type`` ``"sum"``.
        fuse: makes its convolutions.
    """

    def __init__(self, pyramid: FPN, fuse: FuseConv) -> None:
        super().__init__()
        self.bottom_up, self.top_block = pyramid.bottom_up, pyramid.top_block
        self.in_features = pyramid.in_features
        # Coarsest level first.
        self.lateral_convs = nn.ModuleList(fuse(conv) for conv in pyramid.lateral_convs)
        self.output_convs = nn.ModuleList(fuse(conv) for conv in pyramid.output_convs)
        self._divisor, self._constraints = pyramid.size_divisibility, pyramid.padding_constraints
        self._shapes = pyramid.output_shape()

    @property
    def size_divisibility(self) -> int:
        """See ``FPN``."""
        return self._divisor

    @property
    def padding_constraints(self) -> dict[str, int]:
        """See ``FPN``."""
        return self._constraints

    def output_shape(self) -> dict:
        """See ``Backbone``."""
        return self._shapes

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return the levels of images (N, 3, H, W) by name, finest first."""
        below = self.bottom_up(x)
        levels: list[Tensor] = []
        coarser = None
        convs = zip(self.lateral_convs, self.output_convs, strict=True)
        for name, (lateral, output) in zip(reversed(self.in_features), convs, strict=True):
            if coarser is not None:
                coarser = double_map(coarser)
            coarser = lateral(below[name], coarser)
            levels.insert(0, output(coarser))
        pyramid = dict(zip(self._shapes, levels, strict=False))
        if self.top_block is not None:
            top = self.top_block((below | pyramid)[self.top_block.in_feature])
            pyramid |= zip([*self._shapes][len(pyramid) :], top, strict=True)
        return pyramid


def double_map(x: Tensor) -> Tensor:
    """Return a map (N, C, H, W) with each cell four times, (N, C, 2H, 2W), channels-last.

    ``interpolate`` takes seven times as long in bfloat16.
    """
    count, channels, height, width = x.shape
    cells = x.permute(0, 2, 3, 1)[:, :, None, :, None].expand(-1, -1, 2, -1, 2, -1)
    return cells.reshape(count, 2 * height, 2 * width, channels).permute(0, 3, 1, 2)
