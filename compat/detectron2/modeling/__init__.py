"""Models and their parts: backbones, proposals, per-region heads, whole architectures."""

# ruff: noqa: F401 (what is imported here is for users to import)

from detectron2._absent import module_getattr

from ..layers import ShapeSpec
from .anchor_generator import ANCHOR_GENERATOR_REGISTRY, build_anchor_generator
from .backbone.backbone import Backbone
from .backbone.build import BACKBONE_REGISTRY, build_backbone
from .backbone.fpn import FPN
from .backbone.resnet import ResNet, ResNetBlockBase, build_resnet_backbone, make_stage
from .meta_arch.build import META_ARCH_REGISTRY, build_model
from .meta_arch.rcnn import GeneralizedRCNN, ProposalNetwork
from .meta_arch.semantic_seg import SEM_SEG_HEADS_REGISTRY, build_sem_seg_head
from .postprocessing import detector_postprocess
from .proposal_generator.build import PROPOSAL_GENERATOR_REGISTRY, build_proposal_generator
from .proposal_generator.rpn import RPN_HEAD_REGISTRY, build_rpn_head
from .roi_heads.box_head import ROI_BOX_HEAD_REGISTRY, build_box_head
from .roi_heads.fast_rcnn import FastRCNNOutputLayers
from .roi_heads.keypoint_head import (
    ROI_KEYPOINT_HEAD_REGISTRY,
    BaseKeypointRCNNHead,
    build_keypoint_head,
)
from .roi_heads.mask_head import ROI_MASK_HEAD_REGISTRY, BaseMaskRCNNHead, build_mask_head
from .roi_heads.roi_heads import ROI_HEADS_REGISTRY, ROIHeads, StandardROIHeads, build_roi_heads

__getattr__ = module_getattr(__name__)
