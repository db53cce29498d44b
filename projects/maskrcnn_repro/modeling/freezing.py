"""Freezing of the whole backbone, for networks that share its features (4-step training, Sec. 4.4)."""

from __future__ import annotations

from maskrcnn_repro.errors import ConfigError

from detectron2.layers import FrozenBatchNorm2d
from torch import nn


def freeze_backbone(model: nn.Module) -> None:
    """Freeze ``model.backbone`` in place: no gradients, batch norm with its stored statistics.

    The keys of the ``state_dict`` stay the same.

    Raises:
        ConfigError: the model has no ``backbone``.
    """
    backbone = dict(model.named_children()).get("backbone")
    if backbone is None:
        raise ConfigError(
            f"MODEL.BACKBONE.FREEZE_ALL is True, but {type(model).__name__} has no 'backbone'."
        )
    backbone.requires_grad_(False)
    # Without gradients alone, batch norm would go on to update its statistics.
    FrozenBatchNorm2d.convert_frozen_batchnorm(backbone)
