"""RoI operations: RoIPool, RoIWarp and RoIAlign (paper, Sec. 3 and Table 2c), one family, one interface."""

from maskrcnn_repro.roi_ops.operations import (
    RoIAlignAve,
    RoIAlignMax,
    RoIOperation,
    RoIPool,
    RoIWarpAve,
    RoIWarpMax,
)
from maskrcnn_repro.roi_ops.pooler import RoIOpPooler, replace_poolers
from maskrcnn_repro.roi_ops.registry import ROI_OP_REGISTRY, build_roi_op
from maskrcnn_repro.roi_ops.roi_align import BagRoIAlign, bag_roi_align

__all__ = [
    "ROI_OP_REGISTRY",
    "BagRoIAlign",
    "RoIAlignAve",
    "RoIAlignMax",
    "RoIOpPooler",
    "RoIOperation",
    "RoIPool",
    "RoIWarpAve",
    "RoIWarpMax",
    "bag_roi_align",
    "build_roi_op",
    "replace_poolers",
]
