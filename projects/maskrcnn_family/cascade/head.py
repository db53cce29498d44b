"""Box heads in a row, each trained at a higher IoU on the boxes of the one before (Cascade R-CNN, Sec. 4).

Letters: S stages, R RoIs of an image, K foreground classes. Boxes are xyxy in pixels of the network's input.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from maskrcnn_repro.errors import ConfigError
from maskrcnn_repro.modeling.roi_heads import PaperStandardROIHeads

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import ROI_HEADS_REGISTRY
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.roi_heads.fast_rcnn import fast_rcnn_inference
from detectron2.structures import Boxes, Instances, pairwise_iou
from detectron2.utils.events import get_event_storage
from torch import Tensor, nn


@ROI_HEADS_REGISTRY.register()
class FamilyCascadeROIHeads(PaperStandardROIHeads):
    """The paper's heads with S box heads in place of one (Sec. 4.2); masks and keypoints stay as they are.

    A stage pools from the boxes that the stage before predicts. Scores are the mean of all stages, boxes are the
    last one's. Parameters have the names of Detectron2's ``CascadeROIHeads``.

    Args:
        box_heads: of each stage, pooled RoIs to features.
        box_predictors: of each stage, with one box for all classes.
        proposal_matchers: of each stage, which boxes count as foreground.
        **parts: the arguments of ``StandardROIHeads``.
    """

    @configurable
    def __init__(
        self,
        *,
        box_heads: Sequence[nn.Module],
        box_predictors: Sequence[nn.Module],
        proposal_matchers: Sequence[Matcher],
        **parts: Any,
    ) -> None:
        super().__init__(
            box_head=nn.ModuleList(box_heads),
            box_predictor=nn.ModuleList(box_predictors),
            proposal_matcher=proposal_matchers[0],
            **parts,
        )
        self.proposal_matchers = list(proposal_matchers)
        self.targets: list[Instances] | None = None
        """Ground truth of the images in a forward pass of training."""

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        """Build the parent's box head and predictor once per stage of ``MODEL.ROI_BOX_CASCADE_HEAD``.

        Raises:
            ConfigError: see :func:`check_cascade`.
        """
        check_cascade(cfg)
        keys = cfg.MODEL.ROI_BOX_CASCADE_HEAD
        stages = [
            super(FamilyCascadeROIHeads, cls).from_config(
                _stage(cfg, weights, whole=not k), input_shape
            )
            for k, weights in enumerate(keys.BBOX_REG_WEIGHTS)
        ]
        parts = stages[0]
        for name in ("box_head", "box_predictor"):
            parts[f"{name}s"] = [stage[name] for stage in stages]
            del parts[name]
        labels = (0, 1)
        further = [Matcher([iou], labels, allow_low_quality_matches=False) for iou in keys.IOUS[1:]]
        parts["proposal_matchers"] = [parts.pop("proposal_matcher"), *further]
        return parts

    def forward(
        self,
        images: Any,
        features: dict[str, Tensor],
        proposals: list[Instances],
        targets: list[Instances] | None = None,
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        """Return what the parent does; the ground truth is at hand for the later stages meanwhile."""
        self.targets = targets
        try:
            return super().forward(images, features, proposals, targets)
        finally:
            self.targets = None

    def _forward_box(
        self, features: dict[str, Tensor], proposals: list[Instances]
    ) -> dict[str, Tensor] | list[Instances]:
        """Run the stages: losses of each in training, otherwise detections."""
        sizes = [image.image_size for image in proposals]
        losses: dict[str, Tensor] = {}
        scores = []
        last = self.box_predictor[-1]
        for stage, predictor in enumerate(self.box_predictor):
            predictions = predictor(self.box_head[stage](self.pool_boxes(features, proposals)))
            boxes = predictor.predict_boxes(predictions, proposals)
            if self.training:
                with get_event_storage().name_scope(f"stage{stage}"):
                    own = predictor.losses(predictions, proposals)
                own = self.stage_losses(own, features, boxes, stage)
                losses |= {f"{name}_stage{stage}": loss for name, loss in own.items()}
            else:
                scores.append(predictor.predict_probs(predictions, proposals))
            if predictor is not last:
                proposals = self.moved(boxes, sizes)
                if self.training:
                    self._label(proposals, stage + 1)
        if self.training:
            return losses
        means = [torch.stack(image).mean(dim=0) for image in zip(*scores, strict=True)]
        limits = (last.test_score_thresh, last.test_nms_thresh, last.test_topk_per_image)
        return fast_rcnn_inference(boxes, means, sizes, *limits)[0]

    def pool_boxes(self, features: dict[str, Tensor], proposals: list[Instances]) -> Tensor:
        """Return what a stage's box head takes, (R of the batch, C, P, P)."""
        maps = [features[name] for name in self.box_in_features]
        rois = self.box_pooler(maps, [image.proposal_boxes for image in proposals])
        if rois.requires_grad:
            # The sum of the losses trains each head in full, and the backbone by their mean.
            rois.register_hook(lambda gradient: gradient / len(self.box_head))
        return rois

    def stage_losses(
        self,
        losses: dict[str, Tensor],
        features: dict[str, Tensor],
        boxes: Sequence[Tensor],
        stage: int,
    ) -> dict[str, Tensor]:
        """Return the losses of a stage: here those of its boxes; a subclass may weigh them and add others.

        Args:
            losses: of its boxes, by name.
            features: maps (N, C, H, W) by name.
            boxes: that the stage predicts, (R, 4) of each image.
            stage: its number, from 0.
        """
        return losses

    @torch.no_grad()
    def moved(self, boxes: Sequence[Tensor], sizes: Sequence[tuple[int, int]]) -> list[Instances]:
        """Return the predicted boxes (R, 4) of each image as proposals in it."""
        proposals = []
        for image_boxes, size in zip(boxes, sizes, strict=True):
            clipped = Boxes(image_boxes.detach().clone())
            clipped.clip(size)
            # When predicting all stay: the scores of the stages are averaged box by box.
            kept = clipped[clipped.nonempty()] if self.training else clipped
            proposals.append(Instances(size, proposal_boxes=kept))
        return proposals

    @torch.no_grad()
    def _label(self, proposals: list[Instances], stage: int) -> None:
        """Match the proposals of each image with its ground truth, at the IoU of ``stage``."""
        assert self.targets is not None
        foreground = []
        for image, truth in zip(proposals, self.targets, strict=True):
            overlaps = pairwise_iou(truth.gt_boxes, image.proposal_boxes)
            matches, labels = self.proposal_matchers[stage](overlaps)
            image.gt_classes = torch.full_like(matches, self.num_classes)
            if len(truth):
                image.gt_classes = torch.where(
                    labels == 1, truth.gt_classes[matches], image.gt_classes
                )
                image.gt_boxes = truth.gt_boxes[matches]
            foreground.append((labels == 1).sum())
        totals = {"fg": sum(foreground), "bg": sum(map(len, proposals)) - sum(foreground)}
        for kind, total in totals.items():
            name = f"stage{stage}/roi_head/num_{kind}_samples"
            get_event_storage().put_scalar(name, total / max(len(proposals), 1))


def check_cascade(cfg: CfgNode) -> None:
    """Raise ConfigError if keys of a cascade contradict each other.

    ``MODEL.ROI_BOX_CASCADE_HEAD`` has as many ``IOUS`` as ``BBOX_REG_WEIGHTS``, the first that of the sampled
    proposals and none lower than the one before; boxes are class-agnostic; ``MODEL.ROI_BOX_HEAD`` has no ``MIN_SIZE`` or
    ``UNUSED_CLASSES`` and trains no branch on predicted boxes.
    """
    keys, box = cfg.MODEL.ROI_BOX_CASCADE_HEAD, cfg.MODEL.ROI_BOX_HEAD
    if len(keys.IOUS) != len(keys.BBOX_REG_WEIGHTS) or not keys.IOUS:
        raise ConfigError(
            f"MODEL.ROI_BOX_CASCADE_HEAD.IOUS {tuple(keys.IOUS)} has {len(keys.IOUS)} stages, "
            f"BBOX_REG_WEIGHTS {len(keys.BBOX_REG_WEIGHTS)}; give one of each per stage."
        )
    if list(keys.IOUS) != sorted(keys.IOUS):
        raise ConfigError(
            f"MODEL.ROI_BOX_CASCADE_HEAD.IOUS {tuple(keys.IOUS)} must not fall: each stage gets better boxes than the one "
            "before."
        )
    first = tuple(cfg.MODEL.ROI_HEADS.IOU_THRESHOLDS)
    if first != (keys.IOUS[0],):
        raise ConfigError(
            f"MODEL.ROI_BOX_CASCADE_HEAD.IOUS starts with {keys.IOUS[0]}, but its first stage trains on the "
            f"proposals sampled by MODEL.ROI_HEADS.IOU_THRESHOLDS {first}; make them equal."
        )
    if not box.CLS_AGNOSTIC_BBOX_REG:
        raise ConfigError(
            "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG False, but a stage of FamilyCascadeROIHeads gives the next "
            "one box per RoI; set it to True."
        )
    for name, neutral in (("MIN_SIZE", 0.0), ("UNUSED_CLASSES", 0), ("TRAIN_ON_PRED_BOXES", False)):
        if box[name] != neutral:
            raise ConfigError(
                f"MODEL.ROI_BOX_HEAD.{name} {box[name]} is not for FamilyCascadeROIHeads; leave it at {neutral}."
            )


def _stage(cfg: CfgNode, weights: Sequence[float], *, whole: bool) -> CfgNode:
    """Return a config from which the parent builds one stage, and the other branches too if it is ``whole``."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS = weights
    if not whole:
        cfg.MODEL.MASK_ON = cfg.MODEL.KEYPOINT_ON = False
    return cfg
