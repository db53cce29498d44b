"""COCO's metrics for boxes, masks, keypoints and proposals.

Metrics are in points, 0 to 100. NaN: there is nothing to measure, such as no large object in the data.

Legend: T = IoU thresholds, R = recall thresholds, K = categories, A = area ranges, M = limits of detections per
image; N = instances of an image, H, W = height and width of the original image.
"""

import contextlib
import copy
import io
import itertools
import json
import logging
import os
import pickle
from collections import OrderedDict
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

try:
    from .fast_eval_api import COCOeval_opt
except ImportError:  # faster-coco-eval is not installed
    COCOeval_opt = COCOeval

_AP = ("AP", "AP50", "AP75")
METRICS = {
    "bbox": (*_AP, "APs", "APm", "APl"),
    "segm": (*_AP, "APs", "APm", "APl"),
    "keypoints": (*_AP, "APm", "APl"),
}
"""First entries of ``COCOeval.stats`` for each task; keypoints have no small objects."""


class COCOEvaluator(DatasetEvaluator):
    """Evaluates detections, and proposals, on a registered data set.

    Args:
        dataset_name: its metadata have "json_file"; any other data set is converted first.
        tasks: of "bbox", "segm" and "keypoints"; None takes what the model predicts.
        distributed: collect the predictions of all processes.
        output_dir: folder for ``instances_predictions.pth`` (as collected), ``coco_instances_results.json``
            (COCO's result format) and ``box_proposals.pkl``; None writes nothing.
        max_dets_per_image: limit for boxes and masks; None takes COCO's 100.
        use_fast_impl: use faster-coco-eval if it is installed; the numbers are the same.
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
        self._logger = logging.getLogger(__name__)
        self._distributed = distributed
        self._output_dir = output_dir
        self._max_dets = [1, 10, max_dets_per_image or 100]  # COCO averages recall at 1 and 10, too
        self._use_fast_impl = use_fast_impl and COCOeval_opt is not COCOeval
        if use_fast_impl and not self._use_fast_impl:
            self._logger.info("faster-coco-eval is not installed; using the official COCO eval.")
        if isinstance(tasks, CfgNode):
            self._logger.warning("COCOEvaluator(name, cfg) is deprecated; pass explicit arguments")
            kpt_oks_sigmas = kpt_oks_sigmas or tasks.TEST.KEYPOINT_OKS_SIGMAS
            tasks = None
        self._tasks = tasks
        self._kpt_oks_sigmas = kpt_oks_sigmas
        self._metadata = MetadataCatalog.get(dataset_name)
        if not hasattr(self._metadata, "json_file"):
            self._convert_dataset(dataset_name, allow_cached_coco)
        with contextlib.redirect_stdout(io.StringIO()):
            self._coco_api = COCO(PathManager.get_local_path(self._metadata.json_file))
        self._do_evaluation = "annotations" in self._coco_api.dataset  # a test set has none
        self.reset()

    def _convert_dataset(self, name: str, allow_cached: bool) -> None:
        if self._output_dir is None:
            raise ValueError(f"{name} is not in COCO format; output_dir is needed to convert it")
        self._logger.info("Trying to convert '%s' to COCO format ...", name)
        path = os.path.join(self._output_dir, f"{name}_coco_format.json")
        convert_to_coco_json(name, path, allow_cached=allow_cached)
        self._metadata.json_file = path

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
        """Return task to metrics; empty without predictions and on other processes than the main one.

        Args:
            img_ids: evaluate these images alone.

        Raises:
            AssertionError: a class or task that the data set does not have.
        """
        predictions = self._predictions
        if self._distributed:
            comm.synchronize()
            predictions = list(itertools.chain(*comm.gather(predictions, dst=0)))
            if not comm.is_main_process():
                return {}
        if not predictions:
            self._logger.warning("[COCOEvaluator] Did not receive valid predictions.")
            return {}
        if self._output_dir:
            with self._open("instances_predictions.pth", "wb") as file:
                torch.save(predictions, file)

        self._results: dict[str, Any] = OrderedDict()
        if "proposals" in predictions[0]:
            self._eval_box_proposals(predictions)
        if "instances" in predictions[0]:
            self._eval_predictions(predictions, img_ids)
        return copy.deepcopy(self._results)

    def _open(self, name: str, mode: str) -> Any:
        PathManager.mkdirs(self._output_dir)
        return PathManager.open(os.path.join(self._output_dir, name), mode)

    def _can_evaluate(self) -> bool:
        if not self._do_evaluation:
            self._logger.info("Annotations are not available for evaluation.")
        return self._do_evaluation

    def _eval_predictions(
        self, predictions: list[dict[str, Any]], img_ids: Sequence[Any] | None
    ) -> None:
        results = self._with_dataset_categories(
            itertools.chain.from_iterable(each["instances"] for each in predictions)
        )
        tasks = self._tasks or _predicted_tasks(results)
        for task in tasks:
            if task not in METRICS:
                raise AssertionError(f"Got unknown task: {task!r}; choose from {tuple(METRICS)}")
        if self._output_dir:
            with self._open("coco_instances_results.json", "w") as file:
                json.dump(results, file)
        if not self._can_evaluate():
            return
        kind = "unofficial" if self._use_fast_impl else "official"
        self._logger.info("Evaluating predictions with %s COCO API...", kind)
        for task in sorted(tasks):
            coco_eval = self._run_cocoeval(results, task, img_ids) if results else None
            self._results[task] = self._derive_metrics(coco_eval, task)

    def _with_dataset_categories(self, results: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        """Replace the model's classes, 0 to K - 1, by the data set's categories."""
        to_class = self._metadata.get("thing_dataset_id_to_contiguous_id")
        if to_class is None:
            return list(results)
        to_category = {class_: category for category, class_ in to_class.items()}
        renamed = []
        for result in results:
            class_ = result["category_id"]
            if class_ not in to_category:
                raise AssertionError(
                    f"A prediction has class={class_}, but the dataset only has {len(to_category)} "
                    f"classes and predicted class id should be in [0, {len(to_category) - 1}]."
                )
            renamed.append(result | {"category_id": to_category[class_]})
        return renamed

    def _run_cocoeval(
        self, results: list[dict[str, Any]], task: str, img_ids: Sequence[Any] | None
    ) -> COCOeval:
        # COCO's API writes into its input. And it would measure a mask by the area of its box.
        skipped = {"bbox"} if task == "segm" else set()
        detections = [{k: v for k, v in one.items() if k not in skipped} for one in results]
        evaluation_class = COCOeval_opt if self._use_fast_impl else COCOevalMaxDets
        coco_eval = evaluation_class(self._coco_api, self._coco_api.loadRes(detections), task)
        if img_ids is not None:
            coco_eval.params.imgIds = img_ids
        if task == "keypoints":
            self._set_keypoint_sigmas(coco_eval, detections)
        else:
            coco_eval.params.maxDets = self._max_dets
        coco_eval.evaluate()
        coco_eval.accumulate()
        coco_eval.summarize()
        return coco_eval

    def _set_keypoint_sigmas(self, coco_eval: COCOeval, detections: list[dict[str, Any]]) -> None:
        if self._kpt_oks_sigmas:
            coco_eval.params.kpt_oks_sigmas = np.array(self._kpt_oks_sigmas)
        annotation = next(iter(self._coco_api.anns.values()))
        counts = {
            "predictions": len(detections[0]["keypoints"]) // 3,
            "ground truth": len(annotation["keypoints"]) // 3,
            "TEST.KEYPOINT_OKS_SIGMAS": len(coco_eval.params.kpt_oks_sigmas),
        }
        if len(set(counts.values())) > 1:
            raise AssertionError(f"[COCOEvaluator] The numbers of keypoints differ: {counts}")

    def _derive_metrics(self, coco_eval: COCOeval | None, task: str) -> dict[str, float]:
        if coco_eval is None:
            self._logger.warning("No predictions from the model!")
            return dict.fromkeys(METRICS[task], float("nan"))
        values = [float(100 * value) if value >= 0 else float("nan") for value in coco_eval.stats]
        metrics = dict(zip(METRICS[task], values, strict=False))
        self._logger.info("Evaluation results for %s:\n%s", task, create_small_table(metrics))
        if not np.isfinite(list(metrics.values())).all():
            self._logger.info("Some metrics cannot be computed and are shown as NaN.")

        names = self._metadata.get("thing_classes") or []
        if len(names) <= 1:
            return metrics
        precision_KTR = coco_eval.eval["precision"][..., 0, -1].transpose(2, 0, 1)
        if len(names) != len(precision_KTR):
            raise AssertionError(
                f"metadata name {len(names)} thing_classes, the data set has {len(precision_KTR)}"
            )
        by_class = dict(zip(names, map(_mean_in_points, precision_KTR), strict=True))
        self._logger.info("Per-category %s AP:\n%s", task, _category_table(by_class))
        return metrics | {f"AP-{name}": value for name, value in by_class.items()}

    def _eval_box_proposals(self, predictions: list[dict[str, Any]]) -> None:
        if self._output_dir:
            proposals = [each["proposals"] for each in predictions]
            stored = {
                "ids": [each["image_id"] for each in predictions],
                "boxes": [each.proposal_boxes.tensor.numpy() for each in proposals],
                "objectness_logits": [each.objectness_logits.numpy() for each in proposals],
                "bbox_mode": BoxMode.XYXY_ABS.value,
            }
            with self._open("box_proposals.pkl", "wb") as file:
                pickle.dump(stored, file)
        if not self._can_evaluate():
            return
        self._logger.info("Evaluating bbox proposals ...")
        metrics = {}
        for limit, area in itertools.product((100, 1000), AREAS):
            suffix = "" if area == "all" else area[0]
            recall = average_recall(predictions, self._coco_api, area, limit)
            metrics[f"AR{suffix}@{limit}"] = 100 * recall
        self._logger.info("Proposal metrics:\n%s", create_small_table(metrics))
        self._results["box_proposals"] = metrics


def _predicted_tasks(results: Iterable[dict[str, Any]]) -> set[str]:
    keys = set().union(*results)
    tasks = {"segm": "segmentation", "keypoints": "keypoints"}
    return {"bbox"} | {task for task, key in tasks.items() if key in keys}


def _mean_in_points(precision: np.ndarray) -> float:
    valid = precision[precision > -1]
    return float(100 * valid.mean()) if valid.size else float("nan")


def _category_table(by_class: dict[str, float]) -> str:
    """Lay out up to three pairs of category and AP side by side, row by row."""
    cells = list(itertools.chain(*by_class.items()))
    width = min(6, len(cells))
    rows = [cells[start : start + width] for start in range(0, len(cells), width)]
    headers = ["category", "AP"] * (width // 2)
    return tabulate(rows, headers, tablefmt="pipe", floatfmt=".3f", numalign="left")


def instances_to_coco_json(instances: Instances, img_id: Any) -> list[dict[str, Any]]:
    """Turn the detections of one image into entries of COCO's result format.

    Args:
        instances: "pred_boxes" (xyxy, pixels of the original image), "scores", "pred_classes", and perhaps
            "pred_masks" (N, H, W) and "pred_keypoints" (N, keypoints, 3); on the CPU.
        img_id: put into every entry.

    Returns:
        Entries with "bbox" as xywh. Keypoints are pixel indices there, not continuous coordinates, hence less
        by 0.5.
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


class COCOevalMaxDets(COCOeval):
    """pycocotools' `COCOeval` whose AP holds for any limit of detections per image, not 100 alone."""

    def summarize(self) -> None:
        """Print the table of AP and AR and set ``stats``."""
        if not self.eval:
            raise RuntimeError("call accumulate() before summarize()")
        areas, limits = self.params.areaRngLbl, self.params.maxDets
        last = len(limits) - 1
        rows = [
            ("precision", None, 0, last),
            ("precision", 0.5, 0, last),
            ("precision", 0.75, 0, last),
        ]
        rows += [("precision", None, area, last) for area in range(1, len(areas))]
        rows += [("recall", None, 0, limit) for limit in range(len(limits))]
        if self.params.iouType == "keypoints":
            rows += [("recall", 0.5, 0, last), ("recall", 0.75, 0, last)]
        rows += [("recall", None, area, last) for area in range(1, len(areas))]
        self.stats = np.array([self._summarize_row(*row) for row in rows])

    def _summarize_row(self, measure: str, iou: float | None, area: int, limit: int) -> float:
        params = self.params
        values = self.eval[measure][..., area, limit]  # (T, R, K), or (T, K) for recall
        span = f"{params.iouThrs[0]:0.2f}:{params.iouThrs[-1]:0.2f}"
        if iou is not None:
            values, span = values[params.iouThrs == iou], f"{iou:0.2f}"
        values = values[values > -1]
        mean = float(values.mean()) if values.size else -1.0
        title, short = f"Average {measure.title()}", "AP" if measure == "precision" else "AR"
        print(
            f" {title:<18} ({short}) @[ IoU={span:<9} | area={params.areaRngLbl[area]:>6s} | "
            f"maxDets={params.maxDets[limit]:>3d} ] = {mean:0.3f}"
        )
        return mean


__getattr__ = module_getattr(__name__)
