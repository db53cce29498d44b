"""What Detectron2's norms ask of the layer before them."""

from __future__ import annotations

from maskrcnn_repro.errors import ConfigError

GROUPS = 32
"""Of Detectron2's GN."""


def check_groups(name: str, channels: int, norm: str) -> None:
    """Raise ConfigError if ``norm`` is GN and cannot divide the channels that the key ``name`` gives."""
    if norm == "GN" and channels % GROUPS:
        raise ConfigError(
            f"{name} {channels} must be a multiple of {GROUPS}, the groups of norm 'GN'."
        )
