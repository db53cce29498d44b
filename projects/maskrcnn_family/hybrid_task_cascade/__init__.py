"""Hybrid Task Cascade (Chen et al. 2019, arXiv 1901.07518): importing this registers its parts."""

from maskrcnn_family.hybrid_task_cascade.export import HybridBranches
from maskrcnn_family.hybrid_task_cascade.head import FamilyHybridTaskROIHeads
from maskrcnn_family.hybrid_task_cascade.mask_head import FamilyHybridMaskHead
from maskrcnn_family.hybrid_task_cascade.semantic_head import FamilyFusedSemanticHead

__all__ = [
    "FamilyFusedSemanticHead",
    "FamilyHybridMaskHead",
    "FamilyHybridTaskROIHeads",
    "HybridBranches",
]
