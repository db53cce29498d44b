"""The mask head of fully connected layers (Table 2e).

Shape legend: R RoIs of the batch, C channels of a pooled RoI, P its side and m that of a mask, both in
cells; L channels of the logits, which the loss defines.
"""

from __future__ import annotations

from typing import Any

from maskrcnn_repro.modeling.mask_head.head import MaskHead, init_predictor
from maskrcnn_repro.modeling.mask_head.losses import MaskLoss, build_mask_loss

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import ROI_MASK_HEAD_REGISTRY
from fvcore.nn import weight_init
from torch import nn


@ROI_MASK_HEAD_REGISTRY.register()
class MLPMaskHead(MaskHead):
    """Mask head of fully connected layers: hidden layers with ReLU, then one layer for all cells of all masks.

    The paper gives the widths: two or three hidden layers of 1024, then 80 * 28 * 28. It gives neither the
    size of the RoI features nor the initialisation: here hidden layers are initialised as in the box head,
    the last layer as in :class:`~maskrcnn_repro.modeling.mask_head.fcn.FCNMaskHead`.

    Args:
        input_shape: of a pooled RoI, with height and width.
        num_fc: hidden layers.
        fc_dim: their width.
        resolution: m, cells.
        loss: defines the channels of the logits, the training loss, and how masks are decoded.
        loss_weight: factor of the loss.
    """

    @configurable
    def __init__(
        self,
        input_shape: ShapeSpec,
        *,
        num_fc: int,
        fc_dim: int,
        resolution: int,
        loss: MaskLoss,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__(loss=loss, loss_weight=loss_weight)
        width = input_shape.channels * input_shape.height * input_shape.width
        hidden: list[nn.Module] = []
        for _ in range(num_fc):
            hidden += [nn.Linear(width, fc_dim), nn.ReLU()]
            weight_init.c2_xavier_fill(hidden[-2])
            width = fc_dim
        self.hidden = nn.Sequential(*hidden)
        self.predictor = nn.Linear(width, loss.channels * resolution**2)
        self.output_size = (loss.channels, resolution, resolution)
        init_predictor(self.predictor)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        """Read ``MODEL.ROI_MASK_HEAD``."""
        mask = cfg.MODEL.ROI_MASK_HEAD
        return {
            "input_shape": input_shape,
            "num_fc": mask.NUM_FC,
            "fc_dim": mask.FC_DIM,
            "resolution": mask.MLP_RESOLUTION,
            "loss": build_mask_loss(cfg),
        }

    def layers(self, x: torch.Tensor) -> torch.Tensor:
        """Map pooled RoIs (R, C, P, P) to logits (R, L, m, m)."""
        return self.predictor(self.hidden(x.flatten(1))).unflatten(1, self.output_size)
