"""PANet's config keys; all others are those of an FPN and of its heads."""

from __future__ import annotations

from detectron2.config import CfgNode


def add_config(cfg: CfgNode) -> None:
    """Add them; called before any YAML is read."""
    panet = cfg.MODEL.PANET = CfgNode()
    # Name in BACKBONE_REGISTRY of the backbone below the pyramid.
    panet.BOTTOM_UP = "build_resnet_backbone"
