"""The config keys of Mask Scoring R-CNN."""

from __future__ import annotations

from detectron2.config import CfgNode


def add_config(cfg: CfgNode) -> None:
    """Add them; called before any YAML is read."""
    # Factor of the MaskIoU loss; the authors' key.
    cfg.MODEL.MASKIOU_LOSS_WEIGHT = 1.0
    head = cfg.MODEL.ROI_MASKIOU_HEAD = CfgNode()
    # Convolutions, the last of stride 2, and channels of each.
    head.NUM_CONV = 4
    head.CONV_DIM = 256
    # Hidden linear layers, and features of each; the output layer comes on top.
    head.NUM_FC = 2
    head.FC_DIM = 1024
