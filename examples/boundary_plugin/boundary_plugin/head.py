"""A mask head that sees more of the object: the paper's head with dilated convolutions."""

from __future__ import annotations

from typing import Any

from maskrcnn_repro.modeling.mask_head import FCNMaskHead

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import ROI_MASK_HEAD_REGISTRY
from torch import nn


@ROI_MASK_HEAD_REGISTRY.register()
class DilatedMaskHead(FCNMaskHead):
    """``FCNMaskHead`` with spread taps; it has the same weights, so checkpoints fit both.

    Args:
        input_shape: of a pooled RoI.
        dilation: distance of neighbouring taps of its 3x3 convolutions, in cells of the RoI.
        **parts: the arguments of ``FCNMaskHead``.
    """

    @configurable
    def __init__(self, input_shape: ShapeSpec, *, dilation: int, **parts: Any) -> None:
        super().__init__(input_shape, **parts)
        for layer in self.children():
            if isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3):
                layer.dilation = layer.padding = (dilation, dilation)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        """Read ``MODEL.ROI_MASK_HEAD.DILATION`` beside what the parent reads."""
        parts = super().from_config(cfg, input_shape)
        return {**parts, "dilation": cfg.MODEL.ROI_MASK_HEAD.DILATION}
