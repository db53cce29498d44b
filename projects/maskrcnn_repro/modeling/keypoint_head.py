"""The keypoint branch: one heatmap per keypoint, with a softmax over all of its cells (Sec. 5).

Shape legend: N images, R RoIs of the batch, K keypoints per object, C channels, P side of a pooled RoI in
cells, m = 4P side of a heatmap in cells (56 in the paper).
Boxes are xyxy and keypoints (x, y), both in pixels of the network's input.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from maskrcnn_repro.errors import ConfigError

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.layers import Conv2d, ConvTranspose2d, ShapeSpec
from detectron2.modeling import ROI_KEYPOINT_HEAD_REGISTRY
from detectron2.structures import Instances, heatmaps_to_keypoints
from fvcore.nn import weight_init
from torch import Tensor, nn


def keypoint_loss(
    logits: Tensor, targets: Tensor, visible: Tensor, normalizer: float | None = None
) -> Tensor:
    """Return the keypoint loss: the cross-entropy over the cells of each visible keypoint's heatmap.

    Each of the K keypoints of an object is a task of its own, independent of the others and of the class
    (Sec. 5).

    Args:
        logits: (R, K, m, m) float.
        targets: (R, K) int64, index of the target's cell in row-major order; any value where not visible.
        visible: (R, K) bool, the keypoints that count.
        normalizer: divisor of the sum over all keypoints; None for the number of keypoints that count.

    Returns:
        A scalar, zero without a visible keypoint.
    """
    heatmaps = logits.flatten(2)[visible]
    # "sum": the mean of nothing is NaN; the sum is zero and part of the graph, which DDP needs.
    loss = F.cross_entropy(heatmaps, targets[visible], reduction="sum")
    return loss / (max(len(heatmaps), 1) if normalizer is None else normalizer)


def heatmap_targets(instances: Sequence[Instances], side: int) -> tuple[Tensor, Tensor]:
    """Return the heatmap cell of each ground-truth keypoint, and which keypoints count.

    Args:
        instances: the R >= 1 RoIs of the images: ``proposal_boxes`` and ``gt_keypoints``.
        side: m.

    Returns:
        targets and visible, each (R, K), as :func:`keypoint_loss` takes them. A keypoint counts if it is
        annotated, hidden by something or not (COCO's visibility 1 and 2), and lies inside the RoI.
    """
    # Detectron2 adds no `gt_keypoints` to the proposals of an image without ground truth.
    pairs = [
        proposals.gt_keypoints.to_heatmap(proposals.proposal_boxes.tensor, side)
        for proposals in instances
        if len(proposals)
    ]
    targets, visible = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    return targets, visible.bool()


def predict_keypoints(logits: Tensor, boxes: Tensor) -> Tensor:
    """Return the position and score of each heatmap's maximum, at the resolution of the image.

    Args:
        logits: (R, K, m, m) float32.
        boxes: (R, 4), the RoIs.

    Returns:
        (R, K, 3) float32: x, y, score. The score is the softmax there, interpolated to the resolution of the
        image: above 0, and possibly above 1.
    """
    # Index 2 is the logit.
    return heatmaps_to_keypoints(logits, boxes)[:, :, [0, 1, 3]]


@ROI_KEYPOINT_HEAD_REGISTRY.register()
class FCNKeypointHead(nn.Module):
    """The paper's keypoint head: 3x3 convolutions, a 4x4 deconvolution of stride 2, bilinear upsampling by 2.

    Names of weights, initialisation, losses and predictions are those of Detectron2's
    ``KRCNNConvDeconvUpsampleHead``, so that its model zoo loads.

    Args:
        input_shape: of a pooled RoI; only its channels C are used.
        num_keypoints: K.
        conv_dims: output channels of each convolution; the paper has eight of 512.
        loss_weight: factor of the loss.
        loss_normalizer: ``"visible"`` divides the summed loss by the number of visible keypoints of
            this process's batch; a number divides it by that number times N.

    Raises:
        ConfigError: a number of keypoints or channels below 1.
    """

    @configurable
    def __init__(
        self,
        input_shape: ShapeSpec,
        *,
        num_keypoints: int,
        conv_dims: Sequence[int],
        loss_weight: float = 1.0,
        loss_normalizer: float | Literal["visible"] = "visible",
    ) -> None:
        super().__init__()
        if num_keypoints < 1 or min(conv_dims, default=1) < 1:
            raise ConfigError(
                f"MODEL.ROI_KEYPOINT_HEAD: NUM_KEYPOINTS {num_keypoints} and each of CONV_DIMS "
                f"{tuple(conv_dims)} must be at least 1."
            )
        self.loss_weight = loss_weight
        self.loss_normalizer = loss_normalizer
        self.num_convs = len(conv_dims)
        channels = input_shape.channels
        for number, width in enumerate(conv_dims, start=1):
            conv = Conv2d(channels, width, kernel_size=3, padding=1, activation=F.relu)
            self.add_module(f"conv_fcn{number}", conv)
            channels = width
        # The deconvolution itself outputs the K heatmaps: as in the paper's released code, no 1x1
        # convolution follows it.
        self.score_lowres = ConvTranspose2d(
            channels, num_keypoints, kernel_size=4, stride=2, padding=1
        )
        # The last layer, too, as in Detectron2: unlike the mask head's it does not start near zero.
        for layer in self.children():
            weight_init.c2_msra_fill(layer)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        """Read Detectron2's keys below ``MODEL.ROI_KEYPOINT_HEAD``."""
        head, sampling = cfg.MODEL.ROI_KEYPOINT_HEAD, cfg.MODEL.ROI_HEADS
        # Constant divisor: the count of visible keypoints if every positive RoI showed all of its keypoints.
        all_visible = (
            head.NUM_KEYPOINTS * sampling.BATCH_SIZE_PER_IMAGE * sampling.POSITIVE_FRACTION
        )
        by_visible = head.NORMALIZE_LOSS_BY_VISIBLE_KEYPOINTS
        return {
            "input_shape": input_shape,
            "num_keypoints": head.NUM_KEYPOINTS,
            "conv_dims": head.CONV_DIMS,
            "loss_weight": head.LOSS_WEIGHT,
            "loss_normalizer": "visible" if by_visible else all_visible,
        }

    def layers(self, features: Tensor) -> Tensor:
        """Map pooled RoIs (R, C, P, P) to heatmap logits (R, K, 4P, 4P)."""
        for number in range(1, self.num_convs + 1):
            features = getattr(self, f"conv_fcn{number}")(features)
        coarse = self.score_lowres(features)
        return F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)

    def forward(self, features: Tensor, instances: list[Instances]) -> Any:
        """Return the loss in training, else the detections with their keypoints.

        Args:
            features: (R, C, P, P).
            instances: the R RoIs of the N images in the order of the features: positive proposals with
                ``proposal_boxes`` and ``gt_keypoints`` in training, else detections with ``pred_boxes``.

        Returns:
            ``{"loss_keypoint": scalar}``, or ``instances``, each with ``pred_keypoints`` (R of the image,
            K, 3) as of :func:`predict_keypoints` and ``pred_keypoint_heatmaps``, their logits.
        """
        # Under mixed precision, softmax and resizing are still computed in float32.
        logits = self.layers(features).float()
        if self.training:
            return {"loss_keypoint": self._loss(logits, instances) * self.loss_weight}
        counts = [len(detections) for detections in instances]
        boxes = torch.cat([detections.pred_boxes.tensor for detections in instances])
        keypoints = predict_keypoints(logits.detach(), boxes.detach()).split(counts)
        heatmaps = logits.detach().split(counts)
        for detections, *predicted in zip(instances, keypoints, heatmaps, strict=True):
            detections.pred_keypoints, detections.pred_keypoint_heatmaps = predicted
        return instances

    def _loss(self, logits: Tensor, instances: list[Instances]) -> Tensor:
        if not len(logits):
            # Zero. Not a constant: DDP waits for a gradient of every parameter.
            return logits.sum()
        # The released code drops batches of 20 visible keypoints or fewer; here, as in Detectron2, they count.
        targets, visible = heatmap_targets(instances, logits.shape[-1])
        by_count = self.loss_normalizer == "visible"
        divisor = None if by_count else float(self.loss_normalizer) * len(instances)
        return keypoint_loss(logits, targets, visible, divisor)
