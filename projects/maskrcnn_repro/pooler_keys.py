"""The keys of the RoI operation: ours, one for all heads or one for each, beside Detectron2's ``POOLER_TYPE``.

A head's ``ROI_OP``, or ``MODEL.ROI_OP.NAME`` where that is empty, names its operation. Where both are empty,
Detectron2's ``POOLER_TYPE`` and ``POOLER_SAMPLING_RATIO`` count; elsewhere they say nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from maskrcnn_repro.errors import ConfigError

from detectron2.config import CfgNode

HEADS = ("ROI_BOX_HEAD", "ROI_MASK_HEAD", "ROI_KEYPOINT_HEAD")
"""Nodes of ``MODEL`` whose branch pools."""
SILENT = {"POOLER_TYPE": "", "POOLER_SAMPLING_RATIO": 0}
"""Detectron2's keys of a head whose operation is one of ours."""
SAME_OPERATION = {
    "ROIAlign": ("RoIAlignAve", False),
    "ROIAlignV2": ("RoIAlignAve", True),
    "ROIPool": ("RoIPool", False),
}
"""Detectron2's pooler types, as our operation and its ``HALF_PIXEL``."""


def operation_of(model: Mapping[str, Any], head: str) -> str:
    """Return the name of a head's RoI operation; empty for Detectron2's pooler of its ``POOLER_TYPE``.

    Args:
        model: the node ``MODEL`` of a config; keys that it lacks are empty.
        head: one of :data:`HEADS`.
    """
    own = model.get(head, {}).get("ROI_OP", "")
    return str(own or model.get("ROI_OP", {}).get("NAME", ""))


def settle_poolers(cfg: CfgNode, sources: Mapping[str, str]) -> None:
    """Silence Detectron2's pooler keys of each head whose operation is one of ours.

    Args:
        cfg: a config with all its values; changed in place.
        sources: dotted keys that a file or the command line sets, and which one, for messages.

    Raises:
        ConfigError: such a key was set and names another operation, or nothing names the box branch's.
    """
    for head in HEADS:
        if operation_of(cfg.MODEL, head):
            _check_type(cfg, head, sources)
            _check_samples(cfg, head, sources)
            cfg.MODEL[head].update(SILENT)
    if not operation_of(cfg.MODEL, "ROI_BOX_HEAD") and not cfg.MODEL.ROI_BOX_HEAD.POOLER_TYPE:
        raise ConfigError(
            "MODEL.ROI_OP.NAME and MODEL.ROI_BOX_HEAD.POOLER_TYPE are both empty; name an RoI operation, such "
            "as MODEL.ROI_OP.NAME RoIAlignAve."
        )


def _check_type(cfg: CfgNode, head: str, sources: Mapping[str, str]) -> None:
    key, value = f"MODEL.{head}.POOLER_TYPE", cfg.MODEL[head].POOLER_TYPE
    place, op = _find_decisive(cfg, head)
    half_pixel = cfg.MODEL.ROI_OP.HALF_PIXEL
    if key not in sources or not value:
        return
    same = SAME_OPERATION.get(value)
    if same == (op, half_pixel):
        return
    write = (
        f"write {place} {same[0]!r} and MODEL.ROI_OP.HALF_PIXEL {same[1]}"
        if same
        else "leave it out"
    )
    raise ConfigError(
        f"{key} {value!r} ({sources[key]}) is another operation than {place} {op!r} with MODEL.ROI_OP.HALF_PIXEL "
        f"{half_pixel}, which decides; {write}, or set {place} '' for Detectron2's own pooler."
    )


def _check_samples(cfg: CfgNode, head: str, sources: Mapping[str, str]) -> None:
    key, value = f"MODEL.{head}.POOLER_SAMPLING_RATIO", cfg.MODEL[head].POOLER_SAMPLING_RATIO
    samples = cfg.MODEL.ROI_OP.SAMPLES
    place, op = _find_decisive(cfg, head)
    silent = all(cfg.MODEL[head][name] == nothing for name, nothing in SILENT.items())
    # RoIPool reads all cells, ours and Detectron2's.
    if key not in sources or silent or op == "RoIPool" or value == samples:
        return
    write = f"write MODEL.ROI_OP.SAMPLES {value}" if value > 0 else "leave it out"
    raise ConfigError(
        f"{key} {value} ({sources[key]}) is another number than MODEL.ROI_OP.SAMPLES {samples}, which decides; "
        f"{write}, or set {place} '' for Detectron2's own pooler."
    )


def _find_decisive(cfg: CfgNode, head: str) -> tuple[str, str]:
    """Return the key that decides on a head's operation, and its value."""
    own = cfg.MODEL[head].ROI_OP
    return (f"MODEL.{head}.ROI_OP", own) if own else ("MODEL.ROI_OP.NAME", cfg.MODEL.ROI_OP.NAME)
