"""Boundary-preserving Mask R-CNN (Cheng et al. 2020, arXiv 2007.08921): importing this registers its mask head."""

from maskrcnn_family.boundary_preserving.export import BoundaryExport
from maskrcnn_family.boundary_preserving.head import FamilyBoundaryPreservingMaskHead

__all__ = ["BoundaryExport", "FamilyBoundaryPreservingMaskHead"]
