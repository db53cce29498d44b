"""A mask loss that cares for the outline.

Shape legend: R RoIs of the batch, K foreground classes, m side of a mask in cells.
"""

from __future__ import annotations

import functools

from maskrcnn_repro.modeling.mask_head import MASK_LOSS_REGISTRY, MaskLoss
from maskrcnn_repro.modeling.mask_head.losses import sigmoid_masks

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode


def outline(truth: torch.Tensor) -> torch.Tensor:
    """Return the cells that have both sides of the outline among themselves and their 8 neighbours.

    Args:
        truth: (R, m, m), bool: inside the object.

    Returns:
        (R, m, m), bool.
    """
    both = torch.stack([truth, ~truth]).float()
    return F.max_pool2d(both, kernel_size=3, stride=1, padding=1).prod(dim=0).bool()


def boundary_loss(
    logits: torch.Tensor, truth: torch.Tensor, classes: torch.Tensor, *, outline_weight: float
) -> torch.Tensor:
    """Return binary cross-entropy with a weight on the outline, plus the Dice loss of the whole mask.

    Args:
        logits: (R, K, m, m).
        truth: (R, m, m), bool: inside the object.
        classes: (R,), int64 in [0, K).
        outline_weight: how many times a cell on the outline counts; 1 is plain cross-entropy.
    """
    own = logits[torch.arange(len(logits), device=logits.device), classes]
    target = truth.to(own.dtype)
    weight = torch.where(outline(truth), outline_weight, 1.0)
    entropy = F.binary_cross_entropy_with_logits(own, target, weight, reduction="sum")
    probability = own.sigmoid()
    # 1 in both, so that an empty mask has a loss, and a smooth one.
    common = 2 * (probability * target).sum(dim=(1, 2)) + 1
    total = (probability + target).sum(dim=(1, 2)) + 1
    return entropy / weight.sum() + (1 - common / total).mean()


@MASK_LOSS_REGISTRY.register()
def boundary(cfg: CfgNode) -> MaskLoss:
    """Build the loss; masks are read from the logits as the paper does."""
    weight = cfg.MODEL.ROI_MASK_HEAD.OUTLINE_WEIGHT
    return MaskLoss(
        channels=cfg.MODEL.ROI_HEADS.NUM_CLASSES,
        loss=functools.partial(boundary_loss, outline_weight=weight),
        masks=sigmoid_masks,
    )
