"""Keys of mask heads that a head does not read: refused where they are set, as numbers would be another's unnoticed."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from maskrcnn_repro.errors import ConfigError

from detectron2.config import CfgNode

NEUTRAL: Mapping[str, object] = MappingProxyType({"LOSS": "sigmoid", "NORM": "", "ROI_OP": ""})
"""Keys of ``MODEL.ROI_MASK_HEAD`` that a head with a loss, layers and a pooling of its own ignores, as they are unset."""


def refuse_ignored(cfg: CfgNode, head: str, neutral: Mapping[str, object] = NEUTRAL) -> None:
    """Raise ConfigError if ``MODEL.ROI_MASK_HEAD`` has another value than ``neutral`` of a key that ``head`` ignores."""
    for name, value in neutral.items():
        if cfg.MODEL.ROI_MASK_HEAD[name] != value:
            raise ConfigError(
                f"MODEL.ROI_MASK_HEAD.{name} {cfg.MODEL.ROI_MASK_HEAD[name]!r} is not for {head}; leave it at {value!r}."
            )
