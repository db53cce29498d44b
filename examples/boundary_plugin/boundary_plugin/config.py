"""The plug-in's config keys."""

from detectron2.config import CfgNode


def add_config(cfg: CfgNode) -> None:
    """Add them; called before any YAML is read."""
    # Of DilatedMaskHead: distance of neighbouring taps of a 3x3 convolution, in cells of the RoI.
    cfg.MODEL.ROI_MASK_HEAD.DILATION = 2
    # Of the loss "boundary": how many times a cell on the outline counts.
    cfg.MODEL.ROI_MASK_HEAD.OUTLINE_WEIGHT = 3.0
