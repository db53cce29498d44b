"""Registration of the user's own COCO data from the config key ``DATASETS.CUSTOM``."""

from __future__ import annotations

import atexit
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from maskrcnn_repro.data.check.judge import judge
from maskrcnn_repro.data.check.scan import Scan, scan_coco
from maskrcnn_repro.data.keypoints import flip_map, limbs
from maskrcnn_repro.errors import DataError
from maskrcnn_repro.utils.files import write_text

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.utils import comm

SCANS: dict[str, Scan] = {}
"""Name of each registered set of the user's own -> what its check left."""

LONGEST_NAME = 200
"""Bytes of a data set's name; file systems take 255, with what programs add to it."""
_FORMS = {
    "DATASETS.CUSTOM": "[name, COCO JSON, image folder]",
    "DATASETS.PANOPTIC": "[name, panoptic JSON, folder of its PNG files]",
}
"""Key of the config -> form of its entries."""


def register_custom(entries: Sequence[Sequence[str]]) -> None:
    """Check COCO data sets and register them with Detectron2, for use in ``DATASETS.TRAIN`` and ``TEST``.

    Args:
        entries: (name, path of the JSON, folder of the images) each; relative paths start at the
            working directory. Entries that are registered already are skipped.

    Raises:
        DataError: an entry is malformed, its files are missing, or the JSON is wrong.
    """
    for entry in read_entries("DATASETS.CUSTOM", entries):
        name, json_file, image_root = _unpack(entry)
        if not _is_registered(name, json_file, image_root):
            _register(name, json_file, image_root)


def read_entries(key: str, entries: Any) -> list[tuple[str, str, str]]:
    """Return the entries of ``DATASETS.CUSTOM`` or ``DATASETS.PANOPTIC``: name, JSON and folder each.

    Raises:
        DataError: one is something else than three strings, none of them empty.
    """
    form = f"{key} is a list of {_FORMS[key]} entries"
    if isinstance(entries, str) or any(isinstance(entry, str) for entry in entries):
        raise DataError(f"{form}, also for one data set: [['name', 'a.json', 'folder']].")
    for entry in entries:
        if (
            not isinstance(entry, list | tuple)
            or len(entry) != 3
            or not all(isinstance(part, str) and part for part in entry)
        ):
            raise DataError(f"{form}, three strings each, but one is {entry!r}.")
    return [(name, file, folder) for name, file, folder in entries]


def find_unused(names: Iterable[str], cfg: CfgNode) -> list[str]:
    """Return those names of data sets with which ``cfg`` neither trains nor evaluates nor maps weights."""
    used = (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST, cfg.MODEL.WEIGHTS_DATASET)
    return [name for name in names if name not in used]


def _unpack(entry: tuple[str, str, str]) -> tuple[str, Path, Path]:
    name, json_file, image_root = entry
    # Its predictions and proposals lie in a folder or file of its name below OUTPUT_DIR.
    if name in (".", "..") or re.search(r"[/\\\0]", name) or len(os.fsencode(name)) > LONGEST_NAME:
        raise DataError(
            f"DATASETS.CUSTOM: {name[:LONGEST_NAME]!r} cannot be the name of a folder in OUTPUT_DIR; choose one "
            f"without slashes, of at most {LONGEST_NAME} bytes."
        )
    return name, Path(json_file).expanduser().absolute(), Path(image_root).expanduser().absolute()


def _is_registered(name: str, json_file: Path, image_root: Path) -> bool:
    """Tell whether this data set is registered under this name already.

    Raises:
        DataError: another data set has the name.
    """
    if name not in DatasetCatalog:
        return False
    metadata = MetadataCatalog.get(name)
    registered = (
        metadata.get("given_json_file", metadata.get("json_file")),
        metadata.get("image_root"),
    )
    if registered != (str(json_file), str(image_root)):
        raise DataError(
            f"DATASETS.CUSTOM: the name {name!r} is taken by the data set at {registered[0]} with images "
            f"in {registered[1]}; choose another."
        )
    return True


def _register(name: str, json_file: Path, image_root: Path) -> None:
    # The files are the same for all processes.
    scan = scan_coco(json_file, image_root, headers=comm.is_main_process())
    judge(scan.findings, only=lambda row: row.same_everywhere)
    readable = _mended_copy(scan) if scan.mended else json_file
    extra: dict[str, Any] = {}
    if scan.keypoint_names:
        # Tuples, as in Detectron2's own data sets: those of DATASETS.TRAIN must have equal metadata.
        extra["keypoint_names"] = tuple(scan.keypoint_names)
        extra["keypoint_flip_map"] = flip_map(scan.keypoint_names)
        extra["keypoint_connection_rules"] = limbs(scan.skeleton)
    register_coco_instances(name, extra, str(readable), str(image_root))
    MetadataCatalog.get(name).set(
        thing_classes=list(scan.class_names.values()),
        category_ids=list(scan.class_names),
        is_custom=True,
        given_json_file=str(json_file),
        has_rle_masks=scan.has_rle_masks,
        has_posed="keypoints-none" not in scan.findings,
    )
    scan.tree = None  # gigabytes
    SCANS[name] = scan


def _mended_copy(scan: Scan) -> Path:
    """Write the file as it is understood, for Detectron2's loader and evaluation; it lives as long as the process."""
    folder = Path(tempfile.mkdtemp(prefix="maskrcnn-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    copy = folder / scan.file.name
    write_text(copy, json.dumps(scan.tree))
    return copy
