"""Configs of earlier versions: in today's spelling to be read and compared, in the first one to be hashed.

A run's ``config.yaml`` holds every key, and outlives the keys that it was written with. What changed since the
first version stands here as data. A key that a stored config lacks has its default; a change of spelling
changes no hash, so that kept records go on counting.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from maskrcnn_repro.pooler_keys import HEADS, SILENT, operation_of


@dataclass(frozen=True)
class Added:
    """A key that the first version lacked."""

    key: str
    default: Any
    """What a config without the key means; a key with this value is not hashed."""
    reason: str


@dataclass(frozen=True)
class Silenced:
    """Keys of Detectron2 that no longer have a value where ``MODEL.ROI_OP`` names a head's operation."""

    head: str
    first: Mapping[str, Any]
    """What the first version wrote there, whatever the operation."""
    first_of_c4: Mapping[str, Any]
    """The same, with ``PaperRes5ROIHeads``."""
    reason: str


ADDED = (
    Added("TRAINER", "", "the trainer may be a subclass"),
    Added("DATALOADER.SKIP_BROKEN", False, "broken images may be left out"),
    Added("INPUT.PIXEL_RANGE", (), "grey of more than 8 bits may be scaled"),
    *(
        Added(f"MODEL.{head}.ROI_OP", "", "the branches of a model may pool differently")
        for head in HEADS
    ),
    Added("MODEL.WEIGHTS_MIN_COVERAGE", 50.0, "weights that fill too little are refused"),
    Added("SOLVER.ACCUMULATE", 1, "few devices train with the batch of many"),
    Added("ACCEPTED_CHANGES", (), "a resumed training may differ in keys that its user names"),
    Added("SOLVER.CHECKPOINT_KEEP", 0, "old checkpoints may go"),
    Added("SOLVER.STALL_SECONDS", 600, "processes that hang are ended"),
    Added("TEST.BEST_METRIC", "", "the best weights may be kept"),
    Added("INPUT.RESIZE", "pillow", "images may be resized as torchvision's detectors do"),
    Added("MODEL.RESNETS.NORM_EPS", 1e-5, "torchvision's published detectors have 0"),
    Added("MODEL.ROI_BOX_HEAD.MIN_SIZE", 0.0, "torchvision leaves tiny detections out"),
    Added(
        "MODEL.ROI_BOX_HEAD.UNUSED_CLASSES", 0, "torchvision's class layer of COCO has 91 outputs"
    ),
    Added("TEST.BOUNDARY_AP", False, "masks may also be measured by their outlines"),
    Added("TEST.PANOPTIC_QUALITY", False, "panoptic maps may be measured, too"),
    Added("TEST.PATIENCE", 0, "a training may end when it gets no better"),
    Added("DATASETS.PANOPTIC", (), "data sets may have panoptic labels"),
    Added("DATASETS.WITH_SEM_SEG", False, "images may bring semantic labels"),
    Added("TRACKERS", (), "services may follow a training"),
    Added("MODEL.ROI_OP.KERNEL", "auto", "GPUs may pool by Triton kernels"),
    Added("MODEL.FAST_TRAINING", False, "parts of a model may train faster"),
    Added("MODEL.CHECKPOINT_STAGES", False, "activations may be computed twice"),
    Added("SOLVER.AMP.DTYPE", "float16", "CPUs may train in mixed precision, too"),
)
_ROI_ALIGN = {"POOLER_TYPE": "ROIAlign", "POOLER_SAMPLING_RATIO": 2}
_DEFAULT = {"POOLER_TYPE": "ROIAlignV2", "POOLER_SAMPLING_RATIO": 0}
_WHY = "one config said ROI_OP RoIPool and POOLER_TYPE ROIAlign at once"
SILENCED = (
    Silenced("ROI_BOX_HEAD", _ROI_ALIGN, _ROI_ALIGN, _WHY),
    Silenced("ROI_MASK_HEAD", _ROI_ALIGN, _ROI_ALIGN, _WHY),
    # configs/base/c4.yaml has no keypoint head and left it at Detectron2's defaults.
    Silenced("ROI_KEYPOINT_HEAD", _ROI_ALIGN, _DEFAULT, _WHY),
)

_WHOLE = ("CUDNN_BENCHMARK", "GLOBAL", "OUTPUT_DIR", "SEED", "SOLVER", "VERSION")
"""Keys and nodes that a whole config has, and hardly one that a person writes."""


def is_earlier(tree: Mapping[str, Any]) -> bool:
    """Tell whether ``tree`` is a whole config, such as a run's ``config.yaml``, of an earlier version."""
    if not all(key in tree for key in _WHOLE):
        return False
    return any(value_of(tree, change.key) is None for change in ADDED)


def spelled_today(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of a whole config in today's spelling; keys that it lacks stay absent.

    Args:
        tree: nested values, of any version.
    """
    today: dict[str, Any] = _plain(tree)
    for change in SILENCED:
        if operation_of(today.get("MODEL", {}), change.head):
            today["MODEL"].setdefault(change.head, {}).update(SILENT)
    return today


def spelled_first(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of a whole config as the first version would have written it.

    Two configs of one model are equal then, whatever they were written with. What the first version could
    not say keeps its key.

    Args:
        tree: nested values, of any version.
    """
    first: dict[str, Any] = _plain(tree)
    model = first.get("MODEL", {})
    of_c4 = model.get("ROI_HEADS", {}).get("NAME") == "PaperRes5ROIHeads"
    for change in SILENCED:
        if operation_of(model, change.head):
            values = change.first_of_c4 if of_c4 else change.first
            model.setdefault(change.head, {}).update(values)
            if model[change.head].get("ROI_OP") == model.get("ROI_OP", {}).get("NAME"):
                model[change.head]["ROI_OP"] = ""
    for added in ADDED:
        _remove(first, added.key, _plain(added.default))
    return first


def value_of(tree: Mapping[str, Any], key: str) -> Any:
    """Return the value of a dotted key; None if the tree lacks it."""
    node: Any = tree
    for part in key.split("."):
        if not isinstance(node, Mapping) or part not in node:
            return None
        node = node[part]
    return node


def _plain(value: Any) -> Any:
    """Return a copy of nested values as YAML has them, in dicts and lists that nothing else holds."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    # A tuple that two keys share would be dumped as an anchor, and hashed with it.
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _remove(tree: dict[str, Any], key: str, default: Any) -> None:
    """Remove a key that has its default."""
    place, _, name = key.rpartition(".")
    node = value_of(tree, place) if place else tree
    if isinstance(node, dict) and name in node and node[name] == default:
        del node[name]
