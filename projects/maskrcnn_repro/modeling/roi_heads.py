"""RoI heads: Detectron2's, with parts of ours in the place of some of theirs."""

from __future__ import annotations

from typing import Any

from maskrcnn_repro.roi_ops import BagRoIAlign

from detectron2.config import CfgNode
from detectron2.layers import ROIAlign, ShapeSpec
from detectron2.modeling import ROI_HEADS_REGISTRY, StandardROIHeads
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.roi_heads import Res5ROIHeads
from torch import nn


@ROI_HEADS_REGISTRY.register()
class FastStandardROIHeads(StandardROIHeads):
    """``StandardROIHeads`` whose RoIAlign is :class:`BagRoIAlign`: same numbers, faster on a CPU."""

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        """Replace the RoIAlign of every pooler that the parent builds."""
        parts: dict[str, Any] = super().from_config(cfg, input_shape)
        for part in parts.values():
            if isinstance(part, ROIPooler):
                part.level_poolers = nn.ModuleList(map(_faster, part.level_poolers))
        return parts


def _faster(pooler: nn.Module) -> nn.Module:
    if not isinstance(pooler, ROIAlign):
        return pooler
    return BagRoIAlign(
        pooler.output_size, pooler.spatial_scale, pooler.sampling_ratio, pooler.aligned
    )


@ROI_HEADS_REGISTRY.register()
class PaperStandardROIHeads(StandardROIHeads):
    """A pooler and a head of its own for each branch (Fig. 4 right): FPN, and C5 of Table 2d."""


@ROI_HEADS_REGISTRY.register()
class PaperRes5ROIHeads(Res5ROIHeads):
    """Box and mask branch on res5 of pooled features (Fig. 4 left): C4."""
