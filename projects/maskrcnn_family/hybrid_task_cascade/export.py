"""The Hybrid Task Cascade in the form that exporters record."""

from __future__ import annotations

from typing import Any

from maskrcnn_repro.export.graph import BRANCHES
from maskrcnn_repro.export.pooling import ExportPooler
from maskrcnn_repro.export.proposals import Detected

from torch import Tensor

from maskrcnn_family.cascade.export import CascadeBranches
from maskrcnn_family.hybrid_task_cascade.head import SEMANTIC, FamilyHybridTaskROIHeads, to_side


class HybridBranches(CascadeBranches):
    """The branches of a cascade, which add the features of the semantic branch to RoIs of boxes and masks."""

    def add_box_branch(self, heads: FamilyHybridTaskROIHeads, threshold: float) -> None:
        """Take the box heads, their output layers and the semantic branch."""
        super().add_box_branch(heads, threshold)
        self.semantic_head, pooler = heads.semantic_head, heads.semantic_pooler
        self.semantic_pooler = None if pooler is None else ExportPooler(pooler)

    def detect(
        self, features: dict[str, Tensor], proposals: Tensor, size: tuple[Any, Any]
    ) -> Detected:
        """Return boxes (R, 4), scores (R,) and classes (R,) of proposals in an image of ``size`` (height, width)."""
        if self.semantic_head is not None:
            # Kept among the features, of which masks are pooled after this.
            features[SEMANTIC] = self.semantic_head(features)[1]
        return super().detect(features, proposals, size)

    def pooled(self, pooler: Any, features: dict[str, Tensor], boxes: Tensor) -> Tensor:
        """Pool boxes (R, 4) from the maps of these heads."""
        rois = super().pooled(pooler, features, boxes)
        if self.semantic_pooler is None or pooler is self.keypoint_pooler:
            return rois
        return rois + to_side(self.semantic_pooler([features[SEMANTIC]], boxes), rois)


BRANCHES[FamilyHybridTaskROIHeads] = HybridBranches
