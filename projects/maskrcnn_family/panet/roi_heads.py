"""RoI heads that pool each RoI from all levels of the pyramid (PANet, adaptive feature pooling, Sec. 3.2).

Letters: N images, R RoIs of all images together, L levels, C channels, P side of a pooled RoI in cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from maskrcnn_repro.errors import ConfigError
from maskrcnn_repro.modeling.roi_heads import PaperStandardROIHeads
from maskrcnn_repro.roi_ops.pooler import rois_of

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import ROI_HEADS_REGISTRY
from detectron2.structures import Boxes
from torch import Tensor, nn


class EveryLevelPooler(nn.Module):
    """The RoI operation of a pooler, on each level whatever the size of the RoI.

    Args:
        pooler: of L levels, this project's or Detectron2's.
    """

    def __init__(self, pooler: Any) -> None:
        super().__init__()
        self.level_poolers, self.output_size = pooler.level_poolers, pooler.output_size
        # Read by exporters, and of no use otherwise.
        self.min_level = pooler.min_level
        self.canonical_box_size = pooler.canonical_box_size
        self.canonical_level = pooler.canonical_level

    def forward(self, features: Sequence[Tensor], boxes: Sequence[Boxes]) -> Tensor:
        """Pool all boxes of all images from maps (N, C, H, W): (R, L * C, P, P), level after level."""
        rois = rois_of(boxes, features[0])
        pairs = zip(self.level_poolers, features, strict=True)
        return torch.cat([operation(level, rois) for operation, level in pairs], dim=1)


@ROI_HEADS_REGISTRY.register()
class FamilyPANetROIHeads(PaperStandardROIHeads):
    """The paper's heads; a box or mask head with a true ``takes_every_level`` gets each RoI from all levels."""

    pools_every_level = True

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        """Build the parent's parts, with poolers of all levels.

        Raises:
            ConfigError: there is one map alone.
        """
        names = tuple(cfg.MODEL.ROI_HEADS.IN_FEATURES)
        if len(names) < 2:
            raise ConfigError(
                f"MODEL.ROI_HEADS.IN_FEATURES {names} is one map, but FamilyPANetROIHeads pools from the levels of an FPN; "
                "choose MODEL.BACKBONE.NAME 'build_family_panet_fpn_backbone' and its levels."
            )
        parts = super().from_config(cfg, input_shape)
        for branch in ("box", "mask"):
            if getattr(parts.get(f"{branch}_head"), "takes_every_level", False):
                parts[f"{branch}_pooler"] = EveryLevelPooler(parts[f"{branch}_pooler"])
        return parts
