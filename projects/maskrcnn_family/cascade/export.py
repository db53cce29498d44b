"""The cascade in the form that exporters record."""

from __future__ import annotations

from typing import Any

from maskrcnn_repro.export.graph import BRANCHES, FPNBranches
from maskrcnn_repro.export.pooling import with_stand_in
from maskrcnn_repro.export.proposals import BoxOutputs, Detected, ExportDetections, clip

import torch
from torch import Tensor, nn

from maskrcnn_family.cascade.head import FamilyCascadeROIHeads


class CascadeBranches(FPNBranches):
    """The branches on FPN, with the stages of a cascade for boxes."""

    def add_box_branch(self, heads: FamilyCascadeROIHeads, threshold: float) -> None:
        """Take the box heads and their output layers."""
        *first, last = heads.box_predictor
        self.box_heads, self.first_outputs = heads.box_head, nn.ModuleList(map(BoxOutputs, first))
        self.detections = ExportDetections(last, threshold)

    def detect(
        self, features: dict[str, Tensor], proposals: Tensor, size: tuple[Any, Any]
    ) -> Detected:
        """Return boxes (R, 4), scores (R,) and classes (R,) of proposals in an image of ``size`` (height, width)."""
        *first_heads, last_head = self.box_heads
        scores = []
        stages: Any = zip(first_heads, self.first_outputs, strict=True)
        for head, outputs in stages:
            probabilities, deltas = outputs(
                self._features(head, features, proposals), proposals.shape[0]
            )
            scores.append(probabilities)
            proposals = clip(outputs.transform(deltas, proposals), size)
        pooled = self._features(last_head, features, proposals)
        probabilities, deltas = self.detections(pooled, proposals.shape[0])
        scores.append(probabilities)
        return self.detections.choose(torch.stack(scores).mean(dim=0), deltas, proposals, size)

    def _features(self, head: nn.Module, features: dict[str, Tensor], boxes: Tensor) -> Tensor:
        return head(self.pooled(self.box_pooler, features, with_stand_in(boxes)))


BRANCHES[FamilyCascadeROIHeads] = CascadeBranches
