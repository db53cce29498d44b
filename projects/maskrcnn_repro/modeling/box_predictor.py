"""Class scores and boxes of RoIs, with two habits of torchvision's detectors that Detectron2 lacks.

Letters: R RoIs of the batch, K classes, U unused ones, B = K boxes per RoI or 1.
"""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling.roi_heads import FastRCNNOutputLayers
from detectron2.modeling.roi_heads.fast_rcnn import fast_rcnn_inference
from detectron2.structures import Boxes, Instances
from torch import Tensor, nn

NEUTRAL = {"MIN_SIZE": 0.0, "UNUSED_CLASSES": 0}
"""Keys of ``MODEL.ROI_BOX_HEAD`` that this layer reads, and values with which it is Detectron2's."""


class BoxPredictor(FastRCNNOutputLayers):
    """Detectron2's output layers, with a smallest detection and outputs for classes that are never detected.

    Args:
        input_shape: see ``FastRCNNOutputLayers``.
        min_size: a detection with a shorter side, in pixels of the network's input, is left out before NMS.
        unused_classes: U further outputs behind the background's. They take part in the softmax, and their
            scores count as background.
        **parts: see ``FastRCNNOutputLayers``.
    """

    @configurable
    def __init__(
        self,
        input_shape: ShapeSpec,
        *,
        min_size: float = 0.0,
        unused_classes: int = 0,
        **parts: Any,
    ) -> None:
        super().__init__(input_shape, **parts)
        self.min_size = min_size
        if unused_classes:
            width = self.bbox_pred.in_features
            self.cls_score = nn.Linear(width, self.num_classes + 1 + unused_classes)
            nn.init.normal_(self.cls_score.weight, std=0.01)
            nn.init.zeros_(self.cls_score.bias)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        """Read ``MIN_SIZE`` and ``UNUSED_CLASSES`` of ``MODEL.ROI_BOX_HEAD`` beside what Detectron2 reads."""
        own = {name.lower(): cfg.MODEL.ROI_BOX_HEAD[name] for name in NEUTRAL}
        return super().from_config(cfg, input_shape) | own

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map RoI features (R, ...) to class logits (R, K + 1), background last, and deltas (R, B * 4)."""
        logits, deltas = super().forward(x)
        # The softmax of a sum of exponentials is the sum of the softmaxes.
        background = logits[:, self.num_classes :].logsumexp(dim=1, keepdim=True)
        return torch.cat((logits[:, : self.num_classes], background), dim=1), deltas

    def inference(
        self, predictions: tuple[Tensor, Tensor], proposals: list[Instances]
    ) -> tuple[list[Instances], list[Tensor]]:
        """Return detections and their RoIs; see ``fast_rcnn_inference``."""
        boxes = self.predict_boxes(predictions, proposals)
        sizes = [p.image_size for p in proposals]
        images = zip(boxes, self.predict_probs(predictions, proposals), sizes, strict=True)
        scores = [self._without_small(*image) for image in images]
        limits = (self.test_score_thresh, self.test_nms_thresh, self.test_topk_per_image)
        return fast_rcnn_inference(boxes, scores, sizes, *limits)

    def _without_small(self, boxes: Tensor, scores: Tensor, size: tuple[int, int]) -> Tensor:
        """Return the scores (R, K + 1) of an image of ``size``, zero where the box is too small."""
        clipped = Boxes(boxes.reshape(-1, 4).clone())
        clipped.clip(size)
        sides = clipped.tensor[:, 2:] - clipped.tensor[:, :2]
        large = (sides >= self.min_size).all(dim=1).view(len(boxes), boxes.shape[1] // 4)
        return torch.cat((scores[:, :-1] * large, scores[:, -1:]), dim=1)
