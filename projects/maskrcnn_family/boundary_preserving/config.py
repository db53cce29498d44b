"""The boundary branch's config keys, with the names and values of its authors' code."""

from __future__ import annotations

from detectron2.config import CfgNode


def add_config(cfg: CfgNode) -> None:
    """Add them; called before any YAML is read."""
    boundary = cfg.MODEL.BOUNDARY_MASK_HEAD = CfgNode()
    # Maps that the boundary branch pools from, and the side of an RoI there, in cells: twice the mask branch's.
    boundary.IN_FEATURES = ("p2",)
    boundary.POOLER_RESOLUTION = 28
    # 3x3 convolutions behind the fusion with the mask branch.
    boundary.NUM_CONV = 2
