"""The paper's two RoI heads (Fig. 4): Detectron2's parts, with poolers of this project's RoI operations.

Both have Detectron2's ``state_dict`` names. Their RoI operations are those of ``MODEL.ROI_OP`` and of each
head's ``ROI_OP``.

Shape legend: P side of a pooled RoI in cells.
"""

from __future__ import annotations

import math
from typing import Any

from maskrcnn_repro.errors import ConfigError, check_choice
from maskrcnn_repro.modeling.box_predictor import NEUTRAL, BoxPredictor
from maskrcnn_repro.pooler_keys import HEADS, operation_of
from maskrcnn_repro.roi_ops import build_pooler

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import (
    ROI_HEADS_REGISTRY,
    ROI_MASK_HEAD_REGISTRY,
    StandardROIHeads,
    build_mask_head,
)
from detectron2.modeling.roi_heads import Res5ROIHeads
from torch import nn


@ROI_HEADS_REGISTRY.register()
class PaperStandardROIHeads(StandardROIHeads):
    """A pooler and a head of its own for each branch (Fig. 4 right): FPN, and C5 of Table 2d."""

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        """Build Detectron2's parts, and what our keys ask for: poolers of our operations, the box predictor.

        Raises:
            ConfigError: there is no such RoI operation.
        """
        parts = super().from_config(_with_pooler_types(cfg), input_shape)
        for head in HEADS:
            pooler = f"{head.split('_')[1].lower()}_pooler"
            if parts.get(pooler) is not None and operation_of(cfg.MODEL, head):
                parts[pooler] = build_pooler(cfg, head, input_shape)
        # Not at its neutral values: a second layer would draw further random numbers.
        if any(cfg.MODEL.ROI_BOX_HEAD[name] != value for name, value in NEUTRAL.items()):
            parts["box_predictor"] = BoxPredictor(cfg, parts["box_head"].output_shape)
        return parts

    @classmethod
    def _init_mask_head(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        """Build the mask branch; a head with a true ``pools_itself`` takes whole maps, and gets no pooler."""
        if not cfg.MODEL.MASK_ON or not _pools_itself(cfg):
            return super()._init_mask_head(cfg, input_shape)
        names = cfg.MODEL.ROI_HEADS.IN_FEATURES
        head = build_mask_head(cfg, {name: input_shape[name] for name in names})
        return {"mask_in_features": names, "mask_pooler": None, "mask_head": head}


@ROI_HEADS_REGISTRY.register()
class PaperRes5ROIHeads(Res5ROIHeads):
    """Box and mask branch on one res5 of pooled features (Fig. 4 left): C4.

    The figure pools 7x7 and its res5 keeps that side: ``RES5_STRIDE`` 1 and ``POOLER_RESOLUTION`` 7.
    Detectron2 pools 14x14 and its res5 halves the side: 2 and 14.
    """

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        """Build Detectron2's parts, with the pooler of ``MODEL.ROI_OP``, and res5 of our keys.

        Raises:
            ConfigError: see :func:`check_res5`.
        """
        check_res5(cfg, cls)
        stride, blocks = cfg.MODEL.ROI_HEADS.RES5_STRIDE, cfg.MODEL.ROI_HEADS.RES5_BLOCKS
        # The mask head is built below, for the side that it will get.
        without_masks = _with_pooler_types(cfg)
        without_masks.MODEL.MASK_ON = False
        parts = super().from_config(without_masks, input_shape)
        if operation_of(cfg.MODEL, "ROI_BOX_HEAD"):
            parts["pooler"] = build_pooler(cfg, "ROI_BOX_HEAD", input_shape)
        # At level mini three blocks cost 2.5 times as much as one, and win 2 box AP (DEVIATIONS.md).
        parts["res5"] = parts["res5"][:blocks]
        _set_stride(parts["res5"], stride)
        if cfg.MODEL.MASK_ON:
            # Detectron2 tells its mask heads the side before res5; an MLP must know the one behind it.
            side = math.ceil(cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION / stride)
            shape = ShapeSpec(channels=parts["res5"][-1].out_channels, height=side, width=side)
            parts["mask_head"] = build_mask_head(cfg, shape)
        return parts


def check_res5(cfg: CfgNode, heads: type) -> None:
    """Raise ConfigError if the keys of a C4 head contradict each other.

    Args:
        cfg: the config.
        heads: class of the RoI heads, ours or Detectron2's; those with another head than res5 pass.
    """
    keys = cfg.MODEL.ROI_HEADS
    check_choice("MODEL.ROI_HEADS.RES5_STRIDE", keys.RES5_STRIDE, (1, 2))
    check_choice("MODEL.ROI_HEADS.RES5_BLOCKS", keys.RES5_BLOCKS, (1, 2, 3))
    if not issubclass(heads, Res5ROIHeads):
        return
    name = heads.__name__
    if cfg.MODEL.KEYPOINT_ON:
        raise ConfigError(
            f"MODEL.KEYPOINT_ON True, but MODEL.ROI_HEADS.NAME {name!r} has no keypoint branch; choose "
            "'PaperStandardROIHeads'."
        )
    if len(keys.IN_FEATURES) != 1:
        raise ConfigError(
            f"MODEL.ROI_HEADS.IN_FEATURES {keys.IN_FEATURES} must be one feature map for {name!r} (C4)."
        )
    if cfg.MODEL.MASK_ON and _pools_itself(cfg):
        raise ConfigError(
            f"MODEL.ROI_MASK_HEAD.NAME {cfg.MODEL.ROI_MASK_HEAD.NAME!r} pools from whole maps, but {name} pools once for "
            "both branches; choose MODEL.ROI_HEADS.NAME 'PaperStandardROIHeads' on a backbone with FPN."
        )
    _check_shared_operation(cfg, name)


def _check_shared_operation(cfg: CfgNode, name: str) -> None:
    box, mask = (operation_of(cfg.MODEL, head) for head in ("ROI_BOX_HEAD", "ROI_MASK_HEAD"))
    if cfg.MODEL.MASK_ON and mask != box:
        raise ConfigError(
            f"The RoI operation of the mask branch, {mask!r}, is not that of the box branch, {box!r}, but "
            f"{name} pools once for both; leave MODEL.ROI_MASK_HEAD.ROI_OP and "
            "MODEL.ROI_BOX_HEAD.ROI_OP empty, or choose MODEL.ROI_HEADS.NAME 'PaperStandardROIHeads'."
        )


def _with_pooler_types(cfg: CfgNode) -> CfgNode:
    """Return a copy from which Detectron2 can build its parts, a pooler that is not kept among them."""
    cfg = cfg.clone()
    cfg.defrost()
    for head in HEADS:
        if operation_of(cfg.MODEL, head):
            # Any type that Detectron2 knows: it refuses the empty one that stands beside an operation of ours.
            cfg.MODEL[head].POOLER_TYPE = "ROIAlign"
    return cfg


def _pools_itself(cfg: CfgNode) -> bool:
    return getattr(ROI_MASK_HEAD_REGISTRY.get(cfg.MODEL.ROI_MASK_HEAD.NAME), "pools_itself", False)


def _set_stride(res5: nn.Sequential, stride: int) -> None:
    """Change the stride of a stage that was built with another one; weights stay as they are."""
    first: Any = res5[0]
    for layer in first.modules():
        # STRIDE_IN_1X1 says which convolution of the block strides; the shortcut strides in any case.
        if isinstance(layer, nn.Conv2d) and layer.stride != (1, 1):
            layer.stride = (stride, stride)
    first.stride = stride
