"""Whose weights they are: the paper's C4 head and Detectron2's have the same tensors for other features.

The paper's res5 reads 7x7 RoI features at stride 1 (Fig. 4 left), Detectron2's and Detectron's 14x14 at
stride 2. Each takes the other's weights without complaint and predicts with a shift.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from maskrcnn_repro.checkpoint.checkpointer import MARK
from maskrcnn_repro.checkpoint.weight_file import local_file, read_outline
from maskrcnn_repro.errors import CheckpointError

from detectron2.config import CfgNode


def refuse_other_head(cfg: CfgNode, path: str) -> None:
    """Refuse to evaluate foreign weights in the paper's C4 head.

    Raises:
        CheckpointError: they were trained by Detectron2 or Detectron.
    """
    heads = cfg.MODEL.ROI_HEADS
    if cfg.MODEL.META_ARCHITECTURE == "ProposalNetwork":  # it has no head
        return
    if (heads.NAME, heads.RES5_STRIDE) != ("PaperRes5ROIHeads", 1):
        return
    file = local_file(path)
    owner = foreign_owner(read_outline(file), is_pickle=file.suffix == ".pkl")
    if owner:
        raise CheckpointError(
            f"Weights {path!r} were trained by {owner}: their C4 head reads 14x14 RoI features at stride "
            "2, the head of this config 7x7 at stride 1, so the numbers would be wrong. Evaluate them "
            "under configs/detectron2/r50_c4.yaml or r101_c4.yaml, beside ours with "
            f"maskrcnn table 2a --level paper --eval-only --weights ROW={path}."
        )


def foreign_owner(content: Mapping[str, Any], *, is_pickle: bool) -> str:
    """Return who trained a detector, if not this project; empty if it did, or nothing tells.

    Args:
        content: of the file.
        is_pickle: a ``.pkl``, which this project does not write.
    """
    if is_pickle:
        return str(content.get("__author__", "Detectron"))
    if MARK.keys() <= content.keys():
        return ""
    trainer = content.get("trainer")
    # Detectron2 stored optimiser and scheduler before it had trainers with a state.
    if trainer is None:
        return "Detectron2's own trainer" if {"optimizer", "scheduler"} <= content.keys() else ""
    # Before checkpoints had the mark: the one hook that this project adds to every training.
    return "" if "Clock" in trainer.get("hooks", {}) else "Detectron2's own trainer"
