"""PANet (Liu et al. 2018, arXiv 1803.01534): importing this registers its backbone, its RoI heads and their heads."""

from maskrcnn_family.panet.backbone import FamilyPANet
from maskrcnn_family.panet.export import PANetBranches
from maskrcnn_family.panet.heads import FamilyPANetBoxHead, FamilyPANetMaskHead
from maskrcnn_family.panet.roi_heads import FamilyPANetROIHeads

__all__ = [
    "FamilyPANet",
    "FamilyPANetBoxHead",
    "FamilyPANetMaskHead",
    "FamilyPANetROIHeads",
    "PANetBranches",
]
