"""Heads on pooled RoIs: box features, class scores and boxes, and the masks of the predicted classes.

R RoIs of all images, C channels, P side of a pooled RoI and m of a mask, both in cells, K classes.
"""

from __future__ import annotations

from collections.abc import Callable

from maskrcnn_repro.inference.fast.fold import fold_norm
from maskrcnn_repro.inference.fast.layers import FusedLinear

import torch
from detectron2.layers import batched_nms
from detectron2.modeling.roi_heads import FastRCNNOutputLayers
from detectron2.structures import Boxes, Instances
from torch import Tensor, nn

Decode = Callable[[Tensor, Tensor], Tensor]
"""Logits (R, channels, m, m) and classes (R,) to probabilities (R, m, m)."""


class CellOrder(nn.Module):
    """Flattens pooled RoIs cell by cell, as channels-last memory has them: (R, C, P, P) to (R, P * P * C)."""

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return x.permute(0, 2, 3, 1).flatten(1)


class FastOutputLayers(nn.Module):
    """Scores and boxes like those of the ``FastRCNNOutputLayers`` it is made of, with its limits of detections.

    Only boxes of classes above the threshold are decoded.

    Args:
        layers: Detectron2's.
        outputs: both of its linear layers as one: K + 1 logits, then the deltas.
    """

    def __init__(self, layers: FastRCNNOutputLayers, outputs: FusedLinear) -> None:
        super().__init__()
        self.layers, self.outputs = layers, outputs
        # Detectron2's CascadeROIHeads reads them.
        self.test_score_thresh = layers.test_score_thresh
        self.test_nms_thresh = layers.test_nms_thresh
        self.test_topk_per_image = layers.test_topk_per_image

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map RoI features (R, ...) to logits (R, K + 1) and deltas (R, K * 4 or 4), float32."""
        predicted = self.outputs(x.flatten(1)).float()
        # A softmax in bfloat16 would tie the best scores.
        logits = self.layers.cls_score.out_features
        return predicted[:, :logits], predicted[:, logits:]

    def predict_boxes(self, predictions: tuple, proposals: list[Instances]) -> tuple[Tensor, ...]:
        """See ``FastRCNNOutputLayers``."""
        return self.layers.predict_boxes(predictions, proposals)

    def predict_probs(self, predictions: tuple, proposals: list[Instances]) -> tuple[Tensor, ...]:
        """See ``FastRCNNOutputLayers``."""
        return self.layers.predict_probs(predictions, proposals)

    def inference(
        self, predictions: tuple[Tensor, Tensor], proposals: list[Instances]
    ) -> tuple[list[Instances], list[Tensor]]:
        """Return the detections of each image and their RoIs; see ``FastRCNNOutputLayers``."""
        counts = [len(image) for image in proposals]
        probabilities = self.predict_probs(predictions, proposals)
        images = zip(probabilities, predictions[1].split(counts), proposals, strict=True)
        detections, rows = zip(*(self._detect(*image) for image in images), strict=True)
        return [*detections], [*rows]

    def _detect(
        self, scores: Tensor, deltas: Tensor, proposals: Instances
    ) -> tuple[Instances, Tensor]:
        """Return the detections of an image, best first, and the RoI of each."""
        finite = scores.isfinite().all(dim=1) & deltas.isfinite().all(dim=1)
        above = (scores[:, :-1] > self.test_score_thresh) & finite[:, None]
        rows, classes = above.nonzero(as_tuple=True)
        of_class = deltas.unflatten(1, (-1, 4))
        column = classes.clamp(max=of_class.shape[1] - 1)
        sources = proposals.proposal_boxes.tensor[rows]
        corners = self.layers.box2box_transform.apply_deltas(of_class[rows, column], sources)
        boxes, scores = Boxes(corners), scores[rows, classes]
        boxes.clip(proposals.image_size)
        best = batched_nms(boxes.tensor, scores, classes, self.test_nms_thresh)
        if self.test_topk_per_image >= 0:
            best = best[: self.test_topk_per_image]
        detections = Instances(proposals.image_size)
        detections.pred_boxes, detections.scores = boxes[best], scores[best]
        detections.pred_classes = classes[best]
        return detections, rows[best]


class FastMaskHead(nn.Module):
    """Masks like those of Detectron2's ``MaskRCNNConvUpsampleHead`` and of ours.

    The 2x2 deconvolution of stride 2 is a linear layer with four outputs per cell; of the last layer only the row of
    each RoI's class is computed.

    Args:
        convs: the 3x3 convolutions, fused with ReLU.
        deconv: the deconvolution and its ReLU: C channels to 4 * C', rows and columns of the 2x2 first.
        predictor: the last layer, a 1x1 convolution.
        decode: logits to masks; None: the sigmoid of the channel of the class, or of the only one.
    """

    weight: Tensor
    bias: Tensor

    def __init__(
        self,
        convs: nn.Module,
        deconv: FusedLinear,
        predictor: nn.Conv2d,
        decode: Decode | None = None,
    ) -> None:
        super().__init__()
        self.convs, self.deconv, self.decode = convs, deconv, decode
        weight, bias = fold_norm(predictor, None)
        self.register_buffer("weight", weight.flatten(1).to(deconv.dtype), False)
        self.register_buffer("bias", bias, False)

    def forward(self, x: Tensor, instances: list[Instances]) -> list[Instances]:
        """Give each detection ``pred_masks``, (1, m, m) probabilities over its box, float32.

        Args:
            x: (R, C, P, P), features of the detections of all images.
            instances: of each image, with ``pred_classes``.
        """
        classes = torch.cat([detections.pred_classes for detections in instances])
        masks = self._masks(self.convs(x), classes)[:, None]
        counts = [len(detections) for detections in instances]
        for detections, pred_masks in zip(instances, masks.split(counts), strict=True):
            detections.pred_masks = pred_masks
        return instances

    def _masks(self, x: Tensor, classes: Tensor) -> Tensor:
        """Return the masks (R, m, m) of features (R, C, P, P)."""
        count, channels, rows, columns = x.shape
        cells = self.deconv(x.permute(0, 2, 3, 1).reshape(-1, channels))
        cells = cells.view(count, rows * columns * 4, self.weight.shape[1])
        if self.decode is None:
            chosen = classes.clamp(max=len(self.weight) - 1)
            logits = torch.bmm(cells, self.weight[chosen, :, None])
            logits = logits.float() + self.bias[chosen, None, None]
            return _upsampled(logits, rows, columns)[:, 0].sigmoid()
        logits = (cells @ self.weight.T).float() + self.bias
        return self.decode(_upsampled(logits, rows, columns), classes)


def _upsampled(cells: Tensor, rows: int, columns: int) -> Tensor:
    """Return what a 2x2 deconvolution gives for each cell, (R, P * P * 4, L), as maps (R, L, 2P, 2P)."""
    grid = cells.unflatten(1, (rows, columns, 2, 2))  # (R, P, P, 2, 2, L)
    return grid.permute(0, 5, 1, 3, 2, 4).reshape(len(cells), cells.shape[2], 2 * rows, 2 * columns)
