"""Semantic labels of registered data sets: which classes there are, and the file of each image.

A data set has them if its metadata say, as Detectron2's do, ``stuff_classes`` (the first is "things") and
``sem_seg_root``, or if it has panoptic labels, of which they are made.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from maskrcnn_repro.data.image_file import image_header
from maskrcnn_repro.data.panoptic.truth import (
    derive_semantic,
    has_panoptic,
    image_key,
    is_derived,
    is_generated,
    open_truth,
    write_generated,
)
from maskrcnn_repro.data.synthetic.writing import damaged
from maskrcnn_repro.errors import DataError

from detectron2.data import DatasetCatalog, MetadataCatalog

Record = dict[str, Any]


def stuff_names(dataset: str) -> list[str]:
    """Return the classes of semantic labels, "things" first.

    Raises:
        DataError: the data set has no semantic labels.
    """
    metadata = MetadataCatalog.get(dataset)
    if has_panoptic(dataset) and (is_derived(dataset) or not _has_semantic(dataset)):
        derive_semantic(dataset)
    if not _has_semantic(dataset):
        file = metadata.get("panoptic_json")
        reason = f"{file} does not exist; " if file else ""
        labelled = [name for name in DatasetCatalog.list() if _has_semantic(name)]
        raise DataError(
            f"DATASETS.WITH_SEM_SEG is True, but data set {dataset!r} has no semantic labels: {reason}name its panoptic "
            f"files in DATASETS.PANOPTIC, or take a data set that has them: {', '.join(labelled)}."
        )
    return list(metadata.stuff_classes)


def listed_names(dataset: str) -> list[str]:
    """Return what :func:`stuff_names` does of a data set with labels, and read no PNG file for it."""
    names = MetadataCatalog.get(dataset).get("stuff_classes")
    return list(names or open_truth(dataset).categories.metadata()["stuff_classes"])


def has_labels(dataset: str) -> bool:
    """Tell whether a data set has semantic labels, or files that they follow from."""
    if _has_semantic(dataset) or is_generated(dataset):
        return True
    return has_panoptic(dataset) and Path(MetadataCatalog.get(dataset).panoptic_root).is_dir()


def _has_semantic(dataset: str) -> bool:
    metadata = MetadataCatalog.get(dataset)
    return bool(metadata.get("stuff_classes") and metadata.get("sem_seg_root"))


def with_labels(records: Iterable[Record], dataset: str) -> list[Record]:
    """Return records of a data set, each with its ``sem_seg_file_name``.

    The file is the PNG in ``sem_seg_root`` that is named as the image, unless the record names one.

    Raises:
        DataError: the data set has no semantic labels, a file is missing, or it has another size than its image.
    """
    stuff_names(dataset)
    write_generated(dataset)
    root = Path(MetadataCatalog.get(dataset).sem_seg_root)
    labelled = []
    for record in records:
        image = record["file_name"]
        file = Path(record.get("sem_seg_file_name") or root / f"{image_key(image)}.png")
        if not file.is_file():
            if file != _source_of(file, dataset, image):
                raise damaged(root.parent, f"{file.name} is missing")
            raise DataError(
                f"Data set {dataset!r} has no semantic labels for {image}: {file} does not exist."
            )
        if not is_generated(dataset):
            check_size(record, file, dataset)
        labelled.append({**record, "sem_seg_file_name": str(file)})
    return labelled


def _source_of(file: Path, dataset: str, image: str) -> Path:
    """Return the panoptic PNG that a file of labels was made of, or the file."""
    made = is_derived(dataset) and file.parent == Path(MetadataCatalog.get(dataset).sem_seg_root)
    return open_truth(dataset).png_of(image) if made else file


def check_panoptic(dataset: str) -> None:
    """Check that each image of a data set has panoptic labels of its size; headers alone are read of PNG files.

    Raises:
        DataError: it has not.
    """
    truth = open_truth(dataset)
    stuff_names(dataset)
    if not is_generated(dataset):
        for record in DatasetCatalog.get(dataset):
            check_size(record, truth.png_of(record["file_name"]), dataset)


def check_size(record: Record, file: Path, dataset: str) -> None:
    """Raise DataError unless a file of labels has the size of its image, which the record or its header says."""
    image = record["file_name"]
    size = record.get("width"), record.get("height")
    if None in size:
        size = image_header(image).size
    labels = image_header(file).size
    if labels != size:
        raise DataError(
            f"Labels {_source_of(file, dataset, image)} have {labels[0]} x {labels[1]} pixels, but image {image} has "
            f"{size[0]} x {size[1]}; give them the size of the image, without interpolation."
        )
