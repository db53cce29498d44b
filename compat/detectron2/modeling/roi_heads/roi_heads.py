"""The two RoI heads of the paper: on res5 of a ResNet ("C4"), and on own heads ("FPN").

Letters: R RoIs of the batch, C channels, P side of a pooled RoI in cells, K foreground classes,
J keypoint types.
Boxes are xyxy in pixels of the network's input.
"""

from statistics import fmean
from typing import Any

import torch
from torch import nn

from detectron2._absent import hint, module_getattr
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import get_event_storage

from ..backbone.resnet import BottleneckBlock
from ..poolers import ROIPooler
from ._base import ROI_HEADS_REGISTRY, ROIHeads, select_foreground_proposals
from .box_head import build_box_head
from .fast_rcnn import FastRCNNOutputLayers
from .keypoint_head import build_keypoint_head
from .mask_head import build_mask_head

__all__ = ["ROI_HEADS_REGISTRY", "ROIHeads", "Res5ROIHeads", "StandardROIHeads"]
__all__ += ["build_roi_heads", "select_foreground_proposals"]


def select_proposals_with_visible_keypoints(proposals: list[Instances]) -> list[Instances]:
    """Keep the proposals that have a labelled keypoint of their object inside.

    Args:
        proposals: foreground of each image, with ``proposal_boxes`` and ``gt_keypoints``.
    """
    kept, counts = [], []
    for rois in proposals:
        # An image without ground truth has no `gt_keypoints` field.
        if len(rois) > 0:
            x, y, visibility = rois.gt_keypoints.tensor.unbind(dim=2)  # each (R, J)
            x1, y1, x2, y2 = rois.proposal_boxes.tensor[:, :, None].unbind(dim=1)
            inside = (x >= x1) & (x <= x2) & (y >= y1) & (y <= y2)
            rois = rois[((visibility >= 1) & inside).any(dim=1).nonzero().squeeze(1)]
            counts.append(len(rois))
        kept.append(rois)
    # No image with foreground counts as zero samples; a mean over none would be nan.
    get_event_storage().put_scalar("keypoint_head/num_fg_samples", fmean(counts or [0]))
    return kept


def build_roi_heads(cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> nn.Module:
    """Build ``MODEL.ROI_HEADS.NAME``.

    Raises:
        KeyError: no heads of that name are registered.
    """
    return ROI_HEADS_REGISTRY.get(cfg.MODEL.ROI_HEADS.NAME)(cfg, input_shape)


def _build_pooler(
    head: CfgNode, in_features: list[str], input_shape: dict[str, ShapeSpec]
) -> tuple[ROIPooler, ShapeSpec]:
    """Build the pooler of a head's config node; return it and the shape of a pooled RoI."""
    channels = {input_shape[name].channels for name in in_features}
    if len(channels) != 1:
        raise ValueError(f"A head needs maps of equal width; {in_features} have {sorted(channels)}")
    scales = [1 / input_shape[name].stride for name in in_features]
    sampling = head.POOLER_SAMPLING_RATIO, head.POOLER_TYPE
    pooler = ROIPooler(head.POOLER_RESOLUTION, scales, *sampling)
    return pooler, ShapeSpec(channels.pop(), *pooler.output_size)


def _build_branch(branch: str, build_head, cfg: CfgNode, input_shape) -> dict[str, Any]:
    """Return the parts of the mask or keypoint branch for ``StandardROIHeads``, if it is on."""
    if not cfg.MODEL[f"{branch.upper()}_ON"]:
        return {}
    head, names = cfg.MODEL[f"ROI_{branch.upper()}_HEAD"], cfg.MODEL.ROI_HEADS.IN_FEATURES
    if head.POOLER_TYPE:
        pooler, shape = _build_pooler(head, names, input_shape)
    else:  # such a head takes the feature maps and pools itself
        pooler, shape = None, {name: input_shape[name] for name in names}
    parts = {"in_features": names, "pooler": pooler, "head": build_head(cfg, shape)}
    return {f"{branch}_{part}": value for part, value in parts.items()}


@ROI_HEADS_REGISTRY.register()
class Res5ROIHeads(ROIHeads):
    """The heads of a "C4" model: box and mask branch share the pooled features and ResNet's res5.

    Mask R-CNN, fig. 4, left.

    Args:
        in_features: the one feature map to pool from.
        pooler: its RoI operation.
        res5: pooled RoIs to features of half the side.
        box_predictor: as :class:`FastRCNNOutputLayers`.
        mask_head: None without masks.
        **kwargs: those of :class:`ROIHeads`.
    """

    @configurable
    def __init__(
        self,
        *,
        in_features: list[str],
        pooler: ROIPooler,
        res5: nn.Module,
        box_predictor: nn.Module,
        mask_head: nn.Module | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.in_features, self.pooler = in_features, pooler
        self.res5 = nn.Sequential(*res5) if isinstance(res5, list | tuple) else res5
        self.box_predictor, self.mask_on = box_predictor, mask_head is not None
        if mask_head is not None:
            self.add_module("mask_head", mask_head)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        parts = super().from_config(cfg)
        names = cfg.MODEL.ROI_HEADS.IN_FEATURES
        if cfg.MODEL.KEYPOINT_ON:
            raise ValueError("Res5ROIHeads has no keypoint branch; use StandardROIHeads")
        if len(names) != 1:
            raise ValueError(f"Res5ROIHeads pools from one feature map; IN_FEATURES has {names}")
        pooler, _ = _build_pooler(cfg.MODEL.ROI_BOX_HEAD, names, input_shape)
        parts |= {"in_features": names, "pooler": pooler}
        parts["res5"], channels = cls._build_res5_block(cfg)
        parts["box_predictor"] = FastRCNNOutputLayers(cfg, ShapeSpec(channels, 1, 1))
        if cfg.MODEL.MASK_ON:
            # The side before res5 halves it: this is what mask heads of Detectron2 are built with.
            parts["mask_head"] = build_mask_head(cfg, ShapeSpec(channels, *pooler.output_size))
        return parts

    @classmethod
    def _build_res5_block(cls, cfg: CfgNode) -> tuple[nn.Sequential, int]:
        """Return ResNet's last stage and its number of output channels."""
        resnet = cfg.MODEL.RESNETS
        if resnet.DEFORM_ON_PER_STAGE[-1]:
            raise NotImplementedError(hint("Deformable convolution (MODEL.RESNETS)"))
        # Channels double with each of three stages.
        channels, width = 8 * resnet.RES2_OUT_CHANNELS, 8 * resnet.WIDTH_PER_GROUP
        groups = {"num_groups": resnet.NUM_GROUPS, "bottleneck_channels": width * resnet.NUM_GROUPS}
        common = {"norm": resnet.NORM, "stride_in_1x1": resnet.STRIDE_IN_1X1, **groups}
        first = BottleneckBlock(channels // 2, channels, stride=2, **common)
        rest = [BottleneckBlock(channels, channels, **common) for _ in range(2)]
        return nn.Sequential(first, *rest), channels

    def _shared_roi_transform(self, features: list[torch.Tensor], boxes: list[Boxes]):
        return self.res5(self.pooler(features, boxes))

    def forward(self, images, features, proposals, targets=None):
        """See :meth:`ROIHeads.forward`."""
        if self.training:
            proposals = self.label_and_sample_proposals(proposals, targets)
        maps = [features[name] for name in self.in_features]
        rois = self._shared_roi_transform(maps, [p.proposal_boxes for p in proposals])
        scored = self.box_predictor(rois.mean(dim=(2, 3)))
        if self.training:
            losses = self.box_predictor.losses(scored, proposals)
            if self.mask_on:
                # Sec. 3: the mask loss is defined on positive RoIs alone; their features exist.
                foreground, masks = select_foreground_proposals(proposals, self.num_classes)
                losses |= self.mask_head(rois[torch.cat(masks)], foreground)
            return [], losses
        detections, _ = self.box_predictor.inference(scored, proposals)
        return self.forward_with_given_boxes(features, detections), {}

    def forward_with_given_boxes(self, features: dict, instances: list[Instances]):
        """See :meth:`StandardROIHeads.forward_with_given_boxes`."""
        self._check_given_boxes(instances)
        if self.mask_on:
            maps = [features[name] for name in self.in_features]
            rois = self._shared_roi_transform(
                maps, [detections.pred_boxes for detections in instances]
            )
            instances = self.mask_head(rois, instances)
        return instances


@ROI_HEADS_REGISTRY.register()
class StandardROIHeads(ROIHeads):
    """Separate poolers and heads for boxes, masks and keypoints (fig. 4, right).

    Args:
        box_in_features: the feature maps that the box branch pools from.
        box_head: pooled RoIs to features.
        box_pooler: its RoI operation.
        box_predictor: as :class:`FastRCNNOutputLayers`.
        mask_in_features: as ``box_in_features``; None without masks.
        mask_pooler: None if the mask head takes the feature maps themselves.
        mask_head: predicts masks.
        keypoint_in_features: as ``mask_in_features``.
        keypoint_pooler: as ``mask_pooler``.
        keypoint_head: predicts keypoints.
        train_on_pred_boxes: train masks and keypoints on predicted boxes instead of proposals.
        **kwargs: those of :class:`ROIHeads`.
    """

    @configurable
    def __init__(
        self,
        *,
        box_in_features: list[str],
        box_head: nn.Module,
        box_pooler: ROIPooler,
        box_predictor: nn.Module,
        mask_in_features: list[str] | None = None,
        mask_pooler: ROIPooler | None = None,
        mask_head: nn.Module | None = None,
        keypoint_in_features: list[str] | None = None,
        keypoint_pooler: ROIPooler | None = None,
        keypoint_head: nn.Module | None = None,
        train_on_pred_boxes: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.in_features = self.box_in_features = box_in_features
        self.box_pooler, self.box_head = box_pooler, box_head
        self.box_predictor, self.train_on_pred_boxes = box_predictor, train_on_pred_boxes
        # The attributes of a branch that is off do not exist.
        for branch, names, pooler, head in (
            ("mask", mask_in_features, mask_pooler, mask_head),
            ("keypoint", keypoint_in_features, keypoint_pooler, keypoint_head),
        ):
            setattr(self, f"{branch}_on", names is not None)
            if names is not None:
                setattr(self, f"{branch}_in_features", names)
                setattr(self, f"{branch}_pooler", pooler)
                setattr(self, f"{branch}_head", head)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        parts = super().from_config(cfg)
        parts["train_on_pred_boxes"] = cfg.MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES
        for build in (cls._init_box_head, cls._init_mask_head, cls._init_keypoint_head):
            parts.update(build(cfg, input_shape))
        return parts

    # The three builders are what plug-ins override to change one branch.
    @classmethod
    def _init_box_head(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        names = cfg.MODEL.ROI_HEADS.IN_FEATURES
        pooler, shape = _build_pooler(cfg.MODEL.ROI_BOX_HEAD, names, input_shape)
        head = build_box_head(cfg, shape)
        parts = {"box_in_features": names, "box_pooler": pooler, "box_head": head}
        return parts | {"box_predictor": FastRCNNOutputLayers(cfg, head.output_shape)}

    @classmethod
    def _init_mask_head(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        return _build_branch("mask", build_mask_head, cfg, input_shape)

    @classmethod
    def _init_keypoint_head(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        return _build_branch("keypoint", build_keypoint_head, cfg, input_shape)

    def forward(self, images, features, proposals, targets=None):
        """See :meth:`ROIHeads.forward`; in training the first result are the sampled proposals."""
        if self.training:
            samples = self.label_and_sample_proposals(proposals, targets)
            # Boxes first: with `train_on_pred_boxes` this branch moves the boxes of the samples.
            losses = {}
            for branch in (self._forward_box, self._forward_mask, self._forward_keypoint):
                losses |= branch(features, samples)
            return samples, losses
        detections = self._forward_box(features, proposals)
        return self.forward_with_given_boxes(features, detections), {}

    def forward_with_given_boxes(self, features: dict, instances: list[Instances]):
        """Predict masks and keypoints for boxes that are known.

        Args:
            features: as for :meth:`forward`.
            instances: of each image, with ``pred_boxes`` and ``pred_classes``.

        Returns:
            The same objects, with ``pred_masks`` or ``pred_keypoints`` as the branches have it.

        Raises:
            RuntimeError: the module is in training mode.
            ValueError: boxes or classes are missing.
        """
        self._check_given_boxes(instances)
        return self._forward_keypoint(features, self._forward_mask(features, instances))

    def _forward_box(self, features: dict[str, torch.Tensor], proposals: list[Instances]):
        """Run the box branch: losses in training, otherwise detections."""
        maps = [features[name] for name in self.box_in_features]
        rois = self.box_pooler(maps, [p.proposal_boxes for p in proposals])
        scored = self.box_predictor(self.box_head(rois))
        if self.training:
            losses = self.box_predictor.losses(scored, proposals)
            if self.train_on_pred_boxes:
                moved = self.box_predictor.predict_boxes_for_gt_classes(scored, proposals)
                for sampled, boxes in zip(proposals, moved, strict=True):
                    sampled.proposal_boxes = Boxes(boxes.detach())
            return losses
        return self.box_predictor.inference(scored, proposals)[0]

    def _forward_mask(self, features: dict[str, torch.Tensor], instances: list[Instances]):
        """Run the mask branch on foreground proposals (training) or on detections."""
        return self._forward_branch("mask", features, instances)

    def _forward_keypoint(self, features: dict[str, torch.Tensor], instances: list[Instances]):
        """Run the keypoint branch on proposals with a visible keypoint, or on detections."""
        return self._forward_branch("keypoint", features, instances)

    def _forward_branch(self, branch: str, features, instances):
        if not getattr(self, f"{branch}_on"):
            return {} if self.training else instances
        parts = ("in_features", "pooler", "head")
        names, pooler, head = (getattr(self, f"{branch}_{part}") for part in parts)
        if self.training:
            instances = select_foreground_proposals(instances, self.num_classes)[0]
            if branch == "keypoint":
                instances = select_proposals_with_visible_keypoints(instances)
        inputs = {name: features[name] for name in names}
        if pooler is not None:
            boxes = [
                image_instances.proposal_boxes if self.training else image_instances.pred_boxes
                for image_instances in instances
            ]
            inputs = pooler(list(inputs.values()), boxes)
        return head(inputs, instances)


__getattr__ = module_getattr(__name__)
