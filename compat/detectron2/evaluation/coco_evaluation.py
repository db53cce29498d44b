"""COCO's metrics for boxes, masks, keypoints and proposals.

Metrics are in points, 0 to 100. NaN: there is nothing to measure, such as no large object in the
data.

Legend: T = IoU thresholds, R = recall thresholds, K = categories, A = area ranges, M = limits of
detections per image; N = instances of an image, H, W = height and width of the original image.
"""

import contextlib
import io
import itertools
import json
import logging
import os
import pickle
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pycocotools.mask as mask_util
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from tabulate import tabulate

from detectron2._absent import module_getattr
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.data.datasets.coco import convert_to_coco_json
from detectron2.structures import BoxMode, Instances
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager
from detectron2.utils.logger import create_small_table

from ._box_proposals import AREAS, average_recall
from .evaluator import DatasetEvaluator
from .fast_eval_api import COCOeval_opt

__all__ = ["COCOEvaluator"]

_logger = logging.getLogger(__name__)

_ANY = slice(None)
_AP = {"AP": (_ANY, 0), "AP50": (0, 0), "AP75": (5, 0)}
_BOXES = _AP | {f"AP{size}": (_ANY, area) for area, size in enumerate("sml", start=1)}
_METRICS = {
    "bbox": _BOXES,
    "segm": _BOXES,
    "keypoints": _AP | {"APm": (_ANY, 1), "APl": (_ANY, 2)},  # there are no small ones
}
"""For each task, which thresholds (T) and which area range (A) a metric averages over."""


class COCOEvaluator(DatasetEvaluator):
    """Evaluates detections, and proposals, on a registered data set.

    Args:
        dataset_name: its metadata have "json_file"; any other data set is converted first.
        tasks: of "bbox", "segm" and "keypoints"; None takes what the model predicts.
        distributed: collect the predictions of all processes.
        output_dir: folder for ``instances_predictions.pth`` (as collected),
            ``coco_instances_results.json`` (COCO's result format) and ``box_proposals.pkl``; None
            writes nothing.
        max_dets_per_image: limit for boxes and masks; None takes COCO's 100.
        use_fast_impl: use faster-coco-eval; the numbers are the same.
        kpt_oks_sigmas: one per keypoint; empty takes COCO's, for its 17.
        allow_cached_coco: a data set converted earlier may be used again.

    Raises:
        ValueError: the data set must be converted, and there is no `output_dir`.
    """

    def __init__(
        self,
        dataset_name: str,
        tasks: Sequence[str] | CfgNode | None = None,
        distributed: bool = True,
        output_dir: str | None = None,
        *,
        max_dets_per_image: int | None = None,
        use_fast_impl: bool = True,
        kpt_oks_sigmas: Sequence[float] = (),
        allow_cached_coco: bool = True,
    ):
        if isinstance(tasks, CfgNode):
            _logger.warning("COCOEvaluator(name, cfg) is deprecated; pass explicit arguments")
            kpt_oks_sigmas = kpt_oks_sigmas or tasks.TEST.KEYPOINT_OKS_SIGMAS
            tasks = None
        self._tasks, self._kpt_oks_sigmas = tasks, kpt_oks_sigmas
        self._max_dets = [1, 10, max_dets_per_image or 100]  # COCO averages recall at 1 and 10, too
        self._eval_class = COCOeval_opt if use_fast_impl else COCOeval
        self._gathers, self._folder = distributed, output_dir

        metadata = self._metadata = MetadataCatalog.get(dataset_name)
        if metadata.get("json_file") is None:
            if output_dir is None:
                raise ValueError(f"output_dir is needed to convert {dataset_name} to COCO's format")
            converted = os.path.join(output_dir, f"{dataset_name}_coco_format.json")
            convert_to_coco_json(dataset_name, converted, allow_cached=allow_cached_coco)
            metadata.json_file = converted
        with contextlib.redirect_stdout(io.StringIO()):
            self._coco_api = COCO(PathManager.get_local_path(metadata.json_file))
        self.reset()

    def reset(self) -> None:
        """Forget all predictions."""
        self._predictions: list[dict[str, Any]] = []

    def process(self, inputs: Iterable[dict[str, Any]], outputs: Iterable[dict[str, Any]]) -> None:
        """Take a batch.

        Args:
            inputs: dicts with "image_id".
            outputs: dicts with "instances" or "proposals", in pixels of the original image.
        """
        for image, output in zip(inputs, outputs, strict=False):
            image_id = image["image_id"]
            prediction: dict[str, Any] = {}
            if "instances" in output:
                instances = output["instances"].to("cpu")
                prediction["instances"] = instances_to_coco_json(instances, image_id)
            if "proposals" in output:
                prediction["proposals"] = output["proposals"].to("cpu")
            if prediction:
                self._predictions.append({"image_id": image_id} | prediction)

    def evaluate(self, img_ids: Sequence[Any] | None = None) -> dict[str, Any]:
        """Return task to metrics; empty without predictions, and on all but the main process.

        Args:
            img_ids: evaluate these images alone.

        Raises:
            AssertionError: a class or task that the data set does not have.
        """
        images = self._predictions
        if self._gathers:
            comm.synchronize()
            images = list(itertools.chain.from_iterable(comm.gather(images)))
        if not images:
            if comm.is_main_process():
                _logger.warning("COCOEvaluator has no predictions to evaluate")
            return {}
        detections = self._in_dataset_categories(images) if "instances" in images[0] else None
        if self._folder:
            self._write_files(images, detections)
        if "annotations" not in self._coco_api.dataset:
            _logger.info("The data set has no annotations, so there are no metrics")
            return {}

        results: dict[str, dict[str, float]] = {}
        if "proposals" in images[0]:
            results["box_proposals"] = {
                f"AR{'' if area == 'all' else area[0]}@{limit}": 100
                * average_recall(images, self._coco_api, area, limit)
                for limit in (100, 1000)
                for area in AREAS
            }
        if detections is not None:
            for task in sorted(self._tasks or _predicted_tasks(detections)):
                results[task] = self._evaluate_task(task, detections, img_ids)
        for task, metrics in results.items():
            shown = {name: value for name, value in metrics.items() if "-" not in name}
            _logger.info("Evaluation results for %s:\n%s", task, create_small_table(shown))
        return results

    def _in_dataset_categories(self, images: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return all detections, with the data set's categories for classes 0 to K - 1."""
        to_class = self._metadata.get("thing_dataset_id_to_contiguous_id", {})
        categories = {class_: category for category, class_ in to_class.items()}
        detections = []
        for prediction in itertools.chain.from_iterable(image["instances"] for image in images):
            class_ = prediction["category_id"]
            if categories and class_ not in categories:
                valid = f"{len(categories)} classes in [0, {len(categories) - 1}]"
                raise AssertionError(f"A prediction has class={class_}; the data set has {valid}")
            detections.append(prediction | {"category_id": categories.get(class_, class_)})
        return detections

    def _write_files(self, images: list[dict[str, Any]], detections: list | None) -> None:
        PathManager.mkdirs(self._folder)
        with self._open("instances_predictions.pth") as file:
            torch.save(images, file)
        if detections is not None:
            with self._open("coco_instances_results.json") as file:
                file.write(json.dumps(detections).encode())
        if "proposals" in images[0]:
            proposals = [image["proposals"] for image in images]
            stored = {
                "ids": [image["image_id"] for image in images],
                "boxes": [each.proposal_boxes.tensor.numpy() for each in proposals],
                "objectness_logits": [each.objectness_logits.numpy() for each in proposals],
                "bbox_mode": BoxMode.XYXY_ABS.value,
            }
            with self._open("box_proposals.pkl") as file:
                pickle.dump(stored, file)

    def _open(self, name: str) -> Any:
        return PathManager.open(os.path.join(self._folder, name), "wb")

    def _evaluate_task(self, task: str, detections: list, img_ids: Any) -> dict[str, float]:
        if task not in _METRICS:
            raise AssertionError(f"Got unknown task: {task!r}; choose from {tuple(_METRICS)}")
        if not detections:  # COCO's code needs some
            _logger.warning("No predictions from the model!")
            return dict.fromkeys(_METRICS[task], float("nan"))
        precision_TRKA = self._precision(task, detections, img_ids)
        metrics = {
            name: _mean_in_points(precision_TRKA[thresholds, :, :, area])
            for name, (thresholds, area) in _METRICS[task].items()
        }
        names = self._metadata.get("thing_classes") or []
        if len(names) <= 1:
            return metrics
        by_class_KTR = precision_TRKA[..., 0].transpose(2, 0, 1)
        by_class = dict(zip(names, map(_mean_in_points, by_class_KTR), strict=True))
        rows = by_class.items()
        table = tabulate(rows, ["category", "AP"], "pipe", floatfmt=".3f", numalign="left")
        _logger.info("Per-category %s AP:\n%s", task, table)
        return metrics | {f"AP-{name}": value for name, value in by_class.items()}

    def _precision(self, task: str, detections: list, img_ids: Any) -> np.ndarray:
        """Return COCO's precisions (T, R, K, A) with the largest limit of detections."""
        # COCO's API writes into its input. And it would measure a mask by the area of its box.
        skipped = {"bbox"} if task == "segm" else set()
        copies = [{k: v for k, v in entry.items() if k not in skipped} for entry in detections]
        coco_eval = self._eval_class(self._coco_api, self._coco_api.loadRes(copies), task)
        params = coco_eval.params
        if img_ids is not None:
            params.imgIds = img_ids
        if task != "keypoints":
            params.maxDets = self._max_dets
        else:
            params.kpt_oks_sigmas = np.array(self._kpt_oks_sigmas or params.kpt_oks_sigmas)
            examples = detections[0], next(iter(self._coco_api.anns.values()))
            counts = [len(each["keypoints"]) // 3 for each in examples]
            counts.append(len(params.kpt_oks_sigmas))
            if len(set(counts)) > 1:
                what = "keypoints of predictions and annotations, TEST.KEYPOINT_OKS_SIGMAS"
                raise AssertionError(f"{what}: their numbers differ, {counts}")
        coco_eval.evaluate()
        coco_eval.accumulate()
        if params.maxDets[-1] in (20, 100):  # the limits that COCO's own table knows
            coco_eval.summarize()
        return coco_eval.eval["precision"][..., -1]


def _predicted_tasks(detections: Iterable[dict[str, Any]]) -> set[str]:
    keys = set().union(*detections)
    tasks = {"segm": "segmentation", "keypoints": "keypoints"}
    return {"bbox"} | {task for task, key in tasks.items() if key in keys}


def _mean_in_points(precision: np.ndarray) -> float:
    valid = precision[precision > -1]
    return float(100 * valid.mean()) if valid.size else float("nan")


def instances_to_coco_json(instances: Instances, img_id: Any) -> list[dict[str, Any]]:
    """Turn the detections of one image into entries of COCO's result format.

    Args:
        instances: "pred_boxes" (xyxy, pixels of the original image), "scores", "pred_classes", and
            perhaps "pred_masks" (N, H, W) and "pred_keypoints" (N, keypoints, 3); on the CPU.
        img_id: put into every entry.

    Returns:
        Entries with "bbox" as xywh. Keypoints are pixel indices there, not continuous coordinates,
        hence less by 0.5.
    """
    if len(instances) == 0:
        return []
    boxes = BoxMode.convert(instances.pred_boxes.tensor, BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)
    columns = {
        "category_id": instances.pred_classes.tolist(),
        "bbox": boxes.tolist(),
        "score": instances.scores.tolist(),
    }
    if instances.has("pred_masks"):
        columns["segmentation"] = [_encode(mask) for mask in instances.pred_masks]
    if instances.has("pred_keypoints"):
        shift = instances.pred_keypoints.new_tensor([0.5, 0.5, 0.0])
        columns["keypoints"] = (instances.pred_keypoints - shift).flatten(1).tolist()
    return [
        {"image_id": img_id} | dict(zip(columns, values, strict=True))
        for values in zip(*columns.values(), strict=True)
    ]


def _encode(mask: torch.Tensor) -> dict[str, Any]:
    rle = mask_util.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": rle["size"], "counts": rle["counts"].decode("ascii")}  # JSON has no bytes


__getattr__ = module_getattr(__name__)
