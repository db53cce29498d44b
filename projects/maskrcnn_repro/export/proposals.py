"""The RPN and the choice of detections in plain tensor code, with one path for any number of boxes.

Boxes are xyxy in pixels of the network's input. Shape legend: L feature maps, A anchors per cell, R boxes, K
classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from maskrcnn_repro.errors import ExportError
from maskrcnn_repro.modeling.anchors import TorchvisionAnchorGenerator
from maskrcnn_repro.modeling.box_predictor import BoxPredictor

import torch
import torch.nn.functional as F
from detectron2.modeling.roi_heads import FastRCNNOutputLayers
from torch import Tensor, nn
from torchvision.ops import nms

Detected = tuple[Tensor, Tensor, Tensor]
"""Boxes (R, 4), scores (R,) and classes (R,) int64 of one image, best first."""
LOWEST = -1e30
"""A score below all others."""


class ExportRPN(nn.Module):
    """Proposals of one image.

    Args:
        rpn: a trained region proposal network.
    """

    def __init__(self, rpn: Any) -> None:
        super().__init__()
        self.in_features, self.head = list(rpn.in_features), rpn.rpn_head
        generator = rpn.anchor_generator
        self.strides, self.offset = list(generator.strides), float(generator.offset)
        self.divides = isinstance(generator, TorchvisionAnchorGenerator)
        self.templates = nn.ParameterList(
            nn.Parameter(anchors.detach().clone(), requires_grad=False)
            for anchors in generator.cell_anchors
        )
        self.transform = BoxDecoder(rpn.box2box_transform)
        self.pre_nms, self.post_nms = rpn.pre_nms_topk[False], rpn.post_nms_topk[False]
        self.nms_threshold, self.min_size = rpn.nms_thresh, rpn.min_box_size

    def forward(self, features: dict[str, Tensor], size: tuple[Any, Any]) -> Tensor:
        """Return the proposals, (R, 4), best first, of an image of ``size`` (height, width)."""
        maps = [features[name] for name in self.in_features]
        logits, deltas = self.head(maps)
        padded = [side * self.strides[0] for side in maps[0].shape[2:]]
        boxes, scores = [], []
        for level, (level_logits, level_deltas) in enumerate(zip(logits, deltas, strict=True)):
            anchors = self._anchors(level, level_logits, padded)
            level_boxes, level_scores = self._best(anchors, level_logits, level_deltas, size)
            # Level by level, as anchors of two levels do not suppress each other.
            kept = suppress(level_boxes, level_scores, self.nms_threshold)
            boxes.append(level_boxes[kept])
            scores.append(level_scores[kept])
        return best_first(torch.cat(scores), self.post_nms, torch.cat(boxes))[0]

    def _best(
        self, anchors: Tensor, logits: Tensor, deltas: Tensor, size: tuple[Any, Any]
    ) -> tuple[Tensor, Tensor]:
        """Return the boxes with the best scores of a level and those scores, before NMS."""
        scores = logits[0].permute(1, 2, 0).flatten()
        deltas = deltas[0].permute(1, 2, 0).reshape(-1, 4)
        scores, order = scores.topk(at_most(self.pre_nms, scores))
        boxes = clip(self.transform(deltas[order], anchors[order]), size)
        sides = boxes[:, 2:] - boxes[:, :2]
        large = (sides > self.min_size).all(dim=1).nonzero().squeeze(1)
        return boxes[large], scores[large]

    def _anchors(self, level: int, logits: Tensor, padded: Sequence[Any]) -> Tensor:
        """Return the anchors of a map (1, A, H, W) of an image with sides ``padded``: (H * W * A, 4)."""
        template = self.templates[level]
        axes = []
        for side, cells in zip(padded, logits.shape[2:], strict=True):
            # Torchvision's strides follow from the sizes, and its anchors have no offset.
            stride = side // cells if self.divides else self.strides[level]
            offset = 0.0 if self.divides else self.offset * stride
            axes.append(torch.arange(cells, dtype=template.dtype) * stride + offset)
        y, x = axes
        y, x = torch.meshgrid(y, x, indexing="ij")
        centres = torch.stack([x, y, x, y], dim=2)
        return (centres[:, :, None] + template).reshape(-1, 4)


class BoxDecoder(nn.Module):
    """Boxes from sources and deltas: Detectron2's ``Box2BoxTransform`` with its numbers.

    Args:
        transform: gives the weights and the limit of the sizes.
    """

    weights: Tensor

    def __init__(self, transform: Any) -> None:
        super().__init__()
        self.register_buffer("weights", torch.tensor(tuple(transform.weights)), persistent=False)
        self.limit = float(transform.scale_clamp)

    def forward(self, deltas: Tensor, boxes: Tensor) -> Tensor:
        """Move boxes (..., 4) by deltas (..., 4)."""
        sides = boxes[..., 2:] - boxes[..., :2]
        centres = boxes[..., :2] + 0.5 * sides
        deltas = deltas / self.weights
        centres = deltas[..., :2] * sides + centres
        half = 0.5 * (deltas[..., 2:].clamp(max=self.limit).exp() * sides)
        return torch.cat([centres - half, centres + half], dim=-1)


class BoxOutputs(nn.Module):
    """Class probabilities and box deltas of proposals.

    Args:
        predictor: the trained output layers of a box branch.

    Raises:
        ExportError: they compute otherwise than Detectron2's or this project's.
    """

    def __init__(self, predictor: Any) -> None:
        super().__init__()
        for method in ("forward", "inference"):
            check_code(predictor, method, (FastRCNNOutputLayers, BoxPredictor))
        self.predictor, self.sigmoid = predictor, predictor.use_sigmoid_ce
        self.transform = BoxDecoder(predictor.box2box_transform)

    def forward(self, features: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Return probabilities (R, K + 1) and deltas (R, B * 4) of the first ``count`` rows of RoI features."""
        # Behind the proposals stands the stand-in of the graph.
        outputs = FastRCNNOutputLayers.forward(self.predictor, features)
        logits, deltas = (rows[:count] for rows in outputs)
        return logits.sigmoid() if self.sigmoid else logits.softmax(dim=1), deltas


class ExportDetections(BoxOutputs):
    """Detections of one image from class probabilities and box deltas: threshold, NMS per class, the best.

    Args:
        predictor: the trained output layers of the box branch.
        threshold: a score must be above it.
    """

    def __init__(self, predictor: Any, threshold: float) -> None:
        super().__init__(predictor)
        self.threshold, self.classes = threshold, predictor.num_classes
        self.nms_threshold, self.most = predictor.test_nms_thresh, predictor.test_topk_per_image
        self.min_size = getattr(predictor, "min_size", 0.0)

    def detect(self, features: Tensor, proposals: Tensor, size: tuple[Any, Any]) -> Detected:
        """Return the detections of proposals.

        Args:
            features: of the proposals and the stand-in, as the output layers take them.
            proposals: boxes (R, 4).
            size: height and width of the image.
        """
        probabilities, deltas = self(features, proposals.shape[0])
        return self.choose(probabilities, deltas, proposals, size)

    def choose(
        self, probabilities: Tensor, deltas: Tensor, proposals: Tensor, size: tuple[Any, Any]
    ) -> Detected:
        """Return the detections of what :meth:`forward` gives for proposals (R, 4)."""
        # Behind the classes stand the background and the unused ones.
        rows, classes = (probabilities[:, : self.classes] > self.threshold).nonzero().unbind(1)
        scores = probabilities[rows, classes]
        per_class = deltas.unflatten(1, (-1, 4))
        channel = classes.clamp(max=per_class.shape[1] - 1)
        boxes = clip(self.transform(per_class[rows, channel], proposals[rows]), size)
        if self.min_size:
            sides = boxes[:, 2:] - boxes[:, :2]
            large = (sides >= self.min_size).all(dim=1).nonzero().squeeze(1)
            boxes, scores, classes = boxes[large], scores[large], classes[large]
        # Boxes of two classes are shifted apart, as torchvision does for up to 1,000 boxes. The extra box stands in
        # where there is none: its maximum exists.
        shift = classes.to(boxes.dtype) * (F.pad(boxes, (0, 0, 0, 1)).max() + 1)
        kept = suppress(boxes + shift[:, None], scores, self.nms_threshold)
        boxes, scores, classes = best_first(
            scores[kept], self.most, boxes[kept], scores[kept], classes[kept]
        )
        return boxes, scores, classes


def suppress(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """Return the rows that NMS keeps, best first, of boxes (R, 4) without negative coordinates; R may be 0.

    Args:
        boxes: xyxy.
        scores: (R,).
        threshold: IoU above which the lower score is dropped.
    """
    # torchvision tells torch.export that two boxes are always kept: these two, which overlap nothing.
    far = torch.tensor([[-2.0, -2.0, -1.0, -1.0], [-4.0, -4.0, -3.0, -3.0]], dtype=boxes.dtype)
    kept = nms(torch.cat([boxes, far]), F.pad(scores, (0, 2), value=LOWEST), threshold)
    return kept[(kept < boxes.shape[0]).nonzero().squeeze(1)]


def best_first(scores: Tensor, most: int, *rows: Tensor) -> Sequence[Tensor]:
    """Return of each tensor of ``rows``, (R, ...), at most ``most`` rows with the best scores, best first."""
    order = scores.topk(at_most(most, scores)).indices
    return [values[order] for values in rows]


def at_most(most: int, scores: Tensor) -> Any:
    """Return the smaller of ``most`` and the number of scores, (R,), which stays variable when it is recorded."""
    if torch.jit.is_tracing():  # type: ignore[attr-defined]
        return scores[:most].shape[0]
    return torch.sym_min(most, scores.shape[0])


def clip(boxes: Tensor, size: tuple[Any, Any]) -> Tensor:
    """Return boxes (R, 4) cut at the borders of an image of ``size`` (height, width), numbers or scalars."""
    height, width = size
    x, y = boxes[:, 0::2].clamp(min=0), boxes[:, 1::2].clamp(min=0)
    x, y = x.clamp(max=width), y.clamp(max=height)
    return torch.stack([x, y], dim=2).flatten(1)


def check_code(part: Any, method: str, kinds: Sequence[type]) -> None:
    """Raise ExportError unless a part has the method of one of these classes, in whose place the graph computes."""
    if not any(getattr(type(part), method) is getattr(kind, method) for kind in kinds):
        names = " or ".join(kind.__name__ for kind in kinds)
        raise ExportError(
            f"{type(part).__name__} cannot be exported: its {method} is not that of {names}, which an exported file "
            "has."
        )
