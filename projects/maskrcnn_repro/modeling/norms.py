"""What Detectron2's norms ask of the layer before them, and what all of a network add to the variance."""

from __future__ import annotations

from maskrcnn_repro.errors import ConfigError

from detectron2.layers import FrozenBatchNorm2d
from torch import nn

GROUPS = 32
"""Of Detectron2's GN."""


def check_groups(name: str, channels: int, norm: str) -> None:
    """Raise ConfigError if ``norm`` is GN and cannot divide the channels that the key ``name`` gives."""
    if norm == "GN" and channels % GROUPS:
        raise ConfigError(
            f"{name} {channels} must be a multiple of {GROUPS}, the groups of norm 'GN'."
        )


def set_eps(backbone: nn.Module, eps: float) -> None:
    """Set what all batch norms of a backbone add to the variance."""
    for layer in backbone.modules():
        if isinstance(layer, nn.BatchNorm2d | nn.SyncBatchNorm | FrozenBatchNorm2d):
            layer.eps = eps
