"""RoI operations: RoIPool, RoIWarp and RoIAlign (paper, Sec. 3 and Table 2c), one family, one interface."""

from maskrcnn_repro.roi_ops.operation import RoIOperation
from maskrcnn_repro.roi_ops.pooler import RoIOpPooler, build_pooler
from maskrcnn_repro.roi_ops.registry import ROI_OP_REGISTRY, build_roi_op
from maskrcnn_repro.roi_ops.roi_pool import RoIPool
from maskrcnn_repro.roi_ops.sampled import RoIAlignAve, RoIAlignMax, RoIWarpAve, RoIWarpMax

__all__ = [
    "ROI_OP_REGISTRY",
    "RoIAlignAve",
    "RoIAlignMax",
    "RoIOpPooler",
    "RoIOperation",
    "RoIPool",
    "RoIWarpAve",
    "RoIWarpMax",
    "build_pooler",
    "build_roi_op",
]
