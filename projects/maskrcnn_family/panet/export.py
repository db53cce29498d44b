"""PANet's RoI heads in the form that exporters record."""

from __future__ import annotations

from typing import Any

from maskrcnn_repro.export.graph import BRANCHES, FPNBranches

import torch
from torch import Tensor

from maskrcnn_family.panet.roi_heads import EveryLevelPooler, FamilyPANetROIHeads


class PANetBranches(FPNBranches):
    """The branches on FPN, with RoIs from all levels for the heads that take them."""

    def __init__(self, heads: Any, threshold: float) -> None:
        super().__init__(heads, threshold)
        mask = heads.mask_pooler if heads.mask_on else None
        pairs = ((heads.box_pooler, self.box_pooler), (mask, self.mask_pooler))
        self.of_every_level = [
            pooler for trained, pooler in pairs if isinstance(trained, EveryLevelPooler)
        ]

    def pooled(self, pooler: Any, features: dict[str, Tensor], boxes: Tensor) -> Tensor:
        """Pool boxes (R, 4) from the maps of these heads."""
        if pooler not in self.of_every_level:
            return super().pooled(pooler, features, boxes)
        maps = [features[name] for name in self.in_features]
        return torch.cat(pooler.every_level(maps, boxes), dim=1)


BRANCHES[FamilyPANetROIHeads] = PANetBranches
