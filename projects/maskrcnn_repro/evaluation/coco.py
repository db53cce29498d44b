"""Box, mask and keypoint AP and recall of proposals, by Detectron2's COCOEvaluator and compiled COCO code."""

from __future__ import annotations

import contextlib
import io
import json
import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from maskrcnn_repro.data.loader import build_test_loader
from maskrcnn_repro.errors import ConfigError
from maskrcnn_repro.evaluation.boundary import BoundaryEvaluation
from maskrcnn_repro.evaluation.classification import AccuracyEvaluator
from maskrcnn_repro.evaluation.densepose import DensePoseEvaluator
from maskrcnn_repro.evaluation.fast_coco import FastCOCOEvaluator
from maskrcnn_repro.evaluation.mask_scores import has_mask_scores
from maskrcnn_repro.evaluation.panoptic import PanopticEvaluator
from maskrcnn_repro.evaluation.rle_evaluator import RLEEvaluator, mask_metrics
from maskrcnn_repro.evaluation.table import PROPOSALS
from maskrcnn_repro.evaluation.traps import correct
from maskrcnn_repro.modeling.classifier import BackboneClassifier
from maskrcnn_repro.modeling.tta import TestTimeAugmentation

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator, DatasetEvaluators, inference_on_dataset
from torch import nn

logger = logging.getLogger(__name__)
Metrics = dict[str, dict[str, dict[str, float]]]
"""Data set, task (``bbox``, ``segm``, ``keypoints``), metric (``AP``, ``AP50`` …): points, 0 to 100.

A region proposal network has the task ``box_proposals`` with ``AR@100``, ``ARs@100`` … ``ARl@1000``.
"""


CHECKPOINTS = "checkpoints"
"""Folder of evaluations of periodic checkpoints, in that of a run's evaluations."""
_SHAPE = 'it must return numbers as {"task": {"metric": 12.3}}'


def evaluate(
    cfg: CfgNode,
    model: nn.Module,
    folder: Path,
    *,
    loader_of: Callable[[CfgNode, str], Iterable[list[dict[str, Any]]]] = build_test_loader,
    evaluator_of: Callable[[CfgNode, str, Path], DatasetEvaluator] | None = None,
) -> Metrics:
    """Evaluate ``model`` on every set of ``cfg.DATASETS.TEST``; called in every process.

    Args:
        cfg: the config.
        model: a Detectron2 model; left in the mode (training or not) that it was in.
        folder: each set's predictions go to a folder of its name in here.
        loader_of: takes the config and a data set's name and returns its loader.
        evaluator_of: takes these two and the set's folder and returns its evaluator; by default
            :func:`build_evaluator`.

    Returns:
        The metrics in the main process; empty ones in the others.
    """
    metrics = {}
    for name in cfg.DATASETS.TEST:
        # First: loading may write the JSON that the evaluator reads (generated data).
        loader = loader_of(cfg, name)
        evaluator = (evaluator_of or build_evaluator)(cfg, name, folder / name)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):  # the COCO code prints its tables
            results = inference_on_dataset(detector_of(cfg, model, name), loader, evaluator)
            metrics[name] = _numbers(results, f"{type(evaluator).__name__}.evaluate")
            _correct(cfg, metrics[name], name, folder)
            if cfg.TEST.BOUNDARY_AP and "segm" in metrics[name]:
                metrics[name] |= _boundary_metrics(metrics[name], name, folder)
        logger.debug("%s", printed.getvalue())
    return {name: dict(tasks) for name, tasks in metrics.items()}


def _numbers(tasks: Any, source: str) -> dict[str, dict[str, Any]]:
    """Return metrics as plain numbers, which JSON knows; NumPy and PyTorch have others.

    Raises:
        ConfigError: ``source`` returned something else than metrics.
    """
    if not isinstance(tasks, Mapping):
        raise ConfigError(f"{source} returns {tasks!r:.100}; {_SHAPE}.")
    return {task: _numbers_of_task(task, values, source) for task, values in tasks.items()}


def _numbers_of_task(task: str, values: Any, source: str) -> dict[str, Any]:
    if not isinstance(values, Mapping):
        raise ConfigError(f"{source} returns {values!r:.100} for {task!r}; {_SHAPE}.")
    plain = {}
    for metric, value in values.items():
        try:
            plain[metric] = value if isinstance(value, int | float) else float(value.item())
        except (AttributeError, RuntimeError, TypeError, ValueError):
            raise ConfigError(
                f"{source} returns {value!r:.100} for {task!r}, {metric!r}; {_SHAPE}."
            ) from None
    return plain


def _correct(cfg: CfgNode, metrics: dict[str, Any], name: str, folder: Path) -> None:
    """In the main process, put corrected metrics beside those of COCO's code, where a trap touches them."""
    predictions = predictions_file(folder, name, metrics)
    # Other processes have no metrics; an evaluator of the user's own need not write predictions.
    if metrics and PROPOSALS not in metrics and predictions.is_file():
        correct(
            metrics,
            Path(MetadataCatalog.get(name).json_file),
            predictions,
            kept=cfg.TEST.DETECTIONS_PER_IMAGE,
            oks_sigmas=cfg.TEST.KEYPOINT_OKS_SIGMAS,
        )


def _boundary_metrics(metrics: dict[str, Any], name: str, folder: Path) -> dict[str, Any]:
    """Return the task ``boundary``; without predictions, which an evaluator of the user's own need not write, none."""
    file = predictions_file(folder, name, metrics)
    if not file.is_file():
        # No error: it would lose the metrics of a whole evaluation.
        logger.warning("Without %s there is no boundary AP, which TEST.BOUNDARY_AP asks for.", file)
        return {}
    metadata = MetadataCatalog.get(name)
    names = metadata.get("thing_classes") or ()
    results = json.loads(file.read_text("utf-8"))
    return {"boundary": mask_metrics(metadata.json_file, results, names, kind=BoundaryEvaluation)}


def build_evaluator(cfg: CfgNode, name: str, folder: Path) -> DatasetEvaluator:
    """Return Detectron2's evaluator of what the model predicts on a data set, or the one of RLE masks and of their scores.

    A classifier's is :class:`AccuracyEvaluator`.
    With ``TEST.PANOPTIC_QUALITY`` panoptic maps are evaluated beside it, with ``MODEL.DENSEPOSE_ON`` surface coordinates.

    Args:
        cfg: the config.
        name: of the data set.
        folder: predictions go there.
    """
    if cfg.MODEL.META_ARCHITECTURE == BackboneClassifier.__name__:
        return AccuracyEvaluator(name)
    rle = cfg.MODEL.INFERENCE.MASK_OUTPUT == "rle"
    encoded = cfg.MODEL.MASK_ON and (rle or has_mask_scores(cfg))
    instances = (RLEEvaluator if encoded else FastCOCOEvaluator)(
        name,
        # Detectron2 counts keypoints by the first object: without any there is nothing to measure.
        tasks=tuple(t for t in tasks_of(cfg) if t != "keypoints" or _has_objects(name)),
        output_dir=str(folder),
        kpt_oks_sigmas=cfg.TEST.KEYPOINT_OKS_SIGMAS,
    )
    further: list[DatasetEvaluator] = []
    if cfg.TEST.PANOPTIC_QUALITY:
        further.append(PanopticEvaluator(name, folder))
    if cfg.MODEL.DENSEPOSE_ON:
        further.append(DensePoseEvaluator(name, folder))
    return DatasetEvaluators([instances, *further]) if further else instances


def _has_objects(name: str) -> bool:
    file = MetadataCatalog.get(name).get("json_file")
    return file is None or bool(json.loads(Path(file).read_text("utf-8")).get("annotations"))


def detector_of(cfg: CfgNode, model: nn.Module, dataset: str) -> nn.Module:
    """Return what is evaluated on a data set: the model, or with ``TEST.AUG.ENABLED`` many views of it."""
    if not cfg.TEST.AUG.ENABLED:
        return model
    return TestTimeAugmentation(cfg, model=model, dataset=dataset)


def tasks_of(cfg: CfgNode) -> tuple[str, ...]:
    """Return COCO's names of what the model predicts."""
    heads = {"segm": cfg.MODEL.MASK_ON, "keypoints": cfg.MODEL.KEYPOINT_ON}
    return ("bbox", *(task for task, on in heads.items() if on))


def predictions_file(folder: Path, dataset: str, tasks: Iterable[str] = ()) -> Path:
    """Return what :func:`evaluate` wrote for a data set.

    Args:
        folder: as given there.
        dataset: name.
        tasks: those with metrics.

    Returns:
        The COCO results JSON or, of a region proposal network, Detectron2's file of proposals.
    """
    file = "box_proposals.pkl" if PROPOSALS in tasks else "coco_instances_results.json"
    return folder / dataset / file


def flat(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Drop the level of data sets if there is only one, as Detectron2's own trainer does."""
    return next(iter(metrics.values())) if len(metrics) == 1 else dict(metrics)
