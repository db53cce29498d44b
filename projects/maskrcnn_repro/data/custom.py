"""Registration of the user's own COCO data from the config key ``DATASETS.CUSTOM``."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from maskrcnn_repro.data.coco_file import read_coco
from maskrcnn_repro.data.keypoints import flip_map, limbs
from maskrcnn_repro.errors import DataError

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances

logger = logging.getLogger(__name__)

_FORM = "DATASETS.CUSTOM is a list of [name, COCO JSON, image folder] entries"


def register_custom(entries: Sequence[Sequence[str]]) -> None:
    """Check COCO data sets and register them with Detectron2, for use in ``DATASETS.TRAIN`` and ``TEST``.

    Args:
        entries: (name, path of the JSON, folder of the images) each; relative paths start at the
            working directory. Entries that are registered already are skipped.

    Raises:
        DataError: an entry is malformed, its files are missing, or the JSON is wrong.
    """
    if isinstance(entries, str) or any(isinstance(entry, str) for entry in entries):
        raise DataError(f"{_FORM}, also for one data set: [['name', 'a.json', 'folder']].")
    for entry in entries:
        name, json_file, image_root = _unpack(entry)
        if not _is_registered(name, json_file, image_root):
            _register(name, json_file, image_root)


def unused(names: Iterable[str], cfg: CfgNode) -> list[str]:
    """Return those names of data sets with which ``cfg`` neither trains nor evaluates nor maps weights."""
    used = (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST, cfg.MODEL.WEIGHTS_DATASET)
    return [name for name in names if name not in used]


def _unpack(entry: Any) -> tuple[str, Path, Path]:
    if (
        not isinstance(entry, list | tuple)
        or len(entry) != 3
        or not all(isinstance(part, str) and part for part in entry)
    ):
        raise DataError(f"{_FORM}, three strings each, but one is {entry!r}.")
    name, json_file, image_root = entry
    return name, Path(json_file).expanduser().absolute(), Path(image_root).expanduser().absolute()


def _is_registered(name: str, json_file: Path, image_root: Path) -> bool:
    """Tell whether this data set is registered under this name already.

    Raises:
        DataError: another data set has the name.
    """
    if name not in DatasetCatalog:
        return False
    metadata = MetadataCatalog.get(name)
    registered = (metadata.get("json_file"), metadata.get("image_root"))
    if registered != (str(json_file), str(image_root)):
        raise DataError(
            f"DATASETS.CUSTOM: the name {name!r} is taken by the data set at {registered[0]} with images "
            f"in {registered[1]}; choose another."
        )
    return True


def _register(name: str, json_file: Path, image_root: Path) -> None:
    facts = read_coco(json_file, image_root)
    if facts.has_id_zero:
        logger.warning(
            "%s: an annotation has the id 0; COCO's evaluation takes a match with it for a miss. "
            "Count from 1.",
            json_file,
        )
    extra: dict[str, Any] = {}
    if facts.keypoint_names:
        # Tuples, as in Detectron2's own data sets: those of DATASETS.TRAIN must have equal metadata.
        extra["keypoint_names"] = tuple(facts.keypoint_names)
        extra["keypoint_flip_map"] = flip_map(facts.keypoint_names)
        extra["keypoint_connection_rules"] = limbs(facts.skeleton)
    register_coco_instances(name, extra, str(json_file), str(image_root))
    MetadataCatalog.get(name).set(
        thing_classes=facts.class_names,
        is_custom=True,
        has_rle_masks=facts.has_rle_masks,
        first_maskless=facts.first_maskless,
        has_posed=facts.has_posed,
        first_poseless=facts.first_poseless,
    )
