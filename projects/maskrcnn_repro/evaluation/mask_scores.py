"""Scores that masks have apart from their boxes (Mask Scoring R-CNN, Huang et al. 2019), in COCO results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode
from detectron2.modeling import ROI_MASK_HEAD_REGISTRY

FIELD = "mask_score"
"""Key of an entry of results beside COCO's ``score``, which is that of the box."""


def scored_for(task: str, entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return entries of COCO results with the ``score`` that ranks them in a task.

    Args:
        task: of ``segm`` and ``boundary``, in which a ``mask_score`` counts, and others.
        entries: with it or without.
    """
    if task not in ("segm", "boundary"):
        return list(entries)
    return [{**entry, "score": entry[FIELD]} if FIELD in entry else entry for entry in entries]


def has_mask_scores(cfg: CfgNode) -> bool:
    """Tell whether the mask head of a config has a true ``scores_masks``: its detections have ``mask_scores``."""
    head = ROI_MASK_HEAD_REGISTRY.get(cfg.MODEL.ROI_MASK_HEAD.NAME)
    return bool(getattr(head, "scores_masks", False))
