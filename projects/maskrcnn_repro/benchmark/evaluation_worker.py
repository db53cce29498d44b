"""Worker process of the evaluation benchmark: measures the AP of generated detections on request.

Run as ``python -m maskrcnn_repro.benchmark.evaluation_worker``; see :mod:`maskrcnn_repro.benchmark.worker` for the
protocol.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from maskrcnn_repro.benchmark.detections import detections, ground_truth
from maskrcnn_repro.benchmark.worker import serve
from maskrcnn_repro.evaluation.fast_coco import FastCOCOeval
from maskrcnn_repro.utils.provenance import code_origin

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

REQUESTS = ("bbox", "segm", "numbers")


def _detectron2() -> type[Any]:
    from detectron2.evaluation.fast_eval_api import COCOeval_opt

    return COCOeval_opt


CONTESTANTS: dict[str, Callable[[], type[Any]]] = {
    "ours": lambda: FastCOCOeval,
    "pycocotools": lambda: COCOeval,
    "Detectron2": _detectron2,
}
"""Name of a contestant -> what returns its evaluation, a class like ``COCOeval``."""


@dataclass(frozen=True)
class Task:
    """A contestant and its data."""

    contestant: str
    """A key of :data:`CONTESTANTS`."""
    images: int
    detections: int


class Bench:
    """Loaded ground truth and detections."""

    def __init__(self, task: Task) -> None:
        data, objects = ground_truth(task.images)
        self.truth = COCO()
        self.truth.dataset = data
        self.truth.createIndex()
        results = detections(objects, task.images, task.detections)
        masks = [{k: v for k, v in entry.items() if k != "bbox"} for entry in results]
        boxes = [{k: v for k, v in entry.items() if k != "segmentation"} for entry in results]
        self.results = {"bbox": self.truth.loadRes(boxes), "segm": self.truth.loadRes(masks)}
        self.evaluation = CONTESTANTS[task.contestant]()
        self._numbers: dict[str, list[float]] = {}

    def bbox(self) -> float:
        """Return the seconds that the AP of boxes takes."""
        return self._seconds("bbox")

    def segm(self) -> float:
        """Return the seconds that the AP of masks takes."""
        return self._seconds("segm")

    def _seconds(self, task: str) -> float:
        begin = time.perf_counter()
        evaluation = self.evaluation(self.truth, self.results[task], task)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        seconds = time.perf_counter() - begin
        precision = np.asarray(evaluation.eval["precision"])
        by_category = precision.mean(axis=(0, 1)).ravel()
        self._numbers[task] = [*np.asarray(evaluation.stats)[:12].tolist(), *by_category.tolist()]
        return seconds

    def numbers(self) -> dict[str, list[float]]:
        """Return COCO's twelve numbers and those of each category, area and limit, of each task."""
        return self._numbers

    def describe(self) -> dict[str, Any]:
        """Return the origin of the code."""
        return {"origin": code_origin()}


def main() -> None:
    """Serve requests until the end of input."""
    serve(lambda task: Bench(Task(**task)), REQUESTS)


if __name__ == "__main__":
    main()
