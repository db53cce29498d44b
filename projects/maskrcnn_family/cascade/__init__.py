"""Cascade R-CNN with a mask branch (Cai, Vasconcelos 2018, arXiv 1712.00726): importing this registers its heads."""

from maskrcnn_family.cascade.roi_heads import FamilyCascadeROIHeads

__all__ = ["FamilyCascadeROIHeads"]
