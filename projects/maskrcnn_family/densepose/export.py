"""Surface coordinates in exported files: the four maps of each detection.

Letters: R detections, h, w height and width of the network's input, H, W those that results are wanted in, in pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from maskrcnn_repro.export.pooling import ExportPooler, with_stand_in
from maskrcnn_repro.inference.exported_branches import FURTHER, ExportedBranch, Tensors

from detectron2.structures import Instances
from torch import Tensor, nn

from maskrcnn_family.densepose.head import FamilyDensePoseROIHeads
from maskrcnn_family.densepose.maps import SurfaceMaps


class SurfaceExport(nn.Module):
    """The layers of trained heads, with a pooler for one image."""

    def __init__(self, heads: FamilyDensePoseROIHeads) -> None:
        super().__init__()
        self.heads: Any = heads
        self.pooler = ExportPooler(heads.densepose_pooler)

    def forward(
        self, features: Mapping[str, Tensor], boxes: Tensor, inner: tuple[Any, Any], size: Tensor
    ) -> list[Tensor]:
        """Return the maps of boxes (R, 4); arguments as of :meth:`ExportedBranch.build`."""
        pooled = self.pooler(self.heads.densepose_maps(features), with_stand_in(boxes))
        return self.heads.maps_of_pooled(pooled)[: boxes.shape[0]].tensors()


class DensePoseExport(ExportedBranch):
    """``pred_densepose`` of detections."""

    outputs = ("densepose_coarse", "densepose_fine", "densepose_u", "densepose_v")
    limits = dict.fromkeys(outputs, 1e-3)

    def build(self, model: Any) -> nn.Module | None:
        """Return the branch of a model with ``MODEL.DENSEPOSE_ON``."""
        return SurfaceExport(model.roi_heads) if model.roi_heads.densepose_on else None

    def add(
        self,
        result: dict[str, Any],
        outputs: Tensors,
        facts: Mapping[str, Any],
        threshold: float | None,
    ) -> None:
        """Give the detections their maps."""
        result["instances"].pred_densepose = SurfaceMaps(*(outputs[n] for n in self.outputs))

    def expected(self, instances: Instances) -> Tensors:
        """Return the maps of a model's detections."""
        if not instances.has("pred_densepose"):
            return {}
        return dict(zip(self.outputs, instances.pred_densepose.tensors(), strict=True))


FURTHER[FamilyDensePoseROIHeads] = DensePoseExport()
