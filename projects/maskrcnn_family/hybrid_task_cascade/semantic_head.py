"""The semantic branch on the pyramid: classes of pixels, and features for RoIs (Hybrid Task Cascade, spatial contexts).

Letters: N images, C channels, D channels of the branch, K classes, H, W cells of a map.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from maskrcnn_repro.errors import ConfigError, DataError
from maskrcnn_repro.modeling.conv import conv_norm_relu
from maskrcnn_repro.modeling.norms import check_groups

import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.layers import Conv2d, ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from fvcore.nn import weight_init
from torch import Tensor, nn


@SEM_SEG_HEADS_REGISTRY.register()
class FamilyFusedSemanticHead(nn.Module):
    """All levels brought to the size of one and added, then 3x3 convolutions.

    Parameters have the names of the reference code.

    Args:
        in_features: names of the levels, finest first.
        channels: C, of each level.
        fused: number of the level that gives the size.
        num_conv: 3x3 convolutions.
        conv_dim: D.
        norm: name of a Detectron2 norm after each convolution; empty for none.
        classes: K.
        ignore_value: label of pixels that have none.
        loss_weight: beta of the paper's loss.
    """

    @configurable
    def __init__(
        self,
        *,
        in_features: Sequence[str],
        channels: int,
        fused: int,
        num_conv: int,
        conv_dim: int,
        norm: str,
        classes: int,
        ignore_value: int,
        loss_weight: float,
    ) -> None:
        super().__init__()
        self.in_features, self.fused = list(in_features), fused
        self.ignore_value, self.loss_weight = ignore_value, loss_weight
        self.lateral_convs = nn.ModuleList(
            _convolution(channels, channels, 1, norm) for _ in in_features
        )
        widths = [channels, *[conv_dim] * num_conv]
        self.convs = nn.ModuleList(
            _convolution(inputs, conv_dim, 3, norm) for inputs in widths[:-1]
        )
        self.conv_embedding = _convolution(widths[-1], channels, 1, norm)
        self.conv_logits = Conv2d(widths[-1], classes, kernel_size=1)
        weight_init.c2_msra_fill(self.conv_logits)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        """Read ``MODEL.SEM_SEG_HEAD`` and ``MODEL.HYBRID_TASK_CASCADE.SEMANTIC_NUM_CONV``.

        Raises:
            ConfigError: a level is missing, or none has the stride that the branch shall have.
        """
        head = cfg.MODEL.SEM_SEG_HEAD
        fused, channels = check_levels(cfg, input_shape)
        return {
            "in_features": head.IN_FEATURES,
            "channels": channels,
            "fused": fused,
            "num_conv": cfg.MODEL.HYBRID_TASK_CASCADE.SEMANTIC_NUM_CONV,
            "conv_dim": head.CONVS_DIM,
            "norm": head.NORM,
            "classes": head.NUM_CLASSES,
            "ignore_value": head.IGNORE_VALUE,
            "loss_weight": head.LOSS_WEIGHT,
        }

    def forward(self, features: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return logits (N, K, H, W) and features for RoIs (N, C, H, W), at the size of one level.

        Args:
            features: maps (N, C, ...) by name.
        """
        maps = [features[name] for name in self.in_features]
        size = maps[self.fused].shape[2:]
        x = self.lateral_convs[self.fused](maps[self.fused])
        for number, (level, lateral) in enumerate(zip(maps, self.lateral_convs, strict=True)):
            if number != self.fused:
                resized = F.interpolate(level, size=size, mode="bilinear", align_corners=True)
                x = x + lateral(resized)
        for conv in self.convs:
            x = conv(x)
        return self.conv_logits(x), self.conv_embedding(x)

    def losses(self, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return ``{"loss_sem_seg": scalar}``: cross entropy, the mean of the labelled cells.

        Args:
            logits: (N, K, H, W).
            labels: of pixels of the padded batch, (N, ...) int64; a cell has that of its first pixel.

        Raises:
            DataError: a label is no class.
        """
        cells = F.interpolate(labels[:, None].float(), size=logits.shape[2:])[:, 0].long()
        labelled = cells[cells != self.ignore_value]
        classes = logits.shape[1]
        if len(labelled) and not 0 <= labelled.min() <= labelled.max() < classes:
            raise DataError(
                f"Semantic labels from {labelled.min()} to {labelled.max()}, but MODEL.SEM_SEG_HEAD.NUM_CLASSES is "
                f"{classes}: labels are 0 to {classes - 1}, and {self.ignore_value} where nothing is labelled."
            )
        loss = F.cross_entropy(
            logits.float(), cells, ignore_index=self.ignore_value, reduction="sum"
        )
        return {"loss_sem_seg": self.loss_weight * loss / max(len(labelled), 1)}


def check_levels(cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> tuple[int, int]:
    """Return which of the levels of ``MODEL.SEM_SEG_HEAD`` has its stride, and the channels of all.

    Raises:
        ConfigError: a level is missing, they have different channels, none has the stride, or norm GN cannot divide channels.
    """
    head = cfg.MODEL.SEM_SEG_HEAD
    missing = [name for name in head.IN_FEATURES if name not in input_shape]
    if missing:
        raise ConfigError(
            f"MODEL.SEM_SEG_HEAD.IN_FEATURES {tuple(head.IN_FEATURES)} must name levels of a pyramid; this backbone "
            f"gives {', '.join(input_shape)}."
        )
    levels = [input_shape[name] for name in head.IN_FEATURES]
    strides, widths = (
        [getattr(level, name) for level in levels] for name in ("stride", "channels")
    )
    if head.COMMON_STRIDE not in strides:
        raise ConfigError(
            f"MODEL.SEM_SEG_HEAD.COMMON_STRIDE {head.COMMON_STRIDE}, but {', '.join(head.IN_FEATURES)} have strides "
            f"{', '.join(map(str, strides))}; choose one of them."
        )
    for name, channels in (
        ("SEM_SEG_HEAD.CONVS_DIM", head.CONVS_DIM),
        ("FPN.OUT_CHANNELS", widths[0]),
    ):
        check_groups(f"MODEL.{name}", channels, head.NORM)
    if len(set(widths)) > 1:
        raise ConfigError(
            f"MODEL.SEM_SEG_HEAD.IN_FEATURES {tuple(head.IN_FEATURES)} have {widths} channels, but "
            "FamilyFusedSemanticHead adds them; name levels of one pyramid."
        )
    return strides.index(head.COMMON_STRIDE), widths[0]


def _convolution(inputs: int, outputs: int, side: int, norm: str) -> Conv2d:
    conv = conv_norm_relu(inputs, outputs, kernel=side, norm=norm)
    weight_init.c2_msra_fill(conv)
    return conv
