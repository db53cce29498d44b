"""Mask Scoring R-CNN (Huang et al. 2019, arXiv 1903.00241): importing this registers its mask head."""

from maskrcnn_family.mask_scoring.head import FamilyMaskScoringHead

__all__ = ["FamilyMaskScoringHead"]
