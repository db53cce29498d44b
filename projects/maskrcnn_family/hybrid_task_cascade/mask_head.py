"""Mask heads in a row, each of which sees the features of the one before (Hybrid Task Cascade, mask information flow).

Letters: S stages, R RoIs of the batch, C channels of a pooled RoI, P its side, m that of a mask, both in cells; L
channels of the logits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import Any

from maskrcnn_repro.errors import ConfigError
from maskrcnn_repro.modeling.mask_head import FCNMaskHead, MaskHead, build_mask_loss

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import Conv2d, ShapeSpec
from detectron2.modeling import ROI_MASK_HEAD_REGISTRY
from detectron2.structures import Instances
from fvcore.nn import weight_init
from torch import Tensor, nn


class StageMaskHead(FCNMaskHead):
    """The paper's mask head, to whose input an embedding of the features of the stage before is added.

    Args:
        input_shape: of a pooled RoI; its channels are those of the convolutions.
        first: there is no stage before.
        **layers: those of ``FCNMaskHead``.
    """

    @configurable
    def __init__(self, input_shape: ShapeSpec, *, first: bool, **layers: Any) -> None:
        super().__init__(input_shape, **layers)
        self.conv_res = None
        if not first:
            dim = layers["conv_dim"]
            self.conv_res = Conv2d(dim, dim, kernel_size=1, activation=nn.ReLU())
            weight_init.c2_msra_fill(self.conv_res)

    @classmethod
    def from_config(
        cls, cfg: CfgNode, input_shape: ShapeSpec, *, first: bool = False
    ) -> dict[str, Any]:
        """Read ``MODEL.ROI_MASK_HEAD``."""
        return super().from_config(cfg, input_shape) | {"first": first}

    def features(self, x: Tensor, before: Tensor | None = None) -> Tensor:
        """Map pooled RoIs, and the features of the stage before, to features, all (R, C, P, P)."""
        if self.conv_res is not None and before is not None:
            x = x + self.conv_res(before)
        return super().features(x)


@ROI_MASK_HEAD_REGISTRY.register()
class FamilyHybridMaskHead(MaskHead):
    """S mask heads; RoIs pass through those before a stage, too, whose boxes they are.

    Parameters have the names of the reference code, those of a stage the names of ``FCNMaskHead``.

    Args:
        stages: of which all but the first take the features of the one before.
        **parts: those of ``MaskHead``.
    """

    @configurable
    def __init__(self, *, stages: list[StageMaskHead], **parts: Any) -> None:
        super().__init__(**parts)
        for number, stage in enumerate(stages):
            self.add_module(str(number), stage)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        """Build one head for each stage of ``MODEL.ROI_BOX_CASCADE_HEAD``.

        Raises:
            ConfigError: the RoIs have other channels than the features that are added to them.
        """
        channels, dim = input_shape.channels, cfg.MODEL.ROI_MASK_HEAD.CONV_DIM
        if channels != dim:
            raise ConfigError(
                f"MODEL.ROI_MASK_HEAD.CONV_DIM {dim}, but FamilyHybridMaskHead adds features of one stage to RoIs of "
                f"{channels} channels; set it to {channels}."
            )
        count = len(cfg.MODEL.ROI_BOX_CASCADE_HEAD.IOUS)
        stages = [StageMaskHead(cfg, input_shape, first=not number) for number in range(count)]
        return {"stages": stages, "loss": build_mask_loss(cfg)}

    def stage_losses(self, x: Tensor, instances: list[Instances], stage: int) -> dict[str, Tensor]:
        """Return the loss of one stage, which trains those before it, too.

        Args:
            x: (R, C, P, P), features of the RoIs of all images.
            instances: of each image, as ``MaskHead`` takes them in training.
            stage: its number, from 0.
        """
        return self.training_losses(x, self.layers(x, stage=stage), instances)

    def layers(self, x: Tensor, stage: int | None = None) -> Tensor:
        """Map pooled RoIs (R, C, P, P) to the logits (R, L, m, m) of a stage, by default the last."""
        number = len(self.stages()) - 1 if stage is None else stage
        logits = next(islice(self.stage_logits(x), number, None))
        return logits()

    def masks(self, x: Tensor, classes: Tensor) -> Tensor:
        """Return the mean of the stages' probabilities (R, m, m) of classes (R,) in pooled RoIs (R, C, P, P)."""
        stages = [self.loss.masks(logits().float(), classes) for logits in self.stage_logits(x)]
        return torch.stack(stages).mean(dim=0)

    def stage_logits(self, x: Tensor) -> Iterator[Callable[[], Tensor]]:
        """Yield of each stage what computes its logits (R, L, m, m) of pooled RoIs (R, C, P, P)."""
        features = None
        for stage in self.stages():
            features = stage.features(x, features)
            yield partial(stage.logits, features)

    def stages(self) -> list[StageMaskHead]:
        """Return the heads, in order."""
        return [stage for stage in self.children() if isinstance(stage, StageMaskHead)]
