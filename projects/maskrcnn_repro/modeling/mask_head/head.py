"""Base class of this project's mask heads: targets, loss and inference (Sec. 3).

Shape legend: R RoIs of the batch, C channels of a pooled RoI, P its side and m that of a mask, both in
cells; L channels of the logits, which the loss defines.
"""

from __future__ import annotations

from maskrcnn_repro.modeling.mask_head.losses import MaskLoss, check_answers
from maskrcnn_repro.modeling.mask_head.targets import mask_targets

import torch
from detectron2.structures import Instances
from detectron2.utils.events import get_event_storage
from torch import nn


class MaskHead(nn.Module):
    """Base class of mask heads: a subclass implements :meth:`layers`, from RoI features to mask logits.

    It may add losses in :meth:`losses`, and fields of detections in :meth:`predict`.

    Args:
        loss: defines the channels of the logits, the training loss, and how masks are decoded.
        loss_weight: factor of the loss.
    """

    def __init__(self, *, loss: MaskLoss, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss = loss
        self.loss_weight = loss_weight

    def layers(self, x: torch.Tensor) -> torch.Tensor:
        """Map pooled RoIs (R, C, P, P) to logits (R, L, m, m)."""
        raise NotImplementedError

    def forward(
        self, x: torch.Tensor, instances: list[Instances]
    ) -> dict[str, torch.Tensor] | list[Instances]:
        """Return the mask loss of positive RoIs in training, else the detections with their masks.

        Args:
            x: (R, C, P, P), float: features of the RoIs of all images.
            instances: of each image. In training the positive proposals, with ``proposal_boxes``,
                ``gt_classes`` and ``gt_masks``; else detections with ``pred_classes``.

        Returns:
            In training ``{"loss_mask": scalar}``; else ``instances``, each with ``pred_masks``: for each
            detection (1, m, m) probabilities over its box, float32.
        """
        if self.training:
            return self.training_losses(x, self.layers(x), instances)
        return self.predict(x, instances)

    def predict(self, x: torch.Tensor, instances: list[Instances]) -> list[Instances]:
        """Return the detections of each image with their masks; see :meth:`forward`."""
        classes = torch.cat([detections.pred_classes for detections in instances])
        masks = self.masks(x, classes)[:, None]
        counts = [len(detections) for detections in instances]
        for detections, pred_masks in zip(instances, masks.split(counts), strict=True):
            detections.pred_masks = pred_masks
        return instances

    def masks(self, x: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        """Return the probabilities (R, m, m), float32, of the masks of classes (R,) in pooled RoIs (R, C, P, P)."""
        return self.loss.masks(self.layers(x).float(), classes)

    def training_losses(
        self, x: torch.Tensor, logits: torch.Tensor, instances: list[Instances]
    ) -> dict[str, torch.Tensor]:
        """Return the losses of logits (R, L, m, m), whose RoIs are as in :meth:`forward`."""
        # Under mixed precision, loss and probabilities are still computed in float32.
        logits = logits.float()
        # Detectron2 adds no `gt_masks` to the proposals of an image without ground truth.
        positive = [proposals for proposals in instances if len(proposals) > 0]
        truth = mask_targets(positive, logits.size(-1)).to(logits.device)
        return self.losses(x, logits, truth, positive)

    def losses(
        self, x: torch.Tensor, logits: torch.Tensor, truth: torch.Tensor, proposals: list[Instances]
    ) -> dict[str, torch.Tensor]:
        """Return the losses of positive RoIs; without any they are zero, with a gradient of every parameter.

        Args:
            x: (R, C, P, P).
            logits: (R, L, m, m), float32.
            truth: (R, m, m), bool: inside the object.
            proposals: the R positive ones of each image that has any.
        """
        return {"loss_mask": self.loss_weight * self._loss(logits, truth, proposals)}

    def _loss(
        self, logits: torch.Tensor, truth: torch.Tensor, proposals: list[Instances]
    ) -> torch.Tensor:
        if len(logits) == 0:
            # Not a constant: DDP waits for a gradient of every parameter.
            return logits.sum() * 0.0
        classes = torch.cat([instances.gt_classes for instances in proposals])
        masks, loss = (
            self.loss.masks(logits.detach(), classes),
            self.loss.loss(logits, truth, classes),
        )
        check_answers(masks, loss, truth)
        log_accuracy(masks > 0.5, truth)
        return loss


def init_predictor(layer: nn.Module) -> None:
    """Initialise the layer of the logits: weights from a Gaussian of deviation 0.001, biases zero."""
    # As Detectron2 does: class-agnostic masks can diverge from larger weights.
    nn.init.normal_(layer.get_parameter("weight"), std=0.001)
    nn.init.zeros_(layer.get_parameter("bias"))


def log_accuracy(predicted: torch.Tensor, truth: torch.Tensor) -> None:
    """Log the pixel accuracy of the masks and its two kinds of error, under Detectron2's names.

    Args:
        predicted: (R, m, m), bool.
        truth: (R, m, m), bool.
    """
    counts = torch.stack([truth.sum(), (predicted & ~truth).sum(), (truth & ~predicted).sum()])
    # One transfer from the GPU for all three.
    inside, added, missed = counts.tolist()
    cells = truth.numel()
    put = get_event_storage().put_scalar
    put("mask_rcnn/accuracy", 1.0 - (added + missed) / cells)
    put("mask_rcnn/false_positive", added / max(cells - inside, 1))
    put("mask_rcnn/false_negative", missed / max(inside, 1))
