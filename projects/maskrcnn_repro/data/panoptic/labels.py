"""Semantic and panoptic labels of registered data sets: which classes of stuff there are, and where the files lie.

A data set has them if its metadata say, as Detectron2's do, ``stuff_classes`` (the first is "things"), ``sem_seg_root``,
``panoptic_json`` and ``panoptic_root``.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from maskrcnn_repro.data.synthetic.families import GENERATED
from maskrcnn_repro.data.synthetic.writing import cache_root
from maskrcnn_repro.errors import DataError

from detectron2.data import DatasetCatalog, MetadataCatalog

Record = dict[str, Any]


def stuff_names(dataset: str) -> list[str]:
    """Return the classes of semantic labels, "things" first.

    Raises:
        DataError: the data set has no semantic labels.
    """
    metadata = MetadataCatalog.get(dataset)
    names = metadata.get("stuff_classes")
    if not names or not metadata.get("sem_seg_root"):
        labelled = [
            other
            for other in DatasetCatalog.list()
            if MetadataCatalog.get(other).get("sem_seg_root")
        ]
        raise DataError(
            f"DATASETS.WITH_SEM_SEG is True, but data set {dataset!r} has no semantic labels ('stuff_classes' and "
            f"'sem_seg_root' in its metadata); these have: {', '.join(labelled) or 'none'}."
        )
    return list(names)


def write_labels(dataset: str) -> None:
    """Write the labels of a generated data set unless they exist already; those of others are there."""
    for family in GENERATED:
        if family.stuff and (identity := family.identify(dataset)):
            family.generate_labels(cache_root(), *identity)


def with_labels(records: Iterable[Record], dataset: str) -> list[Record]:
    """Return records of a data set, each with its ``sem_seg_file_name``.

    The file is the PNG in ``sem_seg_root`` that is named as the image, unless the record names one.

    Raises:
        DataError: the data set has no semantic labels, or a file is missing.
    """
    stuff_names(dataset)
    write_labels(dataset)
    root = Path(MetadataCatalog.get(dataset).sem_seg_root)
    labelled = []
    for record in records:
        file = record.get("sem_seg_file_name") or str(
            root / f"{Path(record['file_name']).stem}.png"
        )
        if not Path(file).is_file():
            raise DataError(
                f"Data set {dataset!r} has no semantic labels for {record['file_name']}: {file} does not exist."
            )
        labelled.append({**record, "sem_seg_file_name": file})
    return labelled
