"""DensePose (Güler, Neverova, Kokkinos 2018, arXiv 1802.00434): importing this registers its RoI heads and COCO's sets."""

from maskrcnn_family.densepose.datasets import register_coco_densepose
from maskrcnn_family.densepose.export import DensePoseExport
from maskrcnn_family.densepose.head import FamilyDensePoseROIHeads

register_coco_densepose()

__all__ = ["DensePoseExport", "FamilyDensePoseROIHeads", "register_coco_densepose"]
