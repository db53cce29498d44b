"""Semantic labels of registered data sets: which classes there are, and the file of each image.

A data set has them if its metadata say, as Detectron2's do, ``stuff_classes`` (the first is "things") and
``sem_seg_root``, or if it has panoptic labels, of which they are made.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from maskrcnn_repro.data.panoptic.truth import (
    derive_semantic,
    has_panoptic,
    image_key,
    write_generated,
)
from maskrcnn_repro.errors import DataError

from detectron2.data import DatasetCatalog, MetadataCatalog

Record = dict[str, Any]


def stuff_names(dataset: str) -> list[str]:
    """Return the classes of semantic labels, "things" first.

    Raises:
        DataError: the data set has no semantic labels.
    """
    metadata = MetadataCatalog.get(dataset)
    if not _has_semantic(dataset) and has_panoptic(dataset):
        derive_semantic(dataset)
    if not _has_semantic(dataset):
        file = metadata.get("panoptic_json")
        reason = (
            f"{file} does not exist" if file else "name its panoptic files in DATASETS.PANOPTIC"
        )
        labelled = [name for name in DatasetCatalog.list() if _has_semantic(name)]
        raise DataError(
            f"DATASETS.WITH_SEM_SEG is True, but data set {dataset!r} has no semantic labels: {reason}, or take one "
            f"that has them: {', '.join(labelled)}."
        )
    return list(metadata.stuff_classes)


def has_labels(dataset: str) -> bool:
    """Tell whether a data set has semantic labels, or files that they follow from."""
    return _has_semantic(dataset) or has_panoptic(dataset)


def _has_semantic(dataset: str) -> bool:
    metadata = MetadataCatalog.get(dataset)
    return bool(metadata.get("stuff_classes") and metadata.get("sem_seg_root"))


def with_labels(records: Iterable[Record], dataset: str) -> list[Record]:
    """Return records of a data set, each with its ``sem_seg_file_name``.

    The file is the PNG in ``sem_seg_root`` that is named as the image, unless the record names one.

    Raises:
        DataError: the data set has no semantic labels, or a file is missing.
    """
    stuff_names(dataset)
    write_generated(dataset)
    root = Path(MetadataCatalog.get(dataset).sem_seg_root)
    labelled = []
    for record in records:
        file = record.get("sem_seg_file_name") or str(
            root / f"{image_key(record['file_name'])}.png"
        )
        if not Path(file).is_file():
            raise DataError(
                f"Data set {dataset!r} has no semantic labels for {record['file_name']}: {file} does not exist."
            )
        labelled.append({**record, "sem_seg_file_name": file})
    return labelled
