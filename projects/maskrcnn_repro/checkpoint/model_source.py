"""The model that a name stands for: a run's folder, a file of weights, or a model that comes with the package."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from maskrcnn_repro.checkpoint.folder import BEST, CheckpointFolder
from maskrcnn_repro.checkpoint.manifest import damage
from maskrcnn_repro.checkpoint.model_file import Labels, labels_of, read_facts
from maskrcnn_repro.checkpoint.weight_file import local_file, read_outline, shipped_models
from maskrcnn_repro.config import load_config
from maskrcnn_repro.config.files import stored_config
from maskrcnn_repro.errors import CheckpointError, did_you_mean, listing

from detectron2.config import CfgNode

EXPORTED = (".onnx", ".xml", ".pt2", ".ts")
"""Endings of exported files, which are programs of their own."""


@dataclass(frozen=True)
class ModelSource:
    """A trained model that can be built."""

    cfg: CfgNode
    """As :func:`maskrcnn_repro.config.load_config` returns it; not frozen, and the caller's own."""
    weights: Path
    labels: Labels
    origin: Mapping[str, Any] = field(default_factory=dict)
    """What the file says of where its weights come from; often empty."""

    @property
    def class_names(self) -> Sequence[str]:
        """Of all classes of the model."""
        return self.labels.class_names

    @property
    def keypoint_names(self) -> Sequence[str]:
        """Of all keypoints of the model; none where it has no keypoint head."""
        return self.labels.keypoint_names


def find_model(source: str | Path, config: str | Path = "") -> ModelSource:
    """Return the model that ``source`` names, with its config and its names.

    Args:
        source: folder of a run, whose best checkpoint is taken or, without one, the newest that is intact; a
            file of weights, or its address; or a name of
            :func:`~maskrcnn_repro.checkpoint.weight_file.shipped_models`.
        config: config of weights that do not hold their own and have no ``config.yaml`` beside them.

    Raises:
        CheckpointError: there is no such model, nothing tells its config, or its names do not fit it.
        ConfigError: its config cannot be read.
        PluginError: a plug-in of its config cannot be loaded.
    """
    weights = weights_of(source)
    if weights.suffix in EXPORTED:
        raise CheckpointError(
            f"{weights} is an exported model, which holds no weights to build one from; name a checkpoint."
        )
    facts = read_facts(weights)
    cfg = _config_of(weights, facts, config)
    return ModelSource(cfg, weights, _labels_of(cfg, weights, facts), facts.get("origin") or {})


def weights_of(source: str | Path) -> Path:
    """Return the file of the model that ``source`` names, see :func:`find_model`.

    Raises:
        CheckpointError: there is none.
    """
    if not source:  # As a path it would be the working directory.
        raise CheckpointError("The name of the model is empty.")
    path = Path(source)
    if path.is_dir():
        return _best_in(path)
    if str(source) in shipped_models() or path.suffix or "/" in str(source) or path.exists():
        return local_file(str(source))
    names = shipped_models()
    raise CheckpointError(
        f"Model {str(source)!r} is no folder, no file and no model that comes with the package "
        f"({listing(names)}).{did_you_mean(str(source), names)}"
    )


def _best_in(folder: Path) -> Path:
    best = folder / f"{BEST}.pth"
    if best.is_file() and not damage(best):
        return best
    newest = CheckpointFolder(folder, read_outline).newest(resumable=False)
    if newest is None:
        raise CheckpointError(
            f"{folder} holds no checkpoint (model_*.pth); name the folder of a run, or a file of weights."
        )
    return newest


def _config_of(weights: Path, facts: Mapping[str, Any], config: str | Path) -> CfgNode:
    beside = weights.with_name("config.yaml")
    if config:
        return load_config(config)
    if isinstance(stored := facts.get("config"), str | Mapping) and stored:
        return load_config(stored_config(weights, stored))
    if beside.is_file():
        return load_config(beside)
    raise CheckpointError(
        f"{weights} does not hold the config of its model, and there is no config.yaml beside it; put that of "
        "its run there, or name one (config=FILE)."
    )


def _labels_of(cfg: CfgNode, weights: Path, facts: Mapping[str, Any]) -> Labels:
    """Return the names of a model; of an older file those of its data set, if it is registered, or numbers."""
    try:
        labels = Labels.of(facts)
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"{weights} holds names of its model that are damaged: {error}."
        ) from error
    registered = labels_of(cfg.DATASETS.TRAIN, stuff=cfg.DATASETS.WITH_SEM_SEG)
    count = cfg.MODEL.ROI_HEADS.NUM_CLASSES
    names = labels.class_names or registered.class_names
    if len(names) > count:
        raise CheckpointError(
            f"{weights} names {len(names)} classes, but its config has MODEL.ROI_HEADS.NUM_CLASSES {count}."
        )
    # Of registered data a config may have more classes than there are names.
    names = (*names, *(f"class {number}" for number in range(len(names) + 1, count + 1)))
    ids = labels.category_ids or registered.category_ids
    posed = labels if labels.keypoint_names else registered
    points = posed.keypoint_names
    # The data of a model without a keypoint head may have keypoints.
    if not cfg.MODEL.KEYPOINT_ON or len(points) != cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS:
        posed = Labels()
    elif not set(points).issuperset(itertools.chain(*posed.flip_pairs, *posed.skeleton)):
        raise CheckpointError(
            f"{weights} names limbs or mirror pairs of keypoints that it does not have."
        )
    stuff = labels.stuff_names or registered.stuff_names
    ids = ids if len(ids) == count else ()
    return replace(posed, class_names=names, category_ids=ids, stuff_names=stuff)
