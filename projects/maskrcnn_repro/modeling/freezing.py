"""A backbone that stays as it was loaded, for networks that share its features."""

from __future__ import annotations

from maskrcnn_repro.errors import ConfigError

from detectron2.layers import FrozenBatchNorm2d
from torch import nn


def freeze_backbone(model: nn.Module) -> None:
    """Keep all of ``model.backbone`` as it is: no gradients, batch norm by its stored statistics.

    In place; the names in the ``state_dict`` stay.

    Raises:
        ConfigError: the model has no ``backbone``.
    """
    backbone = dict(model.named_children()).get("backbone")
    if backbone is None:
        raise ConfigError(
            f"MODEL.BACKBONE.FREEZE_ALL is True, but {type(model).__name__} has no 'backbone'."
        )
    backbone.requires_grad_(False)
    FrozenBatchNorm2d.convert_frozen_batchnorm(backbone)
