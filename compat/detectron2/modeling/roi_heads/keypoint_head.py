"""Keypoint heads, their loss and their output (Mask R-CNN, arXiv 1703.06870, sec. 5).

Letters: N images, R RoIs of the batch, J keypoint types, S side of a heatmap in cells, C channels,
P side of the pooled RoI in cells.
"""

import itertools
from collections.abc import Iterable
from typing import Any

import torch
from fvcore.nn import weight_init
from torch import nn
from torch.nn import functional as F

from detectron2._absent import module_getattr
from detectron2.config import CfgNode, configurable
from detectron2.layers import Conv2d, ConvTranspose2d, ShapeSpec
from detectron2.structures import Instances, heatmaps_to_keypoints
from detectron2.utils.events import get_event_storage
from detectron2.utils.registry import Registry

__all__ = ["ROI_KEYPOINT_HEAD_REGISTRY", "build_keypoint_head"]
__all__ += ["BaseKeypointRCNNHead", "KRCNNConvDeconvUpsampleHead"]

# Called with the config and the ShapeSpec of a pooled RoI.
ROI_KEYPOINT_HEAD_REGISTRY = Registry("ROI_KEYPOINT_HEAD")

# Batches without any visible keypoint, over the life of the process: a large share of them means
# that boxes or keypoints of the data set are wrong.
_skipped_batches = itertools.count(1)


def build_keypoint_head(cfg: CfgNode, input_shape: ShapeSpec) -> nn.Module:
    """Build ``MODEL.ROI_KEYPOINT_HEAD.NAME``.

    Raises:
        KeyError: no head of that name is registered.
    """
    return ROI_KEYPOINT_HEAD_REGISTRY.get(cfg.MODEL.ROI_KEYPOINT_HEAD.NAME)(cfg, input_shape)


def keypoint_rcnn_loss(
    pred_keypoint_logits: torch.Tensor, instances: list[Instances], normalizer: float | None
) -> torch.Tensor:
    """Cross-entropy of a softmax over the S x S cells of each visible keypoint (sec. 5).

    Args:
        pred_keypoint_logits: (R, J, S, S).
        instances: the R proposals of each image, in the order of the logits, with
            ``proposal_boxes`` and ``gt_keypoints``. A keypoint counts if it is labelled and lies
            inside the proposal.
        normalizer: divisor of the summed loss; None for the number of keypoints that count.

    Returns:
        A scalar; without such keypoints it is zero and still has a gradient, which DDP needs.
    """
    side = pred_keypoint_logits.size(2)
    # An image without ground truth has no `gt_keypoints` field.
    given = [rois for rois in instances if len(rois) > 0]
    pairs = [rois.gt_keypoints.to_heatmap(rois.proposal_boxes.tensor, side) for rois in given]
    if not any(valid.any() for _, valid in pairs):
        count = next(_skipped_batches)
        get_event_storage().put_scalar("kpts_num_skipped_batches", count, smoothing_hint=False)
        return 0 * pred_keypoint_logits.sum()
    cells_RJ, valid_RJ = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    counted = valid_RJ.bool()
    logits = pred_keypoint_logits.flatten(2)[counted]
    loss = F.cross_entropy(logits, cells_RJ[counted], reduction="sum")
    return loss / (len(logits) if normalizer is None else normalizer)


def keypoint_rcnn_inference(
    pred_keypoint_logits: torch.Tensor, pred_instances: list[Instances]
) -> None:
    """Give every detection its keypoints: the best cell of each heatmap.

    Args:
        pred_keypoint_logits: (R, J, S, S).
        pred_instances: the R detections of each image, in the order of the logits, with
            ``pred_boxes``. They get ``pred_keypoints`` (R of the image, J, 3): x and y in pixels
            of the network's input, score; and ``pred_keypoint_heatmaps``, their logits.
    """
    logits = pred_keypoint_logits.detach()
    boxes_R4 = torch.cat([detections.pred_boxes.tensor for detections in pred_instances]).detach()
    x, y, _, score = heatmaps_to_keypoints(logits, boxes_R4).unbind(dim=2)
    counts = [len(detections) for detections in pred_instances]
    points, heatmaps = torch.stack([x, y, score], dim=2).split(counts), logits.split(counts)
    for detections, *predictions in zip(pred_instances, points, heatmaps, strict=True):
        detections.pred_keypoints, detections.pred_keypoint_heatmaps = predictions


class BaseKeypointRCNNHead(nn.Module):
    """Loss and inference of a keypoint head; a subclass provides :meth:`layers`.

    Args:
        num_keypoints: J.
        loss_weight: factor of the loss.
        loss_normalizer: divide the summed loss by this number times N; "visible" divides it by the
            number of keypoints that count instead.

    Raises:
        ValueError: the normalizer is neither a number nor "visible".
    """

    @configurable
    def __init__(
        self, *, num_keypoints: int, loss_weight: float = 1.0, loss_normalizer: float | str = 1.0
    ):
        super().__init__()
        if loss_normalizer != "visible" and not isinstance(loss_normalizer, int | float):
            given = f"not {loss_normalizer!r}"
            raise ValueError(f"loss_normalizer must be a number or 'visible', {given}")
        self.num_keypoints, self.loss_weight = num_keypoints, loss_weight
        self.loss_normalizer = loss_normalizer

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        head, sampling = cfg.MODEL.ROI_KEYPOINT_HEAD, cfg.MODEL.ROI_HEADS
        parts = {"num_keypoints": head.NUM_KEYPOINTS, "loss_weight": head.LOSS_WEIGHT}
        if head.NORMALIZE_LOSS_BY_VISIBLE_KEYPOINTS:
            return parts | {"loss_normalizer": "visible"}
        # As if every foreground RoI that may be sampled had all its keypoints visible.
        foreground = sampling.BATCH_SIZE_PER_IMAGE * sampling.POSITIVE_FRACTION
        return parts | {"loss_normalizer": head.NUM_KEYPOINTS * foreground}

    def forward(self, x: torch.Tensor, instances: list[Instances]):
        """Return ``{"loss_keypoint": ...}`` in training, else ``instances`` with keypoints.

        Args:
            x: what :meth:`layers` takes, usually pooled RoIs (R, C, P, P).
            instances: foreground proposals with ground truth in training, else detections.
        """
        logits = self.layers(x)
        if self.training:
            by_count = self.loss_normalizer == "visible"
            divisor = None if by_count else self.loss_normalizer * len(instances)
            loss = keypoint_rcnn_loss(logits, instances, divisor)
            return {"loss_keypoint": loss * self.loss_weight}
        keypoint_rcnn_inference(logits, instances)
        return instances

    def layers(self, x: torch.Tensor) -> torch.Tensor:
        """Map RoI features to heatmap logits (R, J, S, S)."""
        raise NotImplementedError(f"{type(self).__name__} has no layers()")


@ROI_KEYPOINT_HEAD_REGISTRY.register()
class KRCNNConvDeconvUpsampleHead(BaseKeypointRCNNHead, nn.Sequential):
    """3x3 convolutions, a 4x4 transposed one of stride 2, then bilinear doubling (sec. 5).

    Args:
        input_shape: of a pooled RoI; only the channels count.
        num_keypoints: J.
        conv_dims: output channels of each convolution; the paper has eight of 512.
        **kwargs: those of :class:`BaseKeypointRCNNHead`.
    """

    @configurable
    def __init__(
        self, input_shape: ShapeSpec, *, num_keypoints: int, conv_dims: Iterable[int], **kwargs
    ):
        super().__init__(num_keypoints=num_keypoints, **kwargs)
        channels = input_shape.channels
        for i, width in enumerate(conv_dims, 1):
            self.add_module(f"conv_fcn{i}", Conv2d(channels, width, kernel_size=3, padding=1))
            self.add_module(f"conv_fcn_relu{i}", nn.ReLU())
            channels = width
        self.score_lowres = ConvTranspose2d(channels, num_keypoints, 4, stride=2, padding=1)
        # After all layers exist: their construction draws from the same random numbers.
        for conv in [*self][::2]:
            weight_init.c2_msra_fill(conv)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        own = {"input_shape": input_shape, "conv_dims": cfg.MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS}
        return super().from_config(cfg, input_shape) | own

    def layers(self, x: torch.Tensor) -> torch.Tensor:
        """Map (R, C, P, P) to heatmap logits (R, J, 4P, 4P)."""
        coarse = nn.Sequential.forward(self, x)
        return F.interpolate(coarse, scale_factor=2, mode="bilinear")


__getattr__ = module_getattr(__name__)
