"""The two RoI heads of the paper: on res5 of a ResNet ("C4"), and on own heads ("FPN").

Letters: R RoIs of the batch, C channels, P side of a pooled RoI in cells, K foreground classes.
Boxes are xyxy in pixels of the network's input.
"""

from typing import Any

import torch
from torch import nn

from detectron2._absent import hint, module_getattr
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.structures import Boxes, Instances

from ..backbone.resnet import BottleneckBlock, ResNet
from ..poolers import ROIPooler
from ._base import (
    ROI_HEADS_REGISTRY,
    Features,
    ROIHeads,
    select_foreground_proposals,
    select_proposals_with_visible_keypoints,
)
from .box_head import build_box_head
from .fast_rcnn import FastRCNNOutputLayers
from .keypoint_head import build_keypoint_head
from .mask_head import build_mask_head


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
    pooler = ROIPooler(
        output_size=head.POOLER_RESOLUTION,
        scales=[1 / input_shape[name].stride for name in in_features],
        sampling_ratio=head.POOLER_SAMPLING_RATIO,
        pooler_type=head.POOLER_TYPE,
    )
    height, width = pooler.output_size
    return pooler, ShapeSpec(channels=channels.pop(), height=height, width=width)


def _build_branch(
    name: str, build_head, head: CfgNode, cfg: CfgNode, input_shape
) -> dict[str, Any]:
    """Return the three parts of the mask or keypoint branch, as ``StandardROIHeads`` takes them."""
    in_features = cfg.MODEL.ROI_HEADS.IN_FEATURES
    if head.POOLER_TYPE:
        pooler, shape = _build_pooler(head, in_features, input_shape)
    else:  # such a head takes the feature maps and pools itself
        pooler, shape = None, {feature: input_shape[feature] for feature in in_features}
    return {
        f"{name}_in_features": in_features,
        f"{name}_pooler": pooler,
        f"{name}_head": build_head(cfg, shape),
    }


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
        self.in_features = in_features
        self.pooler = pooler
        self.res5 = nn.Sequential(*res5) if isinstance(res5, list | tuple) else res5
        self.box_predictor = box_predictor
        self.mask_on = mask_head is not None
        if self.mask_on:
            self.mask_head = mask_head

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        parts = super().from_config(cfg)
        names = cfg.MODEL.ROI_HEADS.IN_FEATURES
        if cfg.MODEL.KEYPOINT_ON:
            raise ValueError("Res5ROIHeads has no keypoint branch; use StandardROIHeads")
        if len(names) != 1:
            raise ValueError(f"Res5ROIHeads pools from one feature map; IN_FEATURES has {names}")
        pooler, pooled = _build_pooler(cfg.MODEL.ROI_BOX_HEAD, names, input_shape)
        parts |= {"in_features": names, "pooler": pooler}
        parts["res5"], channels = cls._build_res5_block(cfg)
        shape = ShapeSpec(channels=channels, height=1, width=1)
        parts["box_predictor"] = FastRCNNOutputLayers(cfg, shape)
        if cfg.MODEL.MASK_ON:
            # The side before res5 halves it: this is what mask heads of Detectron2 are built with.
            shape = ShapeSpec(channels=channels, height=pooled.height, width=pooled.width)
            parts["mask_head"] = build_mask_head(cfg, shape)
        return parts

    @classmethod
    def _build_res5_block(cls, cfg: CfgNode) -> tuple[nn.Sequential, int]:
        """Return ResNet's last stage and its number of output channels."""
        resnet = cfg.MODEL.RESNETS
        if resnet.DEFORM_ON_PER_STAGE[-1]:
            raise NotImplementedError(hint("Deformable convolution (MODEL.RESNETS)"))
        out_channels = 8 * resnet.RES2_OUT_CHANNELS  # channels double with each of three stages
        blocks = ResNet.make_stage(
            BottleneckBlock,
            3,
            stride_per_block=[2, 1, 1],
            in_channels=out_channels // 2,
            out_channels=out_channels,
            bottleneck_channels=8 * resnet.NUM_GROUPS * resnet.WIDTH_PER_GROUP,
            num_groups=resnet.NUM_GROUPS,
            norm=resnet.NORM,
            stride_in_1x1=resnet.STRIDE_IN_1X1,
        )
        return nn.Sequential(*blocks), out_channels

    def _shared_roi_transform(self, features: list[torch.Tensor], boxes: list[Boxes]):
        return self.res5(self.pooler(features, boxes))

    def forward(self, images, features, proposals, targets=None):
        """See :meth:`ROIHeads.forward`."""
        if self.training:
            proposals = self._training_samples(proposals, targets)
        maps = [features[name] for name in self.in_features]
        rois = self._shared_roi_transform(maps, [one.proposal_boxes for one in proposals])
        predictions = self.box_predictor(rois.mean(dim=(2, 3)))
        if not self.training:
            detections, _ = self.box_predictor.inference(predictions, proposals)
            return self.forward_with_given_boxes(features, detections), {}
        losses = self.box_predictor.losses(predictions, proposals)
        if self.mask_on:
            # Sec. 3: the mask loss is defined on positive RoIs alone; their features exist already.
            foreground, masks = select_foreground_proposals(proposals, self.num_classes)
            losses.update(self.mask_head(rois[torch.cat(masks)], foreground))
        return [], losses

    def forward_with_given_boxes(
        self, features: Features, instances: list[Instances]
    ) -> list[Instances]:
        """See :meth:`StandardROIHeads.forward_with_given_boxes`."""
        self._check_given_boxes(instances)
        if not self.mask_on:
            return instances
        maps = [features[name] for name in self.in_features]
        rois = self._shared_roi_transform(maps, [one.pred_boxes for one in instances])
        return self.mask_head(rois, instances)


@ROI_HEADS_REGISTRY.register()
class StandardROIHeads(ROIHeads):
    """Separate poolers and heads for boxes, masks and keypoints (fig. 4, right).

    Args:
        box_in_features: the feature maps that the box branch pools from.
        box_pooler: its RoI operation.
        box_head: pooled RoIs to features.
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
        box_pooler: ROIPooler,
        box_head: nn.Module,
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
        self.mask_on, self.keypoint_on = (
            mask_in_features is not None,
            keypoint_in_features is not None,
        )
        if self.mask_on:
            self.mask_in_features = mask_in_features
            self.mask_pooler, self.mask_head = mask_pooler, mask_head
        if self.keypoint_on:
            self.keypoint_in_features = keypoint_in_features
            self.keypoint_pooler, self.keypoint_head = keypoint_pooler, keypoint_head

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
        predictor = FastRCNNOutputLayers(cfg, head.output_shape)
        own = {"box_head": head, "box_predictor": predictor}
        return {"box_in_features": names, "box_pooler": pooler, **own}

    @classmethod
    def _init_mask_head(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        if not cfg.MODEL.MASK_ON:
            return {}
        return _build_branch("mask", build_mask_head, cfg.MODEL.ROI_MASK_HEAD, cfg, input_shape)

    @classmethod
    def _init_keypoint_head(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        if not cfg.MODEL.KEYPOINT_ON:
            return {}
        head = cfg.MODEL.ROI_KEYPOINT_HEAD
        return _build_branch("keypoint", build_keypoint_head, head, cfg, input_shape)

    def forward(self, images, features, proposals, targets=None):
        """See :meth:`ROIHeads.forward`; in training the first result are the sampled proposals."""
        if not self.training:
            detections = self._forward_box(features, proposals)
            return self.forward_with_given_boxes(features, detections), {}
        samples = self._training_samples(proposals, targets)
        # Boxes first: with `train_on_pred_boxes` this branch moves the boxes of the samples.
        losses = self._forward_box(features, samples)
        losses.update(self._forward_mask(features, samples))
        losses.update(self._forward_keypoint(features, samples))
        return samples, losses

    def forward_with_given_boxes(
        self, features: Features, instances: list[Instances]
    ) -> list[Instances]:
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

    def _forward_box(self, features: Features, proposals: list[Instances]):
        """Run the box branch: losses in training, otherwise detections."""
        maps = [features[name] for name in self.box_in_features]
        rois = self.box_pooler(maps, [one.proposal_boxes for one in proposals])
        predictions = self.box_predictor(self.box_head(rois))
        if not self.training:
            return self.box_predictor.inference(predictions, proposals)[0]
        losses = self.box_predictor.losses(predictions, proposals)
        if self.train_on_pred_boxes:
            with torch.no_grad():
                boxes = self.box_predictor.predict_boxes_for_gt_classes(predictions, proposals)
            for one, predicted in zip(proposals, boxes, strict=True):
                one.proposal_boxes = Boxes(predicted)
        return losses

    def _forward_mask(self, features: Features, instances: list[Instances]):
        """Run the mask branch on foreground proposals (training) or on detections."""
        if not self.mask_on:
            return {} if self.training else instances
        if self.training:
            instances, _ = select_foreground_proposals(instances, self.num_classes)
        inputs = self._head_input(features, self.mask_in_features, self.mask_pooler, instances)
        return self.mask_head(inputs, instances)

    def _forward_keypoint(self, features: Features, instances: list[Instances]):
        """Run the keypoint branch on proposals with a visible keypoint, or on detections."""
        if not self.keypoint_on:
            return {} if self.training else instances
        if self.training:
            instances, _ = select_foreground_proposals(instances, self.num_classes)
            instances = select_proposals_with_visible_keypoints(instances)
        inputs = self._head_input(
            features, self.keypoint_in_features, self.keypoint_pooler, instances
        )
        return self.keypoint_head(inputs, instances)

    def _head_input(self, features, names, pooler, instances):
        if pooler is None:
            return {name: features[name] for name in names}
        boxes = [one.proposal_boxes if self.training else one.pred_boxes for one in instances]
        return pooler([features[name] for name in names], boxes)


__getattr__ = module_getattr(__name__)
