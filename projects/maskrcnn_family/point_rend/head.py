"""Masks rendered point by point: a coarse mask, and a small network at the points that it leaves uncertain.

PointRend (Kirillov, Wu, He, Girshick 2020, arXiv 1912.08193). Letters: R RoIs of the batch, C channels of the features
of a point, K classes, P points, S side of the coarse mask. Boxes are xyxy in pixels of the network's input.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from maskrcnn_repro.errors import ConfigError
from maskrcnn_repro.modeling.mask_head.head import init_predictor
from maskrcnn_repro.modeling.mask_head.ignored import NEUTRAL, refuse_ignored
from maskrcnn_repro.modeling.mask_head.losses import channel_of_class

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import ROI_MASK_HEAD_REGISTRY
from detectron2.modeling.roi_heads.mask_head import mask_rcnn_inference, mask_rcnn_loss
from detectron2.structures import Instances
from fvcore.nn import weight_init
from torch import Tensor, nn

from maskrcnn_family.point_rend.points import (
    cell_centres,
    in_image,
    refine,
    sample,
    sample_maps,
    uncertain_points,
)

Maps = Mapping[str, Tensor]
"""Name of a level -> its map (N, C, H, W)."""


class CoarseHead(nn.Module):
    """A mask of few cells from an RoI's features, like a box head (Sec. 4).

    Args:
        channels: of the features.
        side: of the pooled RoI in cells.
        conv_dim: channels of its convolutions.
        fc_dims: features of each hidden layer.
        classes: K.
        output_side: S.
    """

    def __init__(
        self,
        *,
        channels: int,
        side: int,
        conv_dim: int,
        fc_dims: Sequence[int],
        classes: int,
        output_side: int,
    ) -> None:
        super().__init__()
        self.output_shape = classes, output_side, output_side
        self.narrows = channels > conv_dim
        if self.narrows:
            self.reduce_channel_dim_conv = nn.Conv2d(channels, conv_dim, 1)
            weight_init.c2_msra_fill(self.reduce_channel_dim_conv)
        self.reduce_spatial_dim_conv = nn.Conv2d(conv_dim, conv_dim, 2, stride=2)
        weight_init.c2_msra_fill(self.reduce_spatial_dim_conv)
        widths = [conv_dim * (side // 2) ** 2, *fc_dims]
        self.hidden = [f"fc{number}" for number in range(1, len(widths))]
        for name, (inputs, outputs) in zip(self.hidden, pairwise(widths), strict=True):
            layer = nn.Linear(inputs, outputs)
            weight_init.c2_xavier_fill(layer)
            self.add_module(name, layer)
        self.prediction = nn.Linear(widths[-1], classes * output_side**2)
        init_predictor(self.prediction)

    def forward(self, rois: Tensor) -> Tensor:
        """Map pooled RoIs (R, C, P, P) to logits (R, K, S, S)."""
        if self.narrows:
            rois = F.relu(self.reduce_channel_dim_conv(rois))
        x = F.relu(self.reduce_spatial_dim_conv(rois)).flatten(1)
        for name in self.hidden:
            x = F.relu(getattr(self, name)(x))
        return self.prediction(x).unflatten(1, self.output_shape)


class PointHead(nn.Module):
    """Logits of points from their fine features and the coarse mask, which each layer sees (Sec. 3.2).

    Args:
        channels: C, of the fine features.
        classes: K.
        fc_dim: features of a hidden layer.
        num_fc: hidden layers.
        coarse_each_layer: not the first layer alone takes the coarse mask.
    """

    def __init__(
        self, *, channels: int, classes: int, fc_dim: int, num_fc: int, coarse_each_layer: bool
    ) -> None:
        super().__init__()
        self.coarse_each_layer = coarse_each_layer
        width = channels + classes
        self.hidden = [f"fc{number + 1}" for number in range(num_fc)]
        for name in self.hidden:
            layer = nn.Conv1d(width, fc_dim, 1)
            weight_init.c2_msra_fill(layer)
            self.add_module(name, layer)
            width = fc_dim + classes * coarse_each_layer
        self.predictor = nn.Conv1d(width, classes, 1)
        init_predictor(self.predictor)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Map features (R, C, P) and coarse logits (R, K, P) of points to logits (R, K, P)."""
        x = torch.cat([fine, coarse], dim=1)
        for name in self.hidden:
            x = F.relu(getattr(self, name)(x))
            if self.coarse_each_layer:
                x = torch.cat([x, coarse], dim=1)
        return self.predictor(x)


@ROI_MASK_HEAD_REGISTRY.register()
class FamilyPointRendMaskHead(nn.Module):
    """PointRend's mask head: it takes whole maps, and pools from them itself.

    Parameters have the names of the authors' project, so that its weights fit.

    Args:
        coarse_head: pooled RoIs to coarse logits.
        point_head: features of points and coarse logits to logits.
        in_features: maps for the coarse head.
        point_in_features: maps for the point head.
        strides: of these maps, by name.
        pooler_side: of the RoI that the coarse head takes, in cells.
        train_points: P, in training.
        oversample_ratio: k of training.
        importance_ratio: β of training.
        steps: of subdivision; each doubles the side of the mask.
        step_points: cells that a step predicts anew, at most.
    """

    pools_itself = True

    @configurable
    def __init__(
        self,
        *,
        coarse_head: CoarseHead,
        point_head: PointHead,
        in_features: Sequence[str],
        point_in_features: Sequence[str],
        strides: Mapping[str, int],
        pooler_side: int,
        train_points: int,
        oversample_ratio: float,
        importance_ratio: float,
        steps: int,
        step_points: int,
    ) -> None:
        super().__init__()
        self.point_head, self.coarse_head = point_head, coarse_head
        self.in_features, self.point_in_features = list(in_features), list(point_in_features)
        self.strides, self.pooler_side = dict(strides), pooler_side
        self.drawing = train_points, oversample_ratio, importance_ratio
        self.first_side, self.steps = coarse_head.output_shape[1], steps
        self.step_points = step_points
        # A step that predicts every cell anew needs no mask before it.
        while 4 * self.first_side**2 <= step_points and self.steps:
            self.first_side, self.steps = 2 * self.first_side, self.steps - 1

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        """Read ``MODEL.ROI_MASK_HEAD`` and ``MODEL.POINT_HEAD``.

        Raises:
            ConfigError: see :func:`check_point_rend`.
        """
        check_point_rend(cfg, input_shape)
        mask, point = cfg.MODEL.ROI_MASK_HEAD, cfg.MODEL.POINT_HEAD
        classes = cfg.MODEL.ROI_HEADS.NUM_CLASSES
        return {
            "point_head": PointHead(
                channels=sum(input_shape[name].channels for name in point.IN_FEATURES),
                classes=classes,
                fc_dim=point.FC_DIM,
                num_fc=point.NUM_FC,
                coarse_each_layer=point.COARSE_PRED_EACH_LAYER,
            ),
            "coarse_head": CoarseHead(
                channels=sum(input_shape[name].channels for name in mask.IN_FEATURES),
                side=mask.POOLER_RESOLUTION,
                conv_dim=mask.CONV_DIM,
                fc_dims=[mask.FC_DIM] * mask.NUM_FC,
                classes=classes,
                output_side=mask.OUTPUT_SIDE_RESOLUTION,
            ),
            "in_features": mask.IN_FEATURES,
            "point_in_features": point.IN_FEATURES,
            "strides": {name: shape.stride for name, shape in input_shape.items()},
            "pooler_side": mask.POOLER_RESOLUTION,
            "train_points": point.TRAIN_NUM_POINTS,
            "oversample_ratio": point.OVERSAMPLE_RATIO,
            "importance_ratio": point.IMPORTANCE_SAMPLE_RATIO,
            "steps": point.SUBDIVISION_STEPS,
            "step_points": point.SUBDIVISION_NUM_POINTS,
        }

    def forward(self, features: Maps, instances: list[Instances]) -> Any:
        """Return losses in training, otherwise the instances with ``pred_masks`` (R, 1, m, m).

        Args:
            features: maps of whole images.
            instances: of each image: foreground proposals with ground truth, or detections.
        """
        if self.training:
            return self._losses(features, instances)
        boxes = [image.pred_boxes.tensor for image in instances]
        classes = torch.cat([image.pred_classes for image in instances])
        mask_rcnn_inference(self.mask_logits(features, boxes, classes)[:, None], instances)
        return instances

    def _losses(self, features: Maps, instances: list[Instances]) -> dict[str, Tensor]:
        boxes = [image.proposal_boxes.tensor for image in instances]
        coarse = self._coarse(features, boxes)
        losses = {"loss_mask": mask_rcnn_loss(coarse, instances)}
        if not len(coarse):
            # In one process of many there may be no object, and all wait for the gradients of all parameters.
            everything = [coarse, *self.point_head.parameters()]
            return losses | {"loss_mask_point": sum(part.sum() for part in everything) * 0.0}
        classes = torch.cat([image.gt_classes for image in instances])
        with torch.no_grad():
            points = uncertain_points(channel_of_class(coarse, classes)[:, None], *self.drawing)
            targets = _labels(instances, in_image(points, torch.cat(boxes)))
        logits = channel_of_class(self._points(features, boxes, points, coarse), classes)
        return losses | {"loss_mask_point": F.binary_cross_entropy_with_logits(logits, targets)}

    def mask_logits(self, features: Maps, boxes: Sequence[Tensor], classes: Tensor) -> Tensor:
        """Return the logits of the masks of given classes, (R, m, m), by subdivision (Sec. 3.1).

        Args:
            features: maps of whole images.
            boxes: of each image, (R of the image, 4).
            classes: of all RoIs, (R,) int64.
        """
        coarse = self._coarse(features, boxes)
        side = self.first_side
        points = cell_centres(coarse.shape[0], side, coarse.device)
        first = channel_of_class(self._points(features, boxes, points, coarse), classes)
        logits = first.unflatten(1, (side, side))[:, None]
        for _ in range(self.steps):
            logits, cells, points = refine(logits, self.step_points)
            anew = channel_of_class(self._points(features, boxes, points, coarse), classes)
            flat = logits.flatten(2).scatter(2, cells[:, None], anew[:, None])
            side *= 2
            logits = flat.unflatten(2, (side, side))
        return logits[:, 0]

    def _coarse(self, features: Maps, boxes: Sequence[Tensor]) -> Tensor:
        count = sum(image.shape[0] for image in boxes)
        centres = cell_centres(count, self.pooler_side, boxes[0].device)
        rois = self._sample_features(features, self.in_features, boxes, centres)
        return self.coarse_head(rois.unflatten(2, (self.pooler_side, self.pooler_side)))

    def _points(
        self, features: Maps, boxes: Sequence[Tensor], points: Tensor, coarse: Tensor
    ) -> Tensor:
        """Return the logits (R, K, P) of points."""
        fine = self._sample_features(features, self.point_in_features, boxes, points)
        return self.point_head(fine, sample(coarse, points))

    def _sample_features(
        self, features: Maps, names: Sequence[str], boxes: Sequence[Tensor], points: Tensor
    ) -> Tensor:
        strides = [self.strides[name] for name in names]
        return sample_maps([features[name] for name in names], strides, boxes, points)


LARGEST = 1024
"""Cells per side of a refined mask; at the published 7 * 2 ** 5 it has 224."""


def check_point_rend(cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> None:
    """Raise ConfigError if keys ask for what is not there, maps or bitmaps, or for what PointRend does not do."""
    _check_sides(cfg)
    refuse_ignored(cfg, "FamilyPointRendMaskHead", {**NEUTRAL, "CLS_AGNOSTIC_MASK": False})
    for section in ("ROI_MASK_HEAD", "POINT_HEAD"):
        missing = [name for name in cfg.MODEL[section].IN_FEATURES if name not in input_shape]
        if missing:
            raise ConfigError(
                f"MODEL.{section}.IN_FEATURES names {', '.join(missing)}, but MODEL.ROI_HEADS.IN_FEATURES gives its "
                f"head {', '.join(input_shape)}."
            )
    mask = cfg.MODEL.ROI_MASK_HEAD
    channels = sum(input_shape[name].channels for name in mask.IN_FEATURES)
    if channels < mask.CONV_DIM:
        raise ConfigError(
            f"MODEL.ROI_MASK_HEAD.CONV_DIM {mask.CONV_DIM} must be at most the {channels} channels of "
            f"{', '.join(mask.IN_FEATURES)}, which the coarse head of FamilyPointRendMaskHead can only reduce."
        )
    if cfg.INPUT.MASK_FORMAT != "bitmask":
        raise ConfigError(
            f"INPUT.MASK_FORMAT {cfg.INPUT.MASK_FORMAT!r}, but FamilyPointRendMaskHead reads points of ground truth "
            "from bitmaps; set it to 'bitmask'."
        )


def _check_sides(cfg: CfgNode) -> None:
    """Raise ConfigError if a pooled RoI is too small to be halved, or the refined mask too large."""
    mask, steps = cfg.MODEL.ROI_MASK_HEAD, cfg.MODEL.POINT_HEAD.SUBDIVISION_STEPS
    if mask.POOLER_RESOLUTION < 2:
        raise ConfigError(
            f"MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION {mask.POOLER_RESOLUTION} must be at least 2: the coarse head of "
            "FamilyPointRendMaskHead halves it."
        )
    side = mask.OUTPUT_SIDE_RESOLUTION << steps
    if side > LARGEST:
        raise ConfigError(
            f"MODEL.POINT_HEAD.SUBDIVISION_STEPS {steps} makes masks of {side} cells a side from "
            f"MODEL.ROI_MASK_HEAD.OUTPUT_SIDE_RESOLUTION {mask.OUTPUT_SIDE_RESOLUTION}; they may have {LARGEST} at most."
        )


def _labels(instances: Sequence[Instances], pixels: Tensor) -> Tensor:
    """Return how much of the object there is at points (R, P, 2) in pixels of the image: (R, P), in [0, 1]."""
    labels = []
    parts = pixels.split([len(image) for image in instances])
    for image, points in zip(instances, parts, strict=True):
        if len(image):
            bitmaps = image.gt_masks.tensor[:, None].to(points.dtype)
            extent = points.new_tensor(bitmaps.shape[:1:-1])
            labels.append(sample(bitmaps, points / extent)[:, 0])
    return torch.cat(labels)
