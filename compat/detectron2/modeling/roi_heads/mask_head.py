"""Mask heads, their loss and their output (Mask R-CNN, arXiv 1703.06870, sec. 3 and fig. 4).

Letters: N images, R RoIs of the batch, K foreground classes (1 when class-agnostic), M side of a
predicted mask in cells, C channels, P side of the pooled RoI in cells.
"""

from typing import Any

import torch
from fvcore.nn import weight_init
from torch import nn
from torch.nn import functional as F

from detectron2._absent import module_getattr
from detectron2.config import CfgNode, configurable
from detectron2.layers import Conv2d, ConvTranspose2d, ShapeSpec
from detectron2.structures import Instances
from detectron2.utils.events import get_event_storage
from detectron2.utils.registry import Registry

from ..backbone.resnet import _conv_relu

__all__ = ["ROI_MASK_HEAD_REGISTRY", "build_mask_head"]
__all__ += ["BaseMaskRCNNHead", "MaskRCNNConvUpsampleHead"]

# Called with the config and the ShapeSpec of a pooled RoI.
ROI_MASK_HEAD_REGISTRY = Registry("ROI_MASK_HEAD")


def _mask_of_class(logits_RKMM: torch.Tensor, classes_R: torch.Tensor) -> torch.Tensor:
    """Return (R, M, M): of each RoI the mask of its class, or its only mask if class-agnostic."""
    if logits_RKMM.size(1) == 1:
        return logits_RKMM[:, 0]
    return logits_RKMM[torch.arange(len(classes_R), device=classes_R.device), classes_R]


def mask_rcnn_loss(pred_mask_logits: torch.Tensor, instances: list[Instances]) -> torch.Tensor:
    """Average binary cross-entropy over the masks of the true classes (sec. 3, L_mask).

    Args:
        pred_mask_logits: (R, K, M, M); K = 1 is class-agnostic.
        instances: the R foreground proposals of each image, in the order of the logits, with
            ``proposal_boxes``, ``gt_classes`` and ``gt_masks``.

    Returns:
        A scalar; without RoIs it is zero and still has a gradient, which DDP needs.

    Raises:
        ValueError: the masks are not square.
    """
    _, _, side, width = pred_mask_logits.shape
    if side != width:
        raise ValueError(f"Predicted masks must be square, not {side} x {width}")
    # An image without ground truth has no `gt_masks` field.
    targets = [
        rois.gt_masks.crop_and_resize(rois.proposal_boxes.tensor, side).to(pred_mask_logits.device)
        for rois in instances
        if len(rois) > 0
    ]
    if not targets:
        return 0 * pred_mask_logits.sum()
    classes_R = torch.cat([rois.gt_classes for rois in instances]).long()
    logits_RMM = _mask_of_class(pred_mask_logits, classes_R)
    target_RMM = torch.cat(targets).float()
    _log_mask_accuracy(logits_RMM > 0, target_RMM > 0.5)
    return F.binary_cross_entropy_with_logits(logits_RMM, target_RMM)


def _log_mask_accuracy(predicted_RMM: torch.Tensor, truth_RMM: torch.Tensor) -> None:
    kinds = (truth_RMM, predicted_RMM & ~truth_RMM, truth_RMM & ~predicted_RMM)
    inside, extra, missed = torch.stack([kind.sum() for kind in kinds]).tolist()
    pixels = truth_RMM.numel()
    put = get_event_storage().put_scalar
    put("mask_rcnn/accuracy", 1 - (extra + missed) / max(pixels, 1))
    put("mask_rcnn/false_positive", extra / max(pixels - inside, 1))
    put("mask_rcnn/false_negative", missed / max(inside, 1))


def mask_rcnn_inference(pred_mask_logits: torch.Tensor, pred_instances: list[Instances]) -> None:
    """Give every detection the mask of its predicted class.

    Args:
        pred_mask_logits: (R, K, M, M); K = 1 is class-agnostic.
        pred_instances: the R detections of each image, in the order of the logits, with
            ``pred_classes``. They get ``pred_masks``: (R of the image, 1, M, M), probabilities
            over the detection's box, for ``detector_postprocess`` to paste into the image.
    """
    classes_R = torch.cat([detections.pred_classes for detections in pred_instances])
    masks_R1MM = _mask_of_class(pred_mask_logits, classes_R)[:, None].sigmoid()
    per_image = masks_R1MM.split([len(detections) for detections in pred_instances])
    for detections, masks in zip(pred_instances, per_image, strict=True):
        detections.pred_masks = masks


class BaseMaskRCNNHead(nn.Module):
    """Loss and inference of a mask head; a subclass provides :meth:`layers`.

    Args:
        loss_weight: factor of the loss.
    """

    @configurable
    def __init__(self, *, loss_weight: float = 1.0):
        super().__init__()
        self.loss_weight = loss_weight

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        return {}

    def forward(self, x: torch.Tensor, instances: list[Instances]):
        """Return ``{"loss_mask": ...}`` in training, else ``instances`` with ``pred_masks``.

        Args:
            x: what :meth:`layers` takes, usually pooled RoIs (R, C, P, P).
            instances: foreground proposals with ground truth in training, else detections.
        """
        logits = self.layers(x)
        if self.training:
            return {"loss_mask": mask_rcnn_loss(logits, instances) * self.loss_weight}
        mask_rcnn_inference(logits, instances)
        return instances

    def layers(self, x: torch.Tensor) -> torch.Tensor:
        """Map RoI features to mask logits (R, K, M, M)."""
        raise NotImplementedError(f"{type(self).__name__} has no layers()")


@ROI_MASK_HEAD_REGISTRY.register()
class MaskRCNNConvUpsampleHead(BaseMaskRCNNHead, nn.Sequential):
    """3x3 convolutions, a 2x2 transposed one that doubles the side, a 1x1 predictor (fig. 4).

    Args:
        input_shape: of a pooled RoI; only the channels count.
        num_classes: K; 1 for class-agnostic masks.
        conv_dims: output channels of the 3x3 convolutions and, last, of the transposed one.
        conv_norm: normalisation after each 3x3 convolution, see ``layers.get_norm``.
        **kwargs: those of :class:`BaseMaskRCNNHead`.

    Raises:
        ValueError: ``conv_dims`` is empty.
    """

    @configurable
    def __init__(
        self, input_shape: ShapeSpec, *, num_classes: int, conv_dims, conv_norm="", **kwargs
    ):
        super().__init__(**kwargs)
        if not conv_dims:
            raise ValueError("conv_dims needs at least the width of the transposed convolution")
        channels = input_shape.channels
        for i, width in enumerate(conv_dims[:-1], 1):
            self.add_module(f"mask_fcn{i}", _conv_relu(channels, width, conv_norm))
            channels = width
        self.deconv = ConvTranspose2d(channels, conv_dims[-1], kernel_size=2, stride=2)
        self.deconv_relu = nn.ReLU()
        self.predictor = Conv2d(conv_dims[-1], num_classes, kernel_size=1)

        # After all layers exist: their construction draws from the same random numbers.
        for conv in [*self][:-2]:
            weight_init.c2_msra_fill(conv)
        nn.init.normal_(self.predictor.weight, std=0.001)
        nn.init.zeros_(self.predictor.bias)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        head = cfg.MODEL.ROI_MASK_HEAD
        classes = 1 if head.CLS_AGNOSTIC_MASK else cfg.MODEL.ROI_HEADS.NUM_CLASSES
        widths = [head.CONV_DIM] * (head.NUM_CONV + 1)
        own = {"num_classes": classes, "conv_dims": widths, "conv_norm": head.NORM}
        return super().from_config(cfg, input_shape) | {"input_shape": input_shape, **own}

    def layers(self, x: torch.Tensor) -> torch.Tensor:
        """Map (R, C, P, P) to mask logits (R, K, 2P, 2P)."""
        return nn.Sequential.forward(self, x)


def build_mask_head(cfg: CfgNode, input_shape: ShapeSpec) -> nn.Module:
    """Build ``MODEL.ROI_MASK_HEAD.NAME``.

    Raises:
        KeyError: no head of that name is registered.
    """
    return ROI_MASK_HEAD_REGISTRY.get(cfg.MODEL.ROI_MASK_HEAD.NAME)(cfg, input_shape)


__getattr__ = module_getattr(__name__)
