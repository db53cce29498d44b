"""A labelled set on which an exported file is measured beside its model."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from maskrcnn_repro.checkpoint.model_source import ModelSource
from maskrcnn_repro.data import prepare_data
from maskrcnn_repro.errors import DataError, listing
from maskrcnn_repro.evaluation.coco import evaluate

from detectron2.data import DatasetCatalog, MetadataCatalog


class LabelledSet:
    """Pictures and their objects, of the classes of a model.

    Args:
        source: the model.
        json_file: in COCO's format.
        images: folder of its images.

    Raises:
        DataError: the set is wrong, or has other classes than the model.
    """

    def __init__(self, source: ModelSource, json_file: Path, images: Path) -> None:
        self.name = json_file.stem
        self.cfg = source.cfg.clone()
        self.cfg.defrost()
        self.cfg.DATASETS.CUSTOM = [[self.name, str(json_file), str(images)]]
        self.cfg.DATASETS.TRAIN = self.cfg.DATASETS.TEST = (self.name,)
        self.cfg.DATALOADER.NUM_WORKERS = 0
        # The set has objects alone.
        self.cfg.TEST.PANOPTIC_QUALITY = False
        prepare_data(self.cfg, training=False)
        classes, names = MetadataCatalog.get(self.name).thing_classes, source.class_names
        if list(classes) != list(names):
            raise DataError(
                f"{json_file} has the classes {listing(classes)}, and the model {listing(names)}; name a set with "
                "the model's classes, in their order."
            )

    def pictures(self, most: int) -> list[Path]:
        """Return the files of at most ``most`` pictures from all over the set."""
        files = [Path(entry["file_name"]) for entry in DatasetCatalog.get(self.name)]
        return files[:: -(-len(files) // most)]

    def average_precision(self, detector: Any) -> dict[str, float]:
        """Return the AP of each task, in points.

        Args:
            detector: the model, or a file as one.
        """
        with tempfile.TemporaryDirectory() as folder:
            metrics = evaluate(self.cfg, detector, Path(folder))[self.name]
        return {task: values["AP"] for task, values in metrics.items()}
