"""One panoptic map of detections and semantic labels (Panoptic Segmentation, Sec. 7; Panoptic FPN, Sec. 3.2).

Letters: R detections, H, W height and width of the image in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.structures import Instances
from torch import Tensor

Panoptic = tuple[Tensor, list[dict[str, Any]]]
"""Segment ids (H, W) int32, 0 where nothing is said, and what each segment is: ``id``, ``isthing``, ``category_id`` (a
contiguous class, of things or of stuff), of things also ``score`` and ``instance_id``, of stuff ``area``."""


@dataclass(frozen=True)
class Fusion:
    """The heuristic: things by falling score, each keeps what is free; then stuff where nothing is yet."""

    overlap: float
    """A thing of which a larger fraction is taken already is left out."""
    stuff_area: float
    """Stuff of fewer pixels is left out."""
    score: float
    """Things of a lower score are left out."""

    @classmethod
    def of(cls, cfg: CfgNode) -> Fusion:
        """Return that of ``MODEL.PANOPTIC_FPN.COMBINE``."""
        keys = cfg.MODEL.PANOPTIC_FPN.COMBINE
        return cls(keys.OVERLAP_THRESH, keys.STUFF_AREA_LIMIT, keys.INSTANCES_CONFIDENCE_THRESH)

    def __call__(self, instances: Instances, labels: Tensor) -> Panoptic:
        """Return the panoptic map of an image.

        Args:
            instances: ``scores``, ``pred_classes`` and ``pred_masks``, R bitmaps (H, W) or what gives one by index.
            labels: (H, W) int64, the semantic class of each pixel; 0 is all things.
        """
        ids = torch.zeros_like(labels, dtype=torch.int32)
        things = self._add_things(ids, instances)
        return ids, things + self._add_stuff(ids, labels, first=len(things) + 1)

    def _add_things(self, ids: Tensor, instances: Instances) -> list[dict[str, Any]]:
        segments: list[dict[str, Any]] = []
        scores, classes = instances.scores.tolist(), instances.pred_classes.tolist()
        for place in instances.scores.argsort(descending=True).tolist():
            if scores[place] < self.score:
                break
            mask = torch.as_tensor(instances.pred_masks[place], dtype=torch.bool).to(ids.device)
            free = mask & (ids == 0)
            area, kept = int(mask.sum()), int(free.sum())
            if not kept or (area - kept) / area > self.overlap:
                continue
            ids[free] = len(segments) + 1
            segments.append(
                {
                    "id": len(segments) + 1,
                    "isthing": True,
                    "score": scores[place],
                    "category_id": classes[place],
                    "instance_id": place,
                }
            )
        return segments

    def _add_stuff(self, ids: Tensor, labels: Tensor, first: int) -> list[dict[str, Any]]:
        segments: list[dict[str, Any]] = []
        for label in labels.unique().tolist():
            free = (labels == label) & (ids == 0)
            area = int(free.sum())
            if label == 0 or area < max(self.stuff_area, 1):
                continue
            number = first + len(segments)
            ids[free] = number
            segments.append({"id": number, "isthing": False, "category_id": label, "area": area})
        return segments
