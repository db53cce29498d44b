"""PointRend's config keys, with the names and values of its authors' project."""

from __future__ import annotations

from detectron2.config import CfgNode


def add_config(cfg: CfgNode) -> None:
    """Add them; called before any YAML is read."""
    mask = cfg.MODEL.ROI_MASK_HEAD
    # Maps that the coarse head samples.
    mask.IN_FEATURES = ("p2",)
    # Hidden layers of the coarse head, and features of each.
    mask.NUM_FC = 2
    mask.FC_DIM = 1024
    # Side of a coarse mask, in cells.
    mask.OUTPUT_SIDE_RESOLUTION = 7

    point = cfg.MODEL.POINT_HEAD = CfgNode()
    # Maps that the point head samples.
    point.IN_FEATURES = ("p2",)
    # Points of an RoI in training; k and beta of Sec. 3.1: so many times as many are drawn, and this fraction is
    # taken where the coarse mask is uncertain.
    point.TRAIN_NUM_POINTS = 196
    point.OVERSAMPLE_RATIO = 3
    point.IMPORTANCE_SAMPLE_RATIO = 0.75
    # Doublings of a coarse mask, and cells that each predicts anew.
    point.SUBDIVISION_STEPS = 5
    point.SUBDIVISION_NUM_POINTS = 784
    # Hidden layers of the point head, and features of each.
    point.NUM_FC = 3
    point.FC_DIM = 256
    # Each of them takes the coarse logits, not the first alone.
    point.COARSE_PRED_EACH_LAYER = True
