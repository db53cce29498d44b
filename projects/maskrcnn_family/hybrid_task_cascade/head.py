"""Box and mask heads that take turns, and a semantic branch for both (Hybrid Task Cascade, Chen et al. 2019, Sec. 3).

Letters: N images, R RoIs, C channels, P side of a pooled RoI in cells. Boxes are xyxy in pixels of the network's input.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from maskrcnn_repro.errors import ConfigError
from maskrcnn_repro.roi_ops import build_pooler

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import META_ARCH_REGISTRY, ROI_HEADS_REGISTRY, build_sem_seg_head
from detectron2.modeling.roi_heads import select_foreground_proposals
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import get_event_storage
from torch import Tensor, nn

from maskrcnn_family.cascade.head import FamilyCascadeROIHeads

SEMANTIC = "semantic"
"""Name of the semantic branch's map among the features."""
SEMANTIC_HEAD = "semantic_head"


@ROI_HEADS_REGISTRY.register()
class FamilyHybridTaskROIHeads(FamilyCascadeROIHeads):
    """A cascade whose mask head of a stage trains on the boxes that the stage's box head predicts (interleaved execution).

    Args:
        loss_weights: the alphas of the paper's loss, by stage.
        semantic_head: maps to logits and features, with ``losses``; None without.
        semantic_pooler: of its features, for masks and boxes.
        **parts: those of ``FamilyCascadeROIHeads``.
    """

    proposal_matcher: Any
    takes_sem_seg = True
    mixed_in: Mapping[str, str] = {
        SEMANTIC_HEAD: "DATASETS.WITH_SEM_SEG True (images that are only evaluated need no labels)"
    }

    @configurable
    def __init__(
        self,
        *,
        loss_weights: Sequence[float],
        semantic_head: nn.Module | None = None,
        semantic_pooler: nn.Module | None = None,
        **parts: Any,
    ) -> None:
        super().__init__(**parts)
        self.loss_weights = list(loss_weights)
        self.semantic_head: Any = semantic_head
        self.semantic_pooler = semantic_pooler

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        """Build the parent's parts, and with ``DATASETS.WITH_SEM_SEG`` the semantic branch.

        Raises:
            ConfigError: see :func:`check_hybrid`.
        """
        check_hybrid(cfg)
        parts = super().from_config(cfg, input_shape)
        parts["loss_weights"] = cfg.MODEL.HYBRID_TASK_CASCADE.LOSS_WEIGHTS
        if cfg.DATASETS.WITH_SEM_SEG:
            parts["semantic_head"] = build_sem_seg_head(cfg, input_shape)
            parts["semantic_pooler"] = semantic_pooler(cfg)
        return parts

    def forward(
        self,
        images: Any,
        features: dict[str, Tensor],
        proposals: list[Instances],
        targets: list[Instances] | None = None,
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        """Return what the parent does, and in training the loss of the semantic branch.

        Raises:
            ConfigError: the images bring no semantic labels to learn from.
        """
        if self.semantic_head is None:
            return super().forward(images, features, proposals, targets)
        logits, embedded = self.semantic_head(features)
        instances, losses = super().forward(
            images, {**features, SEMANTIC: embedded}, proposals, targets
        )
        if self.training:
            losses |= self.semantic_head.losses(logits, semantic_labels(images))
        return instances, losses

    def forward_with_given_boxes(
        self, features: dict[str, Tensor], instances: list[Instances]
    ) -> list[Instances]:
        """Return the parent's results, on features with those of the semantic branch."""
        return super().forward_with_given_boxes(self.with_semantics(features), instances)

    def with_semantics(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return maps with that of the semantic branch, if there is one, among them."""
        if self.semantic_head is None or SEMANTIC in features:
            return features
        return {**features, SEMANTIC: self.semantic_head(features)[1]}

    def pool_boxes(self, features: dict[str, Tensor], proposals: list[Instances]) -> Tensor:
        """Return what a stage's box head takes; the losses have weights, gradients are as they are."""
        boxes = [image.proposal_boxes for image in proposals]
        rois = self.box_pooler([features[name] for name in self.box_in_features], boxes)
        return self._add_semantics(rois, features, boxes)

    def stage_losses(
        self,
        losses: dict[str, Tensor],
        features: dict[str, Tensor],
        boxes: Sequence[Tensor],
        stage: int,
    ) -> dict[str, Tensor]:
        """Return the losses of boxes and of masks with the weight of the stage."""
        losses = losses | self._mask_losses(features, boxes, stage)
        return {name: self.loss_weights[stage] * loss for name, loss in losses.items()}

    def _mask_losses(
        self, features: dict[str, Tensor], boxes: Sequence[Tensor], stage: int
    ) -> dict[str, Tensor]:
        """Return the mask loss of a stage on the boxes that it predicts, which are sampled anew."""
        assert self.targets is not None
        proposals = self.moved(boxes, [image.image_size for image in self.targets])
        for image in proposals:
            image.objectness_logits = image.proposal_boxes.tensor.new_zeros(len(image))
        with get_event_storage().name_scope(f"mask_stage{stage}"):
            with self._matching_at(stage):
                sampled = self.label_and_sample_proposals(proposals, self.targets)
            foreground, _ = select_foreground_proposals(sampled, self.num_classes)
            rois = self._pool_masks(features, [image.proposal_boxes for image in foreground])
            return self.mask_head.stage_losses(rois, foreground, stage)

    def _forward_mask(
        self, features: dict[str, Tensor], instances: list[Instances]
    ) -> dict[str, Tensor] | list[Instances]:
        """Add masks to detections; in training the stages have their losses already."""
        if self.training:
            return {}
        if not self.mask_on:
            return instances
        return self.mask_head(
            self._pool_masks(features, [image.pred_boxes for image in instances]), instances
        )

    def _pool_masks(self, features: dict[str, Tensor], boxes: list[Boxes]) -> Tensor:
        rois = self.mask_pooler([features[name] for name in self.mask_in_features], boxes)
        return self._add_semantics(rois, features, boxes)

    def _add_semantics(
        self, rois: Tensor, features: dict[str, Tensor], boxes: list[Boxes]
    ) -> Tensor:
        """Return pooled RoIs (R, C, P, P) with the semantic branch's features added."""
        if self.semantic_pooler is None:
            return rois
        return rois + to_side(self.semantic_pooler([features[SEMANTIC]], boxes), rois)

    @contextmanager
    def _matching_at(self, stage: int) -> Iterator[None]:
        """Match proposals with ground truth at the IoU of a stage within the block."""
        first: Any = self.proposal_matcher
        self.proposal_matcher = self.proposal_matchers[stage]
        try:
            yield
        finally:
            self.proposal_matcher = first


def to_side(semantic: Tensor, rois: Tensor) -> Tensor:
    """Return pooled semantic features averaged to the side of ``rois``: boxes have half that of masks."""
    # Sides do not depend on the image; as numbers they are constants of exported graphs, too.
    side, wanted = int(semantic.shape[-1]), int(rois.shape[-1])
    if side == wanted:
        return semantic
    if side % wanted == 0:
        return F.avg_pool2d(semantic, side // wanted)
    return F.adaptive_avg_pool2d(semantic, wanted)


def semantic_labels(images: Any) -> Tensor:
    """Return the semantic labels (N, H, W) of a batch.

    Raises:
        ConfigError: it has none.
    """
    labels = getattr(images, "sem_seg", None)
    if not isinstance(labels, torch.Tensor):
        raise ConfigError(
            "The semantic branch of FamilyHybridTaskROIHeads got images without semantic labels; set "
            "DATASETS.WITH_SEM_SEG False to train without it."
        )
    return labels


def semantic_pooler(cfg: CfgNode) -> nn.Module:
    """Return a pooler of RoIs of the mask branch's side from the semantic branch's map."""
    shapes = {SEMANTIC: ShapeSpec(stride=cfg.MODEL.SEM_SEG_HEAD.COMMON_STRIDE)}
    return build_pooler(cfg, "ROI_MASK_HEAD", shapes, in_features=[SEMANTIC])


def check_hybrid(cfg: CfgNode) -> None:
    """Raise ConfigError if a Hybrid Task Cascade lacks what it needs: masks, a weight for each stage, labels."""
    model = cfg.MODEL
    stages, weights = model.ROI_BOX_CASCADE_HEAD.IOUS, model.HYBRID_TASK_CASCADE.LOSS_WEIGHTS
    if len(weights) != len(stages):
        raise ConfigError(
            f"MODEL.HYBRID_TASK_CASCADE.LOSS_WEIGHTS {tuple(weights)} has {len(weights)} stages, "
            f"MODEL.ROI_BOX_CASCADE_HEAD.IOUS {len(stages)}; give one of each per stage."
        )
    if not model.MASK_ON:
        raise ConfigError(
            "MODEL.MASK_ON False, but the stages of FamilyHybridTaskROIHeads predict masks; set it to True, or take "
            "FamilyCascadeROIHeads."
        )
    if model.ROI_MASK_HEAD.NAME != "FamilyHybridMaskHead":
        raise ConfigError(
            f"MODEL.ROI_MASK_HEAD.NAME {model.ROI_MASK_HEAD.NAME!r} has one stage, but FamilyHybridTaskROIHeads needs "
            "'FamilyHybridMaskHead'."
        )
    if cfg.DATASETS.WITH_SEM_SEG and model.SEM_SEG_HEAD.NAME != "FamilyFusedSemanticHead":
        raise ConfigError(
            f"MODEL.SEM_SEG_HEAD.NAME {model.SEM_SEG_HEAD.NAME!r} gives no features for RoIs, but "
            "FamilyHybridTaskROIHeads needs 'FamilyFusedSemanticHead' with DATASETS.WITH_SEM_SEG True."
        )
    if cfg.DATASETS.WITH_SEM_SEG and model.META_ARCHITECTURE == "GeneralizedRCNN":
        raise ConfigError(
            "DATASETS.WITH_SEM_SEG True, but MODEL.META_ARCHITECTURE 'GeneralizedRCNN' does not hand labels to its "
            "heads; choose 'MaskRCNN'."
        )
    if getattr(META_ARCH_REGISTRY.get(model.META_ARCHITECTURE), "takes_sem_seg", False):
        raise ConfigError(
            f"MODEL.META_ARCHITECTURE {model.META_ARCHITECTURE!r} has a semantic branch of its own, which "
            "FamilyHybridTaskROIHeads cannot share; choose 'MaskRCNN'."
        )
