"""The semantic branch on a feature pyramid (Panoptic FPN, Sec. 3.1, Fig. 3).

Letters: N images, C channels of a map, K semantic classes, H, W height and width of the padded batch in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from maskrcnn_repro.errors import ConfigError
from maskrcnn_repro.modeling.conv import conv_norm_relu
from maskrcnn_repro.modeling.norms import check_groups

import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.layers import Conv2d, ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from fvcore.nn import weight_init
from torch import Tensor, nn


@SEM_SEG_HEADS_REGISTRY.register()
class FamilySemSegFPNHead(nn.Module):
    """Each map is brought to one stride by convolutions and doublings; the sum is classified (Sec. 3.1, Fig. 3).

    Parameters have the names of Detectron2's ``SemSegFPNHead``.

    Args:
        input_shape: channels and stride of the maps, by name.
        num_classes: K; class 0 is all things.
        conv_dims: channels between the maps and the classes.
        common_stride: pixels of the image per cell of the sum.
        loss_weight: factor on the loss, λ_s of Sec. 3.2.
        norm: a name of Detectron2's ``get_norm``.
        ignore_value: label of pixels that count nowhere.
    """

    @configurable
    def __init__(
        self,
        input_shape: Mapping[str, ShapeSpec],
        *,
        num_classes: int,
        conv_dims: int,
        common_stride: int,
        loss_weight: float = 1.0,
        norm: str = "",
        ignore_value: int = 255,
    ) -> None:
        super().__init__()
        self.ignore_value = ignore_value
        self.common_stride, self.loss_weight = common_stride, loss_weight
        shapes = sorted(input_shape.items(), key=lambda item: item[1].stride)
        self.in_features = [name for name, _ in shapes]
        for name, shape in shapes:
            doublings = int(math.log2(shape.stride / common_stride))
            self.add_module(name, _to_common_stride(shape.channels, conv_dims, doublings, norm))
        self.predictor = Conv2d(conv_dims, num_classes, kernel_size=1)
        weight_init.c2_msra_fill(self.predictor)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        """Read ``MODEL.SEM_SEG_HEAD``.

        Raises:
            ConfigError: see :func:`check_maps`.
        """
        check_maps(cfg, input_shape)
        keys = cfg.MODEL.SEM_SEG_HEAD
        return {
            "input_shape": {name: input_shape[name] for name in keys.IN_FEATURES},
            "num_classes": keys.NUM_CLASSES,
            "conv_dims": keys.CONVS_DIM,
            "common_stride": keys.COMMON_STRIDE,
            "loss_weight": keys.LOSS_WEIGHT,
            "norm": keys.NORM,
            "ignore_value": keys.IGNORE_VALUE,
        }

    def forward(
        self, features: Mapping[str, Tensor], targets: Tensor | None = None
    ) -> tuple[Tensor | None, dict[str, Tensor]]:
        """Return None and the loss in training, otherwise logits (N, K, H, W) and no loss.

        Args:
            features: maps of the batch.
            targets: in training, labels (N, H, W) int64.
        """
        scores = self.layers(features)
        if self.training:
            assert targets is not None
            return None, self.losses(scores, targets)
        return self._at_full_size(scores), {}

    def layers(self, features: Mapping[str, Tensor]) -> Tensor:
        """Return logits at the common stride."""
        first, *others = (getattr(self, name)(features[name]) for name in self.in_features)
        return self.predictor(sum(others, first))

    def losses(self, scores: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Return the cross-entropy of labels (N, H, W), the mean over all labelled pixels; 0 without any."""
        # Bilinear interpolation and softmax in half precision lose what they are about.
        logits = self._at_full_size(scores.float())
        labelled = (targets != self.ignore_value).sum().clamp(min=1)
        total = F.cross_entropy(logits, targets, reduction="sum", ignore_index=self.ignore_value)
        return {"loss_sem_seg": self.loss_weight * total / labelled}

    def _at_full_size(self, scores: Tensor) -> Tensor:
        factor = float(self.common_stride)
        return F.interpolate(scores, scale_factor=factor, mode="bilinear", align_corners=False)


def _to_common_stride(channels: int, width: int, doublings: int, norm: str) -> nn.Sequential:
    """Return a convolution for each doubling, at least one; the numbers of layers are Detectron2's."""
    layers = nn.Sequential()
    for _ in range(max(1, doublings)):
        conv = conv_norm_relu(channels, width, norm=norm)
        weight_init.c2_msra_fill(conv)
        layers.append(conv)
        if doublings:
            layers.append(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False))
        channels = width
    return layers


def check_maps(cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> None:
    """Raise ConfigError if a map of ``MODEL.SEM_SEG_HEAD`` cannot come to the common stride, or GN cannot divide channels."""
    keys = cfg.MODEL.SEM_SEG_HEAD
    check_groups("MODEL.SEM_SEG_HEAD.CONVS_DIM", keys.CONVS_DIM, keys.NORM)
    if missing := [name for name in keys.IN_FEATURES if name not in input_shape]:
        raise ConfigError(
            f"MODEL.SEM_SEG_HEAD.IN_FEATURES names {', '.join(missing)}, but MODEL.BACKBONE.NAME "
            f"{cfg.MODEL.BACKBONE.NAME!r} gives {', '.join(input_shape)}; a semantic branch needs maps of a pyramid."
        )
    strides = {name: input_shape[name].stride for name in keys.IN_FEATURES}
    check_common_stride("MODEL.SEM_SEG_HEAD.COMMON_STRIDE", keys.COMMON_STRIDE, strides)


def check_common_stride(key: str, common: int, strides: Mapping[str, int]) -> None:
    """Raise ConfigError if doublings, as :class:`FamilySemSegFPNHead` has, cannot bring a map to the common stride.

    Args:
        key: of the config, that says the common stride.
        common: pixels of the image per cell of the sum.
        strides: of the maps, by name.
    """
    for name, stride in strides.items():
        if stride not in [common << doublings for doublings in range(8)]:
            raise ConfigError(
                f"{key} {common} is not the stride {stride} of map {name!r} halved any number of times."
            )
