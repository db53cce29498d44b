"""Masks with a score of their own: that of the box times the IoU that a small head predicts (Mask Scoring R-CNN).

Huang, Huang, Gong, Huang, Wang 2019 (arXiv 1903.00241). Letters: R RoIs of the batch, C channels and P side of a
pooled RoI, K classes, m side of a mask, both sides in cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from maskrcnn_repro.modeling.mask_head import FCNMaskHead
from maskrcnn_repro.modeling.mask_head.losses import channel_of_class

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import ROI_MASK_HEAD_REGISTRY
from detectron2.structures import Instances
from fvcore.nn import weight_init
from torch import Tensor, nn

from maskrcnn_family.mask_scoring.targets import iou_targets, visible_fractions


class MaskIoUHead(nn.Module):
    """Predicts the IoU of a mask with its object, for each class (Sec. 3.2, Fig. 3).

    Layers have the names of the authors' code.

    Args:
        channels: C.
        side: P.
        conv_dim: channels of each convolution.
        num_conv: convolutions; the last has a stride of 2.
        fc_dims: features of each hidden linear layer.
        classes: K.
    """

    def __init__(
        self,
        *,
        channels: int,
        side: int,
        conv_dim: int,
        num_conv: int,
        fc_dims: Sequence[int],
        classes: int,
    ) -> None:
        super().__init__()
        self.convs = [f"maskiou_fcn{number + 1}" for number in range(num_conv)]
        width = channels + 1
        for name in self.convs:
            stride = 2 if name == self.convs[-1] else 1
            conv = nn.Conv2d(width, conv_dim, 3, stride=stride, padding=1)
            weight_init.c2_msra_fill(conv)
            self.add_module(name, conv)
            width = conv_dim
        cells = ((side + 1) // 2) ** 2
        widths = [conv_dim * cells, *fc_dims]
        self.hidden = [f"maskiou_fc{number}" for number in range(1, len(widths))]
        for name, (inputs, outputs) in zip(self.hidden, pairwise(widths), strict=True):
            layer = nn.Linear(inputs, outputs)
            weight_init.c2_xavier_fill(layer)
            self.add_module(name, layer)
        self.maskiou = nn.Linear(widths[-1], classes)
        nn.init.normal_(self.maskiou.weight, std=0.01)
        nn.init.zeros_(self.maskiou.bias)

    def forward(self, rois: Tensor, masks: Tensor) -> Tensor:
        """Map pooled RoIs (R, C, P, P) and masks in [0, 1], (R, 2P, 2P), to IoUs (R, K)."""
        x = torch.cat([rois, F.max_pool2d(masks[:, None], 2).to(rois.dtype)], dim=1)
        for name in self.convs:
            x = F.relu(getattr(self, name)(x))
        x = x.flatten(1)
        for name in self.hidden:
            x = F.relu(getattr(self, name)(x))
        return self.maskiou(x)


@ROI_MASK_HEAD_REGISTRY.register()
class FamilyMaskScoringHead(FCNMaskHead):
    """The paper's mask head, and a head that predicts how good its masks are.

    Detections get ``mask_scores``: the score of the box times the predicted IoU of the mask (Sec. 3.2). Scores of
    boxes stay, and with them box AP and the order of detections.

    Args:
        input_shape: of a pooled RoI.
        maskiou_head: predicts the IoU.
        maskiou_weight: factor of its loss.
        **parts: the arguments of ``FCNMaskHead``.
    """

    scores_masks = True

    @configurable
    def __init__(
        self,
        input_shape: ShapeSpec,
        *,
        maskiou_head: MaskIoUHead,
        maskiou_weight: float = 1.0,
        **parts: Any,
    ) -> None:
        super().__init__(input_shape, **parts)
        self.maskiou_head, self.maskiou_weight = maskiou_head, maskiou_weight

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        """Read ``MODEL.ROI_MASKIOU_HEAD`` and ``MODEL.MASKIOU_LOSS_WEIGHT`` beside what the parent reads."""
        keys, side = cfg.MODEL.ROI_MASKIOU_HEAD, input_shape.height
        assert side is not None
        head = MaskIoUHead(
            channels=input_shape.channels,
            side=side,
            conv_dim=keys.CONV_DIM,
            num_conv=keys.NUM_CONV,
            fc_dims=[keys.FC_DIM] * keys.NUM_FC,
            classes=cfg.MODEL.ROI_HEADS.NUM_CLASSES,
        )
        return {
            **super().from_config(cfg, input_shape),
            "maskiou_head": head,
            "maskiou_weight": cfg.MODEL.MASKIOU_LOSS_WEIGHT,
        }

    def losses(
        self, x: Tensor, logits: Tensor, truth: Tensor, proposals: list[Instances]
    ) -> dict[str, Tensor]:
        """Return the parent's loss, and ``loss_maskiou`` of positive RoIs."""
        losses = super().losses(x, logits, truth, proposals)
        classes = [image.gt_classes for image in proposals]
        of_rois = torch.cat(classes) if classes else truth.new_zeros(0, dtype=torch.long)
        masks = self.loss.masks(logits, of_rois)
        visible = visible_fractions(proposals).to(x.device)
        targets = iou_targets(masks.detach() > 0.5, truth, visible)
        loss = maskiou_loss(self.mask_ious(x, masks, of_rois), targets)
        return {**losses, "loss_maskiou": self.maskiou_weight * loss}

    def predict(self, x: Tensor, instances: list[Instances]) -> list[Instances]:
        """Return the detections with masks as the parent's and, where they have ``scores``, ``mask_scores`` (R,)."""
        instances = super().predict(x, instances)
        masks = torch.cat([detections.pred_masks[:, 0] for detections in instances])
        classes = torch.cat([detections.pred_classes for detections in instances])
        ious = self.mask_ious(x, masks, classes)
        counts = [len(detections) for detections in instances]
        for detections, of_image in zip(instances, ious.split(counts), strict=True):
            if detections.has("scores"):
                detections.mask_scores = detections.scores * of_image
        return instances

    def mask_ious(self, x: Tensor, masks: Tensor, classes: Tensor) -> Tensor:
        """Return the predicted IoU of each RoI's mask, (R,) float32.

        Args:
            x: (R, C, P, P).
            masks: (R, m, m), probabilities.
            classes: (R,) int64 in [0, K).
        """
        ious = self.maskiou_head(x, masks).float()
        return channel_of_class(ious, classes)


def maskiou_loss(predicted: Tensor, targets: Tensor) -> Tensor:
    """Return half the mean squared difference over the RoIs whose target is above 0, or 0 without any.

    Args:
        predicted: (R,), IoUs of the true classes.
        targets: (R,).
    """
    hit = targets > 0
    squares = 0.5 * (predicted - targets) ** 2
    # Not a mean over a choice of rows: without rows it would have no gradient.
    return (squares * hit).sum() / hit.sum().clamp(min=1)
