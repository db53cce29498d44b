"""Cascade R-CNN with a mask branch (Cai, Vasconcelos 2018, arXiv 1712.00726): importing this registers its parts."""

from maskrcnn_family.cascade.export import CascadeBranches
from maskrcnn_family.cascade.head import FamilyCascadeROIHeads

__all__ = ["CascadeBranches", "FamilyCascadeROIHeads"]
