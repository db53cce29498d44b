"""Reads and checks a COCO JSON file; the first mistake is reported in one sentence."""

from __future__ import annotations

import json
import logging
import math
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from maskrcnn_repro.errors import DataError, did_you_mean

logger = logging.getLogger(__name__)

Record = dict[str, Any]

_NUMBER = (int, float)
# Fields that Detectron2's loader or COCO's evaluation reads without a check.
_FIELDS: dict[str, dict[str, type | tuple[type, ...]]] = {
    "images": {"id": int, "file_name": str, "height": int, "width": int},
    "annotations": {"id": int, "image_id": int, "category_id": int, "bbox": list, "area": _NUMBER},
    "categories": {"id": int, "name": str},
}

_POSE = {"keypoints", "num_keypoints"}


@dataclass(frozen=True)
class CocoFacts:
    """Facts of a COCO file on which the model and the checks before training depend."""

    class_names: list[str]
    """By ascending category id, which is the order of the model's classes."""
    keypoint_names: list[str]
    """Empty if the file has no keypoints."""
    skeleton: list[tuple[str, str]]
    """Limbs, each as the names of two keypoints."""
    has_posed: bool
    """Whether any annotation, crowds apart, has a labelled keypoint (visibility above 0)."""
    first_poseless: int | None
    """Id of the first annotation without ``keypoints`` or ``num_keypoints``, which COCO's evaluation reads."""
    has_rle_masks: bool
    """Whether any annotation, crowds apart, has an RLE mask instead of polygons."""
    first_maskless: int | None
    """Id of the first annotation, crowds apart, without a mask."""
    has_id_zero: bool
    """Whether an annotation has the id 0, whose matches COCO's evaluation takes for misses."""


def read_coco(json_file: Path, image_root: Path) -> CocoFacts:
    """Check a COCO file of instances or keypoints and that its images exist, and return its facts.

    Boxes are ``[left, top, width, height]`` in pixels of the image.

    Raises:
        DataError: something is wrong; names the file, the first wrong record and the mistake.
    """
    tree = _parse(json_file)
    images, annotations, categories = (_records(tree, key, json_file) for key in _FIELDS)
    _check_unique(images, "id", "image", json_file)
    _check_unique(annotations, "id", "annotation", json_file)
    _check_unique(categories, "id", "category", json_file)
    _check_unique(categories, "name", "category", json_file)
    if not categories:
        raise DataError(f"{json_file}: 'categories' is empty, so there is no class to learn.")
    _check_references(annotations, images, "image", json_file)
    _check_references(annotations, categories, "category", json_file)
    _check_boxes(annotations, json_file)
    _check_images_exist(images, image_root, json_file)
    keypoint_names = _keypoint_names(categories, json_file)
    _check_keypoints(annotations, len(keypoint_names), json_file)
    single = [a for a in annotations if not a.get("iscrowd")]
    return CocoFacts(
        class_names=[c["name"] for c in sorted(categories, key=lambda c: c["id"])],
        keypoint_names=keypoint_names,
        skeleton=_skeleton(categories, keypoint_names, json_file),
        has_posed=bool(keypoint_names) and any(map(_is_posed, single)),
        first_poseless=next((int(a["id"]) for a in annotations if not _POSE <= a.keys()), None),
        has_rle_masks=any(isinstance(a.get("segmentation"), dict) for a in single),
        first_maskless=next((int(a["id"]) for a in single if not a.get("segmentation")), None),
        has_id_zero=any(a["id"] == 0 for a in annotations),
    )


def _parse(json_file: Path) -> Record:
    try:
        tree = json.loads(json_file.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"COCO file {json_file} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise DataError(f"{json_file} is no JSON: {error}.") from error
    if not isinstance(tree, dict):
        raise DataError(
            f"{json_file} is no COCO file: its top level is of type {type(tree).__name__}, not an object."
        )
    return tree


def _records(tree: Record, key: str, json_file: Path) -> list[Record]:
    """Return one of the file's three lists, after a check of the fields of each record."""
    if key not in tree:
        raise DataError(f"{json_file} is no COCO file: it has no {key!r}.{did_you_mean(key, tree)}")
    records = tree[key]
    if not isinstance(records, list):
        raise DataError(f"{json_file}: {key!r} is of type {type(records).__name__}, not a list.")
    for index, record in enumerate(records):
        where = f"{json_file}: {key}[{index}]"
        if not isinstance(record, dict):
            raise DataError(f"{where} is of type {type(record).__name__}, not an object.")
        for field, kind in _FIELDS[key].items():
            if field not in record:
                raise DataError(f"{where} has no {field!r}.{did_you_mean(field, record)}")
            value = record[field]
            # In Python, bool is a subclass of int.
            if not isinstance(value, kind) or isinstance(value, bool):
                expected = "number" if kind is _NUMBER else getattr(kind, "__name__", str(kind))
                raise DataError(
                    f"{where}: {field!r} is {value!r} of type {type(value).__name__}, not {expected}."
                )
    return records


def _check_unique(records: list[Record], field: str, kind: str, json_file: Path) -> None:
    seen = set()
    for record in records:
        if record[field] in seen:
            raise DataError(f"{json_file}: two records have the {kind} {field} {record[field]!r}.")
        seen.add(record[field])


def _check_references(
    annotations: list[Record], targets: list[Record], kind: str, json_file: Path
) -> None:
    ids = {target["id"] for target in targets}
    for annotation in annotations:
        if annotation[f"{kind}_id"] not in ids:
            raise DataError(
                f"{json_file}: annotation {annotation['id']} names {kind} "
                f"{annotation[f'{kind}_id']}, which the file does not have."
            )


def _check_boxes(annotations: list[Record], json_file: Path) -> None:
    """Raise DataError for a box that is not four finite numbers or has a negative side."""
    # Only a warning for boxes without area: COCO itself has some.
    empty = []
    for annotation in annotations:
        box = annotation["bbox"]
        where = f"{json_file}: the bbox {box} of annotation {annotation['id']}"
        if len(box) != 4 or not _finite(box):
            raise DataError(f"{where} is not four finite numbers (left, top, width, height).")
        if box[2] < 0 or box[3] < 0:
            raise DataError(f"{where} (left, top, width, height) has a negative side.")
        if box[2] == 0 or box[3] == 0:
            empty.append(annotation["id"])
    if empty:
        logger.warning(
            "%s: %d boxes have no area and train nothing; the first is that of annotation %s.",
            json_file,
            len(empty),
            empty[0],
        )


def _check_images_exist(images: list[Record], image_root: Path, json_file: Path) -> None:
    if not image_root.is_dir():
        raise DataError(f"Image folder {image_root} (for {json_file}) does not exist.")
    # One listing per folder: asking for each file takes minutes on a network file system.
    listing = cache(lambda folder: set(os.listdir(folder)) if folder.is_dir() else set())
    paths = [image_root / image["file_name"] for image in images]
    missing = [path for path in paths if path.name not in listing(path.parent)]
    if missing:
        raise DataError(
            f"{json_file}: {len(missing)} of {len(images)} images are missing, first {missing[0]}."
        )


def _keypoint_names(categories: list[Record], json_file: Path) -> list[str]:
    """Return the keypoint names, which must be the same in all categories that have keypoints."""
    with_names = [c for c in categories if c.get("keypoints")]
    for category in with_names:
        names = category["keypoints"]
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise DataError(
                f"{json_file}: 'keypoints' of category {category['name']!r} is not a list of names."
            )
        if len(set(names)) != len(names):
            raise DataError(
                f"{json_file}: two keypoints of category {category['name']!r} have the same name."
            )
        if names != with_names[0]["keypoints"]:
            raise DataError(
                f"{json_file}: categories {with_names[0]['name']!r} and {category['name']!r} have "
                "different keypoints, but the keypoint head has one set for all."
            )
    return list(with_names[0]["keypoints"]) if with_names else []


def _check_keypoints(annotations: list[Record], count: int, json_file: Path) -> None:
    for annotation in annotations if count else []:
        # Objects of a class without keypoints do not have the field.
        values = annotation.get("keypoints", [0] * 3 * count)
        if not isinstance(values, list) or len(values) != 3 * count or not _finite(values):
            raise DataError(
                f"{json_file}: annotation {annotation['id']} has not {count} keypoints "
                "(x, y, visibility each) as its category says."
            )


def _is_posed(annotation: Record) -> bool:
    return any(visibility > 0 for visibility in annotation.get("keypoints", [])[2::3])


def _skeleton(categories: list[Record], names: list[str], json_file: Path) -> list[tuple[str, str]]:
    """Return the limbs of the first category that has some."""
    # A wrong skeleton is only a warning, as limbs are used in pictures alone.
    edges: Any = next(
        (c["skeleton"] for c in categories if c.get("keypoints") and c.get("skeleton")), []
    )
    try:
        ends = [(int(start), int(end)) for start, end in edges]
    except (TypeError, ValueError):
        ends = [(0, 0)]
    if any(not 1 <= end <= len(names) for edge in ends for end in edge):
        logger.warning(
            "%s: the 'skeleton' is not a list of pairs of numbers from 1 to %d, the keypoints; pictures "
            "will show no limbs.",
            json_file,
            len(names),
        )
        return []
    return [(names[start - 1], names[end - 1]) for start, end in ends]


def _finite(values: list[Any]) -> bool:
    return all(isinstance(value, _NUMBER) and math.isfinite(value) for value in values)
