"""DensePose (Güler, Neverova, Kokkinos 2018, arXiv 1802.00434): importing this registers its RoI heads."""

from maskrcnn_family.densepose.config import add_config
from maskrcnn_family.densepose.head import FamilyDensePoseROIHeads

__all__ = ["FamilyDensePoseROIHeads", "add_config"]
