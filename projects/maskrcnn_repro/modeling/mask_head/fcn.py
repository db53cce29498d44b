"""The fully convolutional mask head (Fig. 4).

Shape legend: R RoIs of the batch, C channels of a pooled RoI, P its side in cells; L channels of the
logits, which the loss defines.
"""

from __future__ import annotations

from typing import Any

from maskrcnn_repro.modeling.conv import conv_norm_relu
from maskrcnn_repro.modeling.mask_head.head import MaskHead, init_predictor
from maskrcnn_repro.modeling.mask_head.losses import MaskLoss, build_mask_loss

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import Conv2d, ConvTranspose2d, ShapeSpec
from detectron2.modeling import ROI_MASK_HEAD_REGISTRY
from fvcore.nn import weight_init
from torch import nn


@ROI_MASK_HEAD_REGISTRY.register()
class FCNMaskHead(MaskHead):
    """Mask head of 3x3 convolutions, a 2x2 deconvolution of stride 2, and a 1x1 convolution for the logits.

    With four 3x3 convolutions it is the head on FPN (Fig. 4 right), with none the mask branch on res5
    (Fig. 4 left). Layers have the names and initial weights of Detectron2's ``MaskRCNNConvUpsampleHead``,
    so that its checkpoints load.

    Args:
        input_shape: of a pooled RoI.
        num_conv: 3x3 convolutions; 0 or more.
        conv_dim: channels of each of them and of the deconvolution.
        norm: name of a Detectron2 norm after each 3x3 convolution; empty for none.
        loss: defines the channels of the logits, the training loss, and how masks are decoded.
        loss_weight: factor of the loss.
    """

    @configurable
    def __init__(
        self,
        input_shape: ShapeSpec,
        *,
        num_conv: int,
        conv_dim: int,
        norm: str = "",
        loss: MaskLoss,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__(loss=loss, loss_weight=loss_weight)
        self.num_conv = num_conv
        channels = input_shape.channels
        for number in range(1, num_conv + 1):
            self.add_module(f"mask_fcn{number}", conv_norm_relu(channels, conv_dim, norm=norm))
            channels = conv_dim
        self.deconv = ConvTranspose2d(channels, conv_dim, kernel_size=2, stride=2)
        self.predictor = Conv2d(conv_dim, loss.channels, kernel_size=1)
        for layer in (*self._convs(), self.deconv):
            weight_init.c2_msra_fill(layer)
        init_predictor(self.predictor)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        """Read ``MODEL.ROI_MASK_HEAD``."""
        mask = cfg.MODEL.ROI_MASK_HEAD
        return {
            "input_shape": input_shape,
            "num_conv": mask.NUM_CONV,
            "conv_dim": mask.CONV_DIM,
            "norm": mask.NORM,
            "loss": build_mask_loss(cfg),
        }

    def layers(self, x: torch.Tensor) -> torch.Tensor:
        """Map pooled RoIs (R, C, P, P) to logits (R, L, 2P, 2P)."""
        return self.logits(self.features(x))

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Map pooled RoIs to what the deconvolution takes, (R, C, P, P), by the 3x3 convolutions."""
        for conv in self._convs():
            x = conv(x)
        return x

    def logits(self, features: torch.Tensor) -> torch.Tensor:
        """Map what :meth:`features` returns to logits (R, L, 2P, 2P)."""
        return self.predictor(self.deconv(features).relu())

    def _convs(self) -> list[nn.Module]:
        return [getattr(self, f"mask_fcn{number}") for number in range(1, self.num_conv + 1)]
