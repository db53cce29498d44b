"""Evaluation of panoptic maps: written in COCO's format, measured by PQ, SQ and RQ."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from maskrcnn_repro.data.panoptic.files import read_ids, write_ids
from maskrcnn_repro.data.panoptic.truth import PanopticTruth, open_truth
from maskrcnn_repro.errors import ConfigError, DataError
from maskrcnn_repro.evaluation.panoptic_quality import PanopticQuality
from maskrcnn_repro.evaluation.table import PANOPTIC
from maskrcnn_repro.utils.files import write_text

import numpy as np
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm

RESULTS = "panoptic_results.json"
FOLDER = "panoptic_results"
"""Of the PNG files: the name of the JSON without its suffix, where COCO's evaluator looks for them."""


class PanopticEvaluator(DatasetEvaluator):
    """Measures panoptic maps; the results have the task ``panoptic``, see :meth:`PanopticQuality.metrics`.

    ``panoptic_results.json`` and the PNG files in ``panoptic_results/`` are what COCO's evaluator takes. Images that are
    annotated, but were not predicted, do not count.

    Args:
        dataset_name: registered, with panoptic labels.
        output_dir: folder of the results.
    """

    def __init__(self, dataset_name: str, output_dir: str | Path) -> None:
        self.dataset, self.folder = dataset_name, Path(output_dir)
        self.truth: PanopticTruth = open_truth(dataset_name)
        labels = MetadataCatalog.get(dataset_name).get("stuff_dataset_id_to_contiguous_id")
        stuff = labels or self.truth.categories.labels()
        self._ids = {
            True: dict(enumerate(self.truth.categories.things)),
            False: {label: category for category, label in stuff.items()},
        }
        self.reset()

    def reset(self) -> None:
        """Forget all predictions."""
        self._annotations: list[dict[str, Any]] = []
        self._images: list[dict[str, Any]] = []
        self._quality = self._empty()

    def _empty(self) -> PanopticQuality:
        return PanopticQuality({i: i in self.truth.categories.things for i in self.truth.names})

    def process(self, inputs: Iterable[dict[str, Any]], outputs: Iterable[dict[str, Any]]) -> None:
        """Count and write a batch: dicts with ``file_name``, and with ``panoptic_seg`` as a panoptic model gives it.

        Raises:
            ConfigError: the model makes no panoptic maps.
            DataError: an image is not annotated.
        """
        for item, output in zip(inputs, outputs, strict=True):
            if "panoptic_seg" not in output:
                raise ConfigError(
                    "TEST.PANOPTIC_QUALITY is True, but the model makes no panoptic maps; set it to False."
                )
            ids, infos = output["panoptic_seg"]
            segments = [
                {"id": info["id"], "category_id": self._ids[info["isthing"]][info["category_id"]]}
                for info in infos
            ]
            self._add(item, ids.cpu().numpy().astype(np.int64), segments)

    def _add(self, item: dict[str, Any], ids: Any, segments: list[dict[str, int]]) -> None:
        annotation = self.truth.of(item["file_name"])
        truth = read_ids(self.truth.folder / annotation["file_name"])
        try:
            self._quality.add(truth, annotation["segments_info"], ids, segments)
        except DataError as error:
            raise DataError(f"Image {item['file_name']}: {error}") from error
        file = f"{Path(annotation['file_name']).stem}.png"
        write_ids(self.folder / FOLDER / file, ids)
        image = {"id": annotation["image_id"], "file_name": Path(item["file_name"]).name}
        self._images.append(image)
        identity = {"image_id": annotation["image_id"], "file_name": file}
        self._annotations.append({**identity, "segments_info": segments})

    def evaluate(self) -> dict[str, dict[str, float]]:
        """Write the results file and return the metrics in the main process; nothing in the others."""
        parts = comm.gather((self._images, self._annotations, self._quality))
        if not comm.is_main_process():
            return {}
        tree = {
            "images": [image for images, _, _ in parts for image in images],
            "annotations": [entry for _, entries, _ in parts for entry in entries],
            "categories": self.truth.entries,
        }
        write_text(self.folder / RESULTS, json.dumps(tree))
        quality = self._empty()
        quality.merge([part for *_, part in parts])
        return {PANOPTIC: quality.metrics(self.truth.names)}
