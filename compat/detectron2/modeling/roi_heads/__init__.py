"""Per-region heads: boxes, masks and keypoints of proposals."""

# ruff: noqa: F401 (what is imported here is for users to import)

from detectron2._absent import module_getattr

from .box_head import ROI_BOX_HEAD_REGISTRY, FastRCNNConvFCHead, build_box_head
from .fast_rcnn import FastRCNNOutputLayers
from .keypoint_head import *
from .mask_head import *
from .roi_heads import *

__getattr__ = module_getattr(__name__)
