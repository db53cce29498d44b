"""Feature pyramid network (Lin et al. 2017, arXiv 1612.03144).

Shapes: N images, C channels of the pyramid, s = 2 ** level the stride of level ``p<level>``.
"""

import torch
import torch.nn.functional as F
from fvcore.nn import weight_init
from torch import nn

from detectron2._absent import module_getattr
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec

from .backbone import Backbone
from .build import BACKBONE_REGISTRY
from .resnet import _conv_norm, build_resnet_backbone


class FPN(Backbone):
    """Pyramid of feature maps with equal channels on top of another backbone.

    Args:
        bottom_up: the backbone below.
        in_features: its feature maps to use, finest first, each with twice the stride of the one
            before.
        out_channels: C.
        norm: normalization of the added convolutions, see :func:`detectron2.layers.get_norm`; with
            ``""`` they have biases instead.
        top_block: makes coarser levels out of the feature map that its ``in_feature`` names (of
            ``bottom_up`` or of the pyramid); it has ``num_levels`` and returns so many tensors.
        fuse_type: ``sum`` or ``avg`` of the level and the upsampled coarser one.
        square_pad: side in pixels of the square that images are padded to; 0 for no such padding.

    Raises:
        ValueError: unknown ``fuse_type``, no features, or strides that do not double.
    """

    def __init__(
        self,
        bottom_up: Backbone,
        in_features: list[str],
        out_channels: int,
        norm="",
        top_block: nn.Module | None = None,
        fuse_type: str = "sum",
        square_pad: int = 0,
    ):
        super().__init__()
        if fuse_type not in ("sum", "avg"):
            raise ValueError(f"FPN fuse_type is {fuse_type!r}; choose 'sum' or 'avg'")
        shapes = bottom_up.output_shape()
        strides = [shapes[f].stride for f in in_features]
        # log2 of a power of two, exactly.
        self._levels = [s.bit_length() - 1 for s in strides]
        if not strides or strides != [strides[0] * 2**i for i in range(len(strides))]:
            raise ValueError(f"FPN needs strides that double; {list(in_features)} have {strides}")
        for feature, level in zip(in_features, self._levels, strict=True):
            in_channels = shapes[feature].channels
            lateral = _conv_norm(in_channels, out_channels, 1, norm, bias=norm == "")
            output = _conv_norm(out_channels, out_channels, 3, norm, bias=norm == "")
            weight_init.c2_xavier_fill(lateral)
            weight_init.c2_xavier_fill(output)
            self.add_module(f"fpn_lateral{level}", lateral)
            self.add_module(f"fpn_output{level}", output)
        # Top block first: the order of parameters is the order of the optimizer's state.
        self.top_block, self.bottom_up = top_block, bottom_up
        self.in_features = tuple(in_features)
        self._size_divisibility, self._square_side = strides[-1], square_pad
        self._average = fuse_type == "avg"
        extra = top_block.num_levels if top_block is not None else 0
        levels = range(self._levels[0], self._levels[-1] + 1 + extra)
        self._out_features = [f"p{level}" for level in levels]
        self._out_feature_strides = {f"p{level}": 2**level for level in levels}
        self._out_feature_channels = dict.fromkeys(self._out_features, out_channels)

    @property
    def lateral_convs(self) -> list[nn.Module]:
        """1x1 convolutions of the features below, coarsest level first."""
        return [getattr(self, f"fpn_lateral{level}") for level in reversed(self._levels)]

    @property
    def output_convs(self) -> list[nn.Module]:
        """3x3 convolutions of the fused levels, coarsest first."""
        return [getattr(self, f"fpn_output{level}") for level in reversed(self._levels)]

    @property
    def size_divisibility(self) -> int:
        """The coarsest stride of ``bottom_up`` in use: upsampled maps then fit the finer ones."""
        return self._size_divisibility

    @property
    def padding_constraints(self) -> dict[str, int]:
        """``square_size`` in pixels, 0 for none."""
        return {"square_size": self._square_side}

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Compute the pyramid of images (N, channels, H, W), H and W multiples of the last stride.

        Returns:
            ``p<level>`` -> tensor of shape (N, C, H/s, W/s), finest level first.
        """
        features = self.bottom_up(x)
        levels, fused = [], None
        names = reversed(self.in_features)
        for name, lateral, output in zip(names, self.lateral_convs, self.output_convs, strict=True):
            coarser, fused = fused, lateral(features[name])
            if coarser is not None:
                fused = fused + F.interpolate(coarser, scale_factor=2.0, mode="nearest")
                fused = fused / 2 if self._average else fused
            levels.insert(0, output(fused))
        # Without the top block's levels so far.
        pyramid = dict(zip(self._out_features, levels, strict=False))
        if self.top_block is not None:
            top = self.top_block((pyramid | features)[self.top_block.in_feature])
            pyramid |= zip(self._out_features[len(pyramid) :], top, strict=True)
        return pyramid


class LastLevelMaxPool(nn.Module):
    """P6 of the FPN paper: every second cell of P5, for the largest anchors (its Sec. 4.1)."""

    num_levels = 1
    in_feature = "p5"

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Return the one coarser level of P5."""
        return [F.max_pool2d(x, kernel_size=1, stride=2)]


@BACKBONE_REGISTRY.register()
def build_resnet_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """Build the ResNet of ``MODEL.RESNETS`` with the pyramid of ``MODEL.FPN``, up to P6."""
    keys = cfg.MODEL.FPN
    resnet = build_resnet_backbone(cfg, input_shape)
    widths = keys.IN_FEATURES, keys.OUT_CHANNELS, keys.NORM
    return FPN(resnet, *widths, LastLevelMaxPool(), keys.FUSE_TYPE)


__getattr__ = module_getattr(__name__)
