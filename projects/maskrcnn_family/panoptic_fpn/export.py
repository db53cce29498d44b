"""The semantic branch in exported files, and the panoptic map that their outputs give.

Letters: R detections, K semantic classes, h, w height and width of the network's input, H, W those that results are
wanted in, in pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from typing import Any

from maskrcnn_repro.errors import ExportError, listing
from maskrcnn_repro.inference.exported_branches import FURTHER, ExportedBranch, Tensors

import numpy as np
import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from torch import Tensor, nn

from maskrcnn_family.panoptic_fpn.fusion import Fusion, Panoptic
from maskrcnn_family.panoptic_fpn.model import FamilyPanopticFPN


class SemanticLabels(nn.Module):
    """A trained semantic head, its padding cut off, its logits resized, and the label of each pixel."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(
        self, features: Mapping[str, Tensor], boxes: Tensor, inner: tuple[Any, Any], size: Tensor
    ) -> tuple[Tensor]:
        """Return labels (H, W) int64; arguments as of :meth:`ExportedBranch.build`."""
        logits, _ = self.head(features)
        # A slice would let torch.export fix by an example whether there is any padding.
        rows, columns = (torch.arange(side) for side in inner)
        inside = logits.index_select(2, rows).index_select(3, columns)
        wanted: Any = (size[0], size[1])
        resized = F.interpolate(inside, wanted, mode="bilinear", align_corners=False)
        return (resized[0].argmax(dim=0),)


class PanopticExport(ExportedBranch):
    """Labels of pixels in the file; whoever runs it fuses them with its detections."""

    outputs = ("semantic",)
    of_image = True
    limits = {"semantic": 1e-3, "panoptic": 0.05}
    """``semantic``: by how much the model's probability of its own label is above that of the file's. ``panoptic``: part of the
    pixels with segments of other classes; where a stretch of stuff is as large as the limit, rounding decides on all of it."""

    def build(self, model: FamilyPanopticFPN) -> nn.Module:
        """Return the semantic branch."""
        return SemanticLabels(model.sem_seg_head)

    def facts(self, cfg: CfgNode) -> dict[str, Any]:
        """Return ``fusion``: the numbers of the heuristic."""
        return {"fusion": asdict(Fusion.of(cfg))}

    def add(
        self,
        result: dict[str, Any],
        outputs: Tensors,
        facts: Mapping[str, Any],
        threshold: float | None,
    ) -> None:
        """Add ``panoptic_seg``."""
        fusion = _fusion_of(facts)
        if threshold is not None:
            fusion = replace(fusion, score=threshold)
        result["panoptic_seg"] = fusion(result["instances"], outputs["semantic"])

    def differences(
        self,
        expected: Mapping[str, Any],
        given: Mapping[str, Any],
        outputs: Mapping[str, np.ndarray],
    ) -> dict[str, float]:
        """Return those of :attr:`limits`."""
        probabilities = expected["sem_seg"].softmax(dim=0)
        own = probabilities.gather(0, torch.from_numpy(outputs["semantic"])[None])
        apart = classes_of(expected["panoptic_seg"]) != classes_of(given["panoptic_seg"])
        return {
            "semantic": float((probabilities.amax(dim=0) - own).max()),
            "panoptic": float(apart.float().mean()),
        }


def _fusion_of(facts: Mapping[str, Any]) -> Fusion:
    numbers = facts.get("fusion")
    names = {field.name for field in fields(Fusion)}
    if not isinstance(numbers, dict) or numbers.keys() != names:
        raise ExportError(
            f"The metadata of the file are damaged: 'export' has no 'fusion' with {listing(sorted(names))}; export the "
            "model anew."
        )
    wrong = next((name for name, x in numbers.items() if type(x) not in (int, float)), None)
    if wrong:
        raise ExportError(
            f"The metadata of the file are damaged: {wrong!r} of 'fusion' is {numbers[wrong]!r}, which is no number; "
            "export the model anew."
        )
    return Fusion(**numbers)


def classes_of(panoptic: Panoptic) -> Tensor:
    """Return the class of each pixel's segment, (H, W) int64: 0 for none, above it of things, below it of stuff."""
    ids, segments = panoptic
    classes = torch.zeros(len(segments) + 1, dtype=torch.int64)
    for segment in segments:
        number = segment["category_id"] + 1
        classes[segment["id"]] = number if segment["isthing"] else -number
    return classes[ids.long()]


FURTHER[FamilyPanopticFPN] = PanopticExport()
