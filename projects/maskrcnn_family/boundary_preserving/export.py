"""The boundary-preserving head in the form that exporters record."""

from __future__ import annotations

from typing import Any

from maskrcnn_repro.export.graph import MASK_HEADS
from maskrcnn_repro.export.pooling import ExportPooler, with_stand_in
from maskrcnn_repro.modeling.mask_head.losses import channel_of_class

from torch import Tensor, nn

from maskrcnn_family.boundary_preserving.head import FamilyBoundaryPreservingMaskHead, Maps


class BoundaryExport(nn.Module):
    """The layers of a trained head, with poolers for one image."""

    def __init__(self, head: FamilyBoundaryPreservingMaskHead) -> None:
        super().__init__()
        self.head: Any = head
        self.mask_pooler = ExportPooler(head.mask_pooler)
        self.boundary_pooler = ExportPooler(head.boundary_pooler)

    def mask_logits(self, features: Maps, boxes: list[Tensor], classes: Tensor) -> Tensor:
        """Return the logits (R, m, m) of the masks of one image: boxes ((R, 4),), classes (R,)."""
        (image,) = boxes
        rois, head = with_stand_in(image), self.head
        masks, _ = head.layers(
            self.mask_pooler([features[name] for name in head.in_features], rois),
            self.boundary_pooler([features[name] for name in head.boundary_in_features], rois),
        )
        return channel_of_class(masks[: image.shape[0]], classes)


MASK_HEADS[FamilyBoundaryPreservingMaskHead] = BoundaryExport
