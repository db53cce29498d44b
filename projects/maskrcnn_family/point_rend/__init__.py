"""PointRend (Kirillov et al. 2020, arXiv 1912.08193): importing this registers its mask head."""

from maskrcnn_family.point_rend.head import FamilyPointRendMaskHead

__all__ = ["FamilyPointRendMaskHead"]
