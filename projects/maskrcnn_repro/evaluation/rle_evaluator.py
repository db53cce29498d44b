"""COCO evaluation of run-length encoded masks, without decoding them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from maskrcnn_repro.evaluation.fast_coco import FastCOCOeval, FastCOCOEvaluator
from maskrcnn_repro.evaluation.mask_scores import scored_for
from maskrcnn_repro.modeling.rle import encode_masks
from maskrcnn_repro.utils.files import write_text

import numpy as np
from detectron2.data import MetadataCatalog
from detectron2.structures import Instances
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager
from pycocotools.coco import COCO

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")
RESULTS = "coco_instances_results.json"


class RLEEvaluator(FastCOCOEvaluator):
    """Detectron2's ``COCOEvaluator``, but with ``pred_masks`` that may be run-length encoded already.

    Detectron2 would encode each mask from a bitmap of the whole image; metrics and results file are the same.
    Where detections have ``mask_scores``, masks are ranked by them, and entries of the file have a ``mask_score``.
    Boxes and keypoints are left to ``COCOEvaluator``.

    Args:
        dataset_name: registered, with a COCO JSON.
        tasks: of ``bbox``, ``segm`` and ``keypoints``.
        output_dir: folder of the results file.
        **options: other arguments of ``COCOEvaluator``.
    """

    def __init__(
        self, dataset_name: str, tasks: Sequence[str], output_dir: str, **options: Any
    ) -> None:
        self.folder = Path(output_dir)
        self.metadata = MetadataCatalog.get(dataset_name)
        self.with_masks = "segm" in tasks
        other_tasks = tuple(task for task in tasks if task != "segm")
        super().__init__(dataset_name, tasks=other_tasks, output_dir=output_dir, **options)

    def reset(self) -> None:
        """Forget all predictions."""
        super().reset()
        # Of each image, what masks add to the entries of its detections.
        self.encoded: list[list[dict[str, Any]]] = []

    def process(self, inputs: Iterable[dict[str, Any]], outputs: Iterable[dict[str, Any]]) -> None:
        """Collect a batch: dicts with ``image_id``, and with ``instances``, see the class."""
        without_masks = []
        for output in outputs:
            fields = dict(output["instances"].get_fields())
            if self.with_masks:
                parts = {"segmentation": encode_masks(fields.pop("pred_masks"))}
                if "mask_scores" in fields:
                    parts["mask_score"] = fields.pop("mask_scores").tolist()
                columns = zip(*parts.values(), strict=True)
                self.encoded.append([dict(zip(parts, row, strict=True)) for row in columns])
            instances = Instances(output["instances"].image_size, **fields)
            without_masks.append({"instances": instances})
        super().process(inputs, without_masks)

    def evaluate(self, img_ids: Sequence[int] | None = None) -> dict[str, Any]:
        """Return the metrics of each task in the main process, an empty dict in the others.

        Args:
            img_ids: evaluate only these images.
        """
        metrics = super().evaluate(img_ids)
        images = list(itertools.chain.from_iterable(comm.gather(self.encoded)))
        if not images:  # without masks, without predictions, or not the main process
            return metrics
        # Detectron2 wrote the results in the order in which it gathered the instances: that of the masks.
        file = self.folder / RESULTS
        results = json.loads(file.read_text(encoding="utf-8"))
        for entry, parts in zip(results, itertools.chain.from_iterable(images), strict=True):
            entry.update(parts)
        write_text(file, json.dumps(results))
        if not metrics:
            return metrics
        truth, names = self.metadata.json_file, self.metadata.get("thing_classes") or ()
        return {**metrics, "segm": mask_metrics(truth, results, names, img_ids=img_ids)}


def mask_metrics(
    truth: str,
    results: Sequence[dict[str, Any]],
    names: Sequence[str],
    *,
    kind: type = FastCOCOeval,
    img_ids: Sequence[int] | None = None,
) -> dict[str, float]:
    """Return the AP of masks as Detectron2 names it, in points; NaN where there is nothing to measure.

    Args:
        truth: the data set's JSON.
        results: entries of a COCO results file.
        names: of the classes; with more than one, each has its ``AP-name``.
        kind: ``COCOeval`` or what takes its place.
        img_ids: evaluate only these images.
    """
    if not results:  # pycocotools cannot load an empty list
        return dict.fromkeys(METRICS, float("nan"))
    coco = COCO(PathManager.get_local_path(truth))
    # With a box, COCO's code would measure a mask by the area of its box.
    ranked = scored_for("segm", results)
    masks = [{key: value for key, value in entry.items() if key != "bbox"} for entry in ranked]
    evaluation = kind(coco, coco.loadRes(masks), "segm")
    if img_ids is not None:
        evaluation.params.imgIds = img_ids
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    means = dict(zip(METRICS, map(_points, evaluation.stats), strict=False))
    # As Detectron2: of a single class the AP is that of the task.
    if len(names) > 1:
        # (thresholds, recalls, categories, areas, limits): all areas, the largest limit.
        precision = evaluation.eval["precision"][:, :, :, 0, -1]
        for index, name in enumerate(names):
            defined = precision[:, :, index][precision[:, :, index] > -1]
            means[f"AP-{name}"] = _points(defined.mean() if defined.size else -1.0)
    return means


def _points(value: np.floating | float) -> float:
    """Return a fraction in points, and NaN for COCO's -1: no object to measure."""
    return float(100 * value) if value > -1 else float("nan")
