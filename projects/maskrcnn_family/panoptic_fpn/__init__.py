"""Panoptic FPN (Kirillov et al. 2019, arXiv 1901.02446): importing this registers its semantic head and its model."""

from maskrcnn_family.panoptic_fpn.export import PanopticExport
from maskrcnn_family.panoptic_fpn.head import FamilySemSegFPNHead
from maskrcnn_family.panoptic_fpn.model import FamilyPanopticFPN

__all__ = ["FamilyPanopticFPN", "FamilySemSegFPNHead", "PanopticExport"]
