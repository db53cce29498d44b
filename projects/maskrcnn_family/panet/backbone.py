"""A pyramid whose information also goes from fine levels to coarse ones (PANet, Sec. 3.1).

Letters: N images, C channels of the pyramid, s = 2 ** level the stride of level ``p<level>``.
"""

from __future__ import annotations

from typing import Any

from maskrcnn_repro.errors import ConfigError, check_choice
from maskrcnn_repro.modeling.conv import conv_norm_relu
from maskrcnn_repro.modeling.norms import check_groups

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, FPN
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from fvcore.nn import weight_init
from torch import nn


class FamilyPANet(FPN):
    """An FPN with a bottom-up path: its levels N2 to N6 stand under the FPN's names, p2 to p6.

    N2 is P2. Each further level is a 3x3 convolution of the sum of P and the finer N, which a 3x3 convolution of stride 2
    made as small; a ReLU follows each. The FPN's parameters keep their names, so that weights of Mask R-CNN fit.

    Args:
        bottom_up: the backbone below the pyramid.
        in_features: its maps, the finest first.
        out_channels: C.
        norm: name of a Detectron2 norm after each convolution; empty for none.
        **parts: further arguments of ``FPN``.
    """

    def __init__(
        self,
        bottom_up: nn.Module,
        in_features: list[str],
        out_channels: int,
        norm: str = "",
        **parts: Any,
    ) -> None:
        super().__init__(bottom_up, in_features, out_channels, norm, **parts)
        names = [*self.output_shape()]
        own = len(in_features)
        self.finest, self.augmented, self.extra = names[0], names[1:own], names[own:]
        for name in self.augmented:
            for layer, stride in (("downsample", 2), ("augment", 1)):
                conv = conv_norm_relu(out_channels, out_channels, stride=stride, norm=norm)
                weight_init.c2_xavier_fill(conv)
                self.add_module(f"{layer}_{name}", conv)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Compute the pyramid of images (N, channels, H, W): ``p<level>`` -> (N, C, H/s, W/s), finest first."""
        pyramid = super().forward(x)
        level = pyramid[self.finest]
        for name in self.augmented:
            smaller = getattr(self, f"downsample_{name}")(level)
            level = pyramid[name] = getattr(self, f"augment_{name}")(smaller + pyramid[name])
        if self.extra:
            top: Any = self.top_block
            pyramid |= zip(self.extra, top(pyramid[top.in_feature]), strict=True)
        return pyramid


@BACKBONE_REGISTRY.register()
def build_family_panet_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FamilyPANet:
    """Build the backbone of ``MODEL.PANET.BOTTOM_UP`` with the pyramid of ``MODEL.FPN``, to P6 if the RPN asks for it.

    Raises:
        ConfigError: there is no such backbone, or it lacks maps of ``MODEL.FPN.IN_FEATURES``.
    """
    keys = cfg.MODEL.FPN
    return FamilyPANet(
        _build_bottom_up(cfg, input_shape),
        keys.IN_FEATURES,
        keys.OUT_CHANNELS,
        keys.NORM,
        top_block=LastLevelMaxPool() if "p6" in cfg.MODEL.RPN.IN_FEATURES else None,
        fuse_type=keys.FUSE_TYPE,
    )


def _build_bottom_up(cfg: CfgNode, input_shape: ShapeSpec) -> nn.Module:
    key, name = "MODEL.PANET.BOTTOM_UP", cfg.MODEL.PANET.BOTTOM_UP
    # By the naming of Detectron2's builders; this pyramid below itself would have no end.
    pyramids = [builder for builder, _ in BACKBONE_REGISTRY if "fpn" in builder]
    check_choice(key, name, [other for other, _ in BACKBONE_REGISTRY if other not in pyramids])
    bottom_up = BACKBONE_REGISTRY.get(name)(cfg, input_shape)
    maps, wanted = bottom_up.output_shape(), cfg.MODEL.FPN.IN_FEATURES
    if missing := [level for level in wanted if level not in maps]:
        raise ConfigError(
            f"MODEL.FPN.IN_FEATURES has {missing[0]!r}, but {key} {name!r} gives {', '.join(maps)}."
        )
    check_groups("MODEL.FPN.OUT_CHANNELS", cfg.MODEL.FPN.OUT_CHANNELS, cfg.MODEL.FPN.NORM)
    return bottom_up
