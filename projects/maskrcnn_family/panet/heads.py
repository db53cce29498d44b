"""Heads that see an RoI on all levels of the pyramid (PANet, Sec. 3.2, 3.3).

The outputs of their first layers on the levels are joined by their maximum.

Letters: R RoIs of the batch, L levels, C channels, P side of a pooled RoI and m = 2 P that of a mask, in cells; K classes.
"""

from __future__ import annotations

import copy
import functools
from typing import Any

from maskrcnn_repro.errors import ConfigError
from maskrcnn_repro.modeling.conv import conv_norm_relu
from maskrcnn_repro.modeling.mask_head import FCNMaskHead
from maskrcnn_repro.modeling.mask_head.ignored import refuse_ignored
from maskrcnn_repro.modeling.norms import check_groups

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import ROI_BOX_HEAD_REGISTRY, ROI_HEADS_REGISTRY, ROI_MASK_HEAD_REGISTRY
from detectron2.modeling.roi_heads import FastRCNNConvFCHead
from fvcore.nn import weight_init
from torch import Tensor, nn


def fuse(layers: nn.ModuleList, rois: Tensor) -> Tensor:
    """Return the element-wise maximum of what each level's own layer makes of an RoI there.

    Args:
        layers: L of them, of (R, C, P, P).
        rois: (R, L * C, P, P), level after level.
    """
    parts = zip(layers, rois.chunk(len(layers), dim=1), strict=True)
    return functools.reduce(torch.maximum, [layer(part) for layer, part in parts])


def levels_of(cfg: CfgNode, head: str) -> int:
    """Return L, the number of ``MODEL.ROI_HEADS.IN_FEATURES``.

    Raises:
        ConfigError: ``MODEL.ROI_HEADS.NAME`` gives ``head`` each RoI from one level alone.
    """
    keys = cfg.MODEL.ROI_HEADS
    if not getattr(ROI_HEADS_REGISTRY.get(keys.NAME), "pools_every_level", False):
        raise ConfigError(
            f"MODEL.ROI_HEADS.NAME {keys.NAME!r} pools an RoI from one level, but {head} takes it from all; choose "
            "'FamilyPANetROIHeads'."
        )
    return len(keys.IN_FEATURES)


@ROI_BOX_HEAD_REGISTRY.register()
class FamilyPANetBoxHead(nn.Module):
    """``FastRCNNConvFCHead`` with a first layer for each level, and the maximum behind it (Sec. 3.2).

    Args:
        input_shape: of an RoI pooled on one level.
        levels: L.
        conv_dims: channels of each convolution.
        fc_dims: features of each fully connected layer.
        conv_norm: name of a Detectron2 norm after each convolution; empty for none.
    """

    takes_every_level = True

    @configurable
    def __init__(
        self,
        input_shape: ShapeSpec,
        *,
        levels: int,
        conv_dims: list[int],
        fc_dims: list[int],
        conv_norm: str = "",
    ) -> None:
        super().__init__()
        first = (conv_dims[:1], fc_dims[: not conv_dims])
        later = (conv_dims[1:], fc_dims[not conv_dims :])
        build = functools.partial(FastRCNNConvFCHead, conv_norm=conv_norm)
        self.first = nn.ModuleList(
            build(input_shape, conv_dims=first[0], fc_dims=first[1]) for _ in range(levels)
        )
        shape: Any = self.first[0].output_shape
        self.output_shape, self.later = shape, nn.Sequential()
        if any(later):
            cells = ShapeSpec(shape.channels, shape.height or 1, shape.width or 1)
            head = build(cells, conv_dims=later[0], fc_dims=later[1])
            self.output_shape, self.later = head.output_shape, head

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        """Read ``MODEL.ROI_BOX_HEAD`` and the number of ``MODEL.ROI_HEADS.IN_FEATURES``.

        Raises:
            ConfigError: see :func:`levels_of`.
        """
        levels = levels_of(cfg, cls.__name__)
        return {**FastRCNNConvFCHead.from_config(cfg, input_shape), "levels": levels}

    def forward(self, x: Tensor) -> Tensor:
        """Map RoIs (R, L * C, P, P) to features of them."""
        return self.later(fuse(self.first, x))


@ROI_MASK_HEAD_REGISTRY.register()
class FamilyPANetMaskHead(FCNMaskHead):
    """``FCNMaskHead`` with a first layer for each level, and with fully-connected fusion (Sec. 3.3).

    Behind the last convolution but one a short path of two convolutions, the second of half the channels, and one fully
    connected layer predicts a mask for all classes, whose logits are added to each class's.

    Args:
        input_shape: of an RoI pooled on one level.
        levels: L.
        **parts: the arguments of ``FCNMaskHead``, with at least 2 convolutions.
    """

    takes_every_level = True
    mask_fcn1: nn.ModuleList
    fc_fcn1: nn.Module

    @configurable
    def __init__(self, input_shape: ShapeSpec, *, levels: int, **parts: Any) -> None:
        super().__init__(input_shape, **parts)
        side, width, norm = input_shape.height or 0, parts["conv_dim"], parts["norm"]
        first, second, *_ = self._convs()
        self.mask_fcn1 = nn.ModuleList(copy.deepcopy(first) for _ in range(levels))
        self.fc_fcn1 = copy.deepcopy(second)
        self.fc_fcn2 = conv_norm_relu(width, width // 2, norm=norm)
        for layer in (*self.mask_fcn1, self.fc_fcn1, self.fc_fcn2):
            weight_init.c2_msra_fill(layer)
        self.fc = nn.Linear(width // 2 * side**2, (2 * side) ** 2)
        nn.init.normal_(self.fc.weight, std=0.01)
        nn.init.zeros_(self.fc.bias)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        """Read ``MODEL.ROI_MASK_HEAD`` and the number of ``MODEL.ROI_HEADS.IN_FEATURES``.

        Raises:
            ConfigError: there are too few convolutions for two paths, classes compete for pixels, or see
                :func:`levels_of`.
        """
        mask = cfg.MODEL.ROI_MASK_HEAD
        if mask.NUM_CONV < 2:
            raise ConfigError(
                f"MODEL.ROI_MASK_HEAD.NUM_CONV {mask.NUM_CONV} is too few for FamilyPANetMaskHead, whose two paths part "
                "before the last of them; use 2 or more."
            )
        if mask.CONV_DIM < 2:
            raise ConfigError(
                f"MODEL.ROI_MASK_HEAD.CONV_DIM {mask.CONV_DIM} is too few for FamilyPANetMaskHead, whose short path halves "
                "it; use 2 or more."
            )
        check_groups("MODEL.ROI_MASK_HEAD.CONV_DIM, halved,", mask.CONV_DIM // 2, mask.NORM)
        refuse_ignored(cfg, "FamilyPANetMaskHead", {"LOSS": "sigmoid"})
        levels = levels_of(cfg, cls.__name__)
        return {**super().from_config(cfg, input_shape), "levels": levels}

    def layers(self, x: Tensor) -> Tensor:
        """Map RoIs (R, L * C, P, P) to logits (R, K, m, m)."""
        _, *middle, last = self._convs()
        x = fuse(self.mask_fcn1, x)
        for conv in middle:
            x = conv(x)
        classes = self.predictor(self.deconv(last(x)).relu())
        shared = self.fc(self.fc_fcn2(self.fc_fcn1(x)).flatten(1))
        return classes + shared.unflatten(1, (1, *classes.shape[2:]))
