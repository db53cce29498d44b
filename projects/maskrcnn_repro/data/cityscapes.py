"""Conversion of Cityscapes' fine annotations to COCO JSON (Appendix A), and registration of its splits.

Eight classes, exact masks, groups as crowds. The download is two archives (gtFine_trainvaltest.zip and
leftImg8bit_trainvaltest.zip), unpacked in one folder. H, W = height and width of the image in pixels.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from maskrcnn_repro.data.image_file import stored_values
from maskrcnn_repro.errors import DataError, did_you_mean
from maskrcnn_repro.utils.files import write_text

import numpy as np
import pycocotools.mask as coco_mask
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json
from numpy.typing import NDArray

CLASSES = {
    24: "person", 25: "rider", 26: "car", 27: "truck", 28: "bus", 31: "train", 32: "motorcycle",
    33: "bicycle",
}  # fmt: skip
"""Cityscapes' label id -> name, of the classes with instances that are evaluated."""

SPLITS = ("train", "val")
"""The splits with public annotations."""

_SUFFIX = "_gtFine_instanceIds.png"

Progress = Callable[[Iterable[Path]], Iterable[Path]]


def dataset_name(split: str) -> str:
    """Return the name under which a split is registered."""
    # Not `cityscapes_fine_instance_seg_*`: Detectron2 registers these, and they need Cityscapes' code.
    return f"cityscapes_fine_{split}"


def default_root() -> Path:
    """Return ``cityscapes/`` in Detectron2's folder of data sets."""
    return Path(os.environ.get("DETECTRON2_DATASETS", "datasets")).expanduser() / "cityscapes"


def json_path(root: Path, split: str) -> Path:
    """Return the path to which :func:`convert` writes a split."""
    return root / "annotations" / f"instances_gtFine_{split}.json"


def convert(root: Path, split: str, progress: Progress = iter) -> Path:
    """Write a split as COCO JSON and return the path of the file.

    Category ids are Cityscapes' label ids; masks are RLE; a region of instances that are not annotated
    individually ("group") is a crowd.

    Args:
        root: folder with ``gtFine`` and ``leftImg8bit``.
        split: ``"train"`` or ``"val"``.
        progress: wraps the files to read, as ``tqdm`` does.

    Raises:
        DataError: the split does not exist, files are missing, or a file is no map of instances.
    """
    if split not in SPLITS:
        raise DataError(
            f"Cityscapes' split {split!r} has no public annotations.{did_you_mean(split, SPLITS)} "
            f"It may be {' or '.join(SPLITS)}."
        )
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for path in progress(_maps(root, split)):
        ids = _read(path)
        height, width = ids.shape
        images.append(
            {
                "id": len(images) + 1,
                "file_name": _image_name(path),
                "height": height,
                "width": width,
            }
        )
        for annotation in instances(ids):
            # Ids count from 1: COCO's evaluation takes a match with id 0 for a miss.
            identity = {"id": len(annotations) + 1, "image_id": len(images)}
            annotations.append({**identity, **annotation})
    tree = {
        "info": {"description": f"Cityscapes gtFine {split}, converted by maskrcnn-repro"},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for number, name in CLASSES.items()],
    }
    target = json_path(root, split)
    write_text(target, json.dumps(tree))
    return target


def instances(ids: NDArray[np.integer[Any]]) -> list[dict[str, Any]]:
    """Return the COCO annotations of an image, without ``id`` and ``image_id``.

    Args:
        ids: (H, W), Cityscapes' instanceIds: 1000 times the label id plus a number for an instance; the
            label id for a group and for classes without instances.
    """
    # pycocotools encodes arrays in column-major order.
    ids = np.asfortranarray(ids)
    annotations = []
    # "K" is the order in memory: a view, where the default would copy.
    for number in np.flatnonzero(np.bincount(ids.ravel(order="K"))).tolist():
        label = number // 1000 if number >= 1000 else number
        if label not in CLASSES:
            continue
        rle = coco_mask.encode((ids == number).view(np.uint8))
        annotations.append(
            {
                "category_id": label,
                "iscrowd": int(number < 1000),  # a label without an instance number: a group
                "area": int(coco_mask.area(rle)),
                "bbox": coco_mask.toBbox(rle).tolist(),
                "segmentation": {"size": rle["size"], "counts": rle["counts"].decode("ascii")},
            }
        )
    return annotations


def register_cityscapes(root: Path) -> None:
    """Register ``cityscapes_fine_train`` and ``cityscapes_fine_val``, which are read on first use."""
    for split in SPLITS:
        name = dataset_name(split)
        DatasetCatalog.register(name, partial(_load, root, split))
        MetadataCatalog.get(name).set(
            json_file=str(json_path(root, split)),
            image_root=str(root / "leftImg8bit" / split),
            # COCO-style AP, which needs no Cityscapes code (see DEVIATIONS.md).
            evaluator_type="coco",
            thing_classes=list(CLASSES.values()),
            has_rle_masks=True,
        )


def _load(root: Path, split: str) -> list[dict[str, Any]]:
    path = json_path(root, split)
    if not path.is_file():
        raise DataError(
            f"{dataset_name(split)}: {path} does not exist; make it with "
            f"'maskrcnn convert-cityscapes --root {root}'. Another root is named by "
            "DETECTRON2_DATASETS, the folder that holds cityscapes/."
        )
    return load_coco_json(str(path), str(root / "leftImg8bit" / split), dataset_name(split))


def _maps(root: Path, split: str) -> list[Path]:
    """Return the files of instance ids of a split, after a check that all of their images exist."""
    maps = sorted((root / "gtFine" / split).glob(f"*/*{_SUFFIX}"))
    if not maps:
        raise DataError(
            f"{root / 'gtFine' / split} has no */*{_SUFFIX}; unpack Cityscapes' "
            f"gtFine_trainvaltest.zip and leftImg8bit_trainvaltest.zip in {root}."
        )
    pictures = [root / "leftImg8bit" / split / _image_name(path) for path in maps]
    missing = [path for path in pictures if not path.is_file()]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(maps)} images of Cityscapes' {split} split are missing, first "
            f"{missing[0]}; unpack leftImg8bit_trainvaltest.zip in {root}."
        )
    return maps


def _image_name(path: Path) -> str:
    """Return the image's path relative to ``leftImg8bit/<split>``, from that of the instance ids."""
    return f"{path.parent.name}/{path.name.removesuffix(_SUFFIX)}_leftImg8bit.png"


def _read(path: Path) -> NDArray[np.integer[Any]]:
    ids = stored_values(path)
    # Instance ids (1000 * label + n) do not fit in 8 bits: such a file is a map of labels.
    if ids.ndim != 2 or ids.dtype.itemsize < 2:
        raise DataError(
            f"{path} is no map of instances: its values are {ids.dtype} of shape {ids.shape}, not one "
            "16-bit number for each pixel."
        )
    return ids
