"""Evaluation of a classifier of whole images."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Iterable, Sequence
from typing import Any

from maskrcnn_repro.data.registry import class_names
from maskrcnn_repro.evaluation.table import CLASSIFICATION

import numpy as np
from detectron2.data import DatasetCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.structures import BoxMode
from detectron2.utils import comm

logger = logging.getLogger(__name__)


class AccuracyEvaluator(DatasetEvaluator):
    """Measures how often the class with the highest score is that of the image's largest object.

    The results have the task ``classification`` with ``top1`` and ``top1-CLASS``, in percent; images without an
    object do not count.

    Args:
        dataset_name: registered; its images are loaded by ``DatasetCatalog``.
    """

    def __init__(self, dataset_name: str) -> None:
        self.names = class_names(dataset_name)
        self.labels = {
            record["image_id"]: label_of(record["annotations"])
            for record in DatasetCatalog.get(dataset_name)
        }
        self.reset()

    def reset(self) -> None:
        """Forget all predictions."""
        self._pairs: list[tuple[int | None, int]] = []

    def process(self, inputs: Iterable[dict[str, Any]], outputs: Iterable[dict[str, Any]]) -> None:
        """Count a batch: dicts with ``image_id``, and with ``class_scores``, a (K,) tensor."""
        for item, output in zip(inputs, outputs, strict=True):
            predicted = int(output["class_scores"].argmax())
            self._pairs.append((self.labels[item["image_id"]], predicted))

    def evaluate(self) -> dict[str, dict[str, float]]:
        """Return the metrics in the main process, and nothing in others; NaN where there is no image."""
        pairs = list(itertools.chain.from_iterable(comm.gather(self._pairs)))
        if not comm.is_main_process():
            return {}
        labelled = [(label, predicted) for label, predicted in pairs if label is not None]
        if left_out := len(pairs) - len(labelled):
            logger.warning(
                "Left out, as they have no object: %d of %d images", left_out, len(pairs)
            )
        metrics = {"top1": _percentage([label == predicted for label, predicted in labelled])}
        for index, name in enumerate(self.names):
            right = [predicted == index for label, predicted in labelled if label == index]
            metrics[f"top1-{name}"] = _percentage(right)
        return {CLASSIFICATION: metrics}


def label_of(annotations: Iterable[dict[str, Any]]) -> int | None:
    """Return the class of the object with the largest box, crowds left out; None without any.

    Args:
        annotations: those of a dataset dict.
    """
    areas = [
        (_area(annotation), annotation["category_id"])
        for annotation in annotations
        if not annotation.get("iscrowd", 0)
    ]
    return max(areas, key=lambda pair: pair[0])[1] if areas else None


def _area(annotation: dict[str, Any]) -> float:
    box = BoxMode.convert(annotation["bbox"], annotation["bbox_mode"], BoxMode.XYWH_ABS)
    return float(box[2] * box[3])


def _percentage(right: Sequence[bool]) -> float:
    return 100 * float(np.mean(right)) if right else math.nan
