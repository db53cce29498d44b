"""Config keys of a Hybrid Task Cascade beside those of Cascade R-CNN and of ``MODEL.SEM_SEG_HEAD``."""

from __future__ import annotations

from detectron2.config import CfgNode


def add_config(cfg: CfgNode) -> None:
    """Add them; called before any YAML is read."""
    hybrid = cfg.MODEL.HYBRID_TASK_CASCADE = CfgNode()
    # Factor of the losses of boxes and masks, by stage: alpha of eq. 6.
    hybrid.LOSS_WEIGHTS = (1.0, 0.5, 0.25)
    # 3x3 convolutions of the semantic branch.
    hybrid.SEMANTIC_NUM_CONV = 4
