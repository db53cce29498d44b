"""Mask heads and their losses; importing this package registers them with Detectron2."""

from maskrcnn_repro.modeling.mask_head.fcn import FCNMaskHead
from maskrcnn_repro.modeling.mask_head.head import MaskHead
from maskrcnn_repro.modeling.mask_head.losses import MASK_LOSS_REGISTRY, MaskLoss, build_mask_loss
from maskrcnn_repro.modeling.mask_head.mlp import MLPMaskHead

__all__ = [
    "MASK_LOSS_REGISTRY",
    "FCNMaskHead",
    "MLPMaskHead",
    "MaskHead",
    "MaskLoss",
    "build_mask_loss",
]
