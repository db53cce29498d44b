"""COCO's sets with surface coordinates, under the names and in the places of Detectron2's DensePose project."""

from __future__ import annotations

import os
from pathlib import Path

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances

SETS = {
    "densepose_coco_2014_train": "train2014",
    "densepose_coco_2014_minival": "val2014",
    "densepose_coco_2014_minival_100": "val2014",
    "densepose_coco_2014_valminusminival": "val2014",
}
"""Name of a set, and of the JSON in ``coco/annotations`` -> folder of its images in ``coco``."""


def register_coco_densepose(root: Path | None = None) -> None:
    """Register those that are not yet; their files are read when they are asked for.

    Args:
        root: Detectron2's folder of data sets; by default that of ``DETECTRON2_DATASETS``, or ``datasets``.
    """
    root = root or Path(os.environ.get("DETECTRON2_DATASETS", "datasets")).expanduser()
    for name, images in SETS.items():
        if name in DatasetCatalog:
            continue
        file = str(root / "coco" / "annotations" / f"{name}.json")
        register_coco_instances(name, {}, file, str(root / "coco" / images))
        MetadataCatalog.get(name).set(thing_classes=["person"], densepose_json=file)
