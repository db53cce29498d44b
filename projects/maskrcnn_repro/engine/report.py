"""What a run shows of an evaluation: a table in the log, ``results.json`` and a picture."""

from __future__ import annotations

import json
import logging
import math
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maskrcnn_repro._backend import BACKEND
from maskrcnn_repro.analysis.page import PAGE, write_page
from maskrcnn_repro.checkpoint.folder import BEST
from maskrcnn_repro.data.loader import image_files
from maskrcnn_repro.engine.saving import HISTORY
from maskrcnn_repro.errors import UserError, did_you_mean
from maskrcnn_repro.evaluation.coco import Metrics, flat, predictions_file
from maskrcnn_repro.evaluation.panoptic import RESULTS
from maskrcnn_repro.evaluation.table import PANOPTIC, metrics_table, summary
from maskrcnn_repro.utils.hashes import weights_digest
from maskrcnn_repro.utils.provenance import Progress, write_results
from maskrcnn_repro.visualization.panoptic import write_panoptic_sheet
from maskrcnn_repro.visualization.sheet import write_sheet

from detectron2.config import CfgNode
from detectron2.evaluation.testing import flatten_results_dict
from detectron2.utils import comm
from torch import nn

logger = logging.getLogger(__name__)
PICTURE = "predictions.png"
PANOPTIC_PICTURE = "panoptic.png"


def evaluation_folder(cfg: CfgNode) -> Path:
    """Return where predictions go, and all files of an evaluation alone."""
    return Path(cfg.OUTPUT_DIR) / "inference"


def write_report(
    cfg: CfgNode,
    metrics: Metrics,
    folder: Path,
    progress: Progress,
    seconds: float,
    model: nn.Module,
) -> dict[str, Any]:
    """Log the metrics of an evaluation and write ``results.json`` and the picture; in the main process.

    Args:
        cfg: the config.
        metrics: of each data set.
        folder: for the two files.
        progress: of the model.
        seconds: that the evaluation took.
        model: that was evaluated, not in DistributedDataParallel.

    Returns:
        The metrics by task, or by data set and task if there are several sets.
    """
    for name, tasks in metrics.items():
        logger.info("%s after %d iterations:\n%s", name, progress.iterations, metrics_table(tasks))
    write_results(
        folder / "results.json",
        cfg,
        progress,
        eval_seconds=seconds,
        metrics=metrics,
        weights_sha256=weights_digest(model.state_dict()),
    )
    _draw(cfg, metrics, folder, progress)
    return flat(metrics)


def check_expected(cfg: CfgNode, results: Mapping[str, Any]) -> None:
    """In the main process, raise UserError unless metrics are those of ``TEST.EXPECTED_RESULTS``.

    Args:
        cfg: the config.
        results: of the last evaluation, as :func:`write_report` returns them.
    """
    if not comm.is_main_process():
        return
    values = flatten_results_dict(results)
    for task, metric, points, tolerance in cfg.TEST.EXPECTED_RESULTS:
        name = f"{task}/{metric}"
        if name not in values:
            raise UserError(
                f"TEST.EXPECTED_RESULTS has {name}, which the evaluation does not give.{did_you_mean(name, values)}"
            )
        # NaN compares false with everything.
        if not abs(values[name] - points) <= tolerance:
            raise UserError(
                f"{name} is {values[name]:.4g}, but TEST.EXPECTED_RESULTS has {points:g} ± {tolerance:g}."
            )


def write_errors(cfg: CfgNode, folder: Path) -> None:
    """Write the page that shows where a trained model errs; why there is none goes into the log."""
    if not cfg.DATASETS.TEST:
        return
    try:
        write_page(folder)
    except UserError as error:
        logger.warning("No page of errors: %s", error)


def say_where(cfg: CfgNode, folder: Path) -> None:
    """Print where the files of a finished run lie."""
    results = folder / "results.json"
    if cfg.DATASETS.TEST and results.is_file():
        print(f"Results: {results}", flush=True)
    if best := best_so_far(cfg):
        print(best, flush=True)
    picture, weights = folder / PICTURE, Path(cfg.OUTPUT_DIR) / "model_final.pth"
    if cfg.DATASETS.TEST and cfg.TEST.SHEET_IMAGES > 0 and picture.is_file():
        print(f"Picture of predictions beside ground truth: {picture}", flush=True)
    elif weights.is_file():
        print(f"Weights: {weights}", flush=True)
    if (folder / PAGE).is_file():
        print(f"Where it errs: {folder / PAGE}", flush=True)
        words = shlex.join(["maskrcnn", "predict", str(folder)])
        print(f"To use it: {words} FOLDER_OF_PICTURES", flush=True)


def best_so_far(cfg: CfgNode) -> str:
    """Return a sentence about OUTPUT_DIR's best weights; empty if none were kept."""
    weights = Path(cfg.OUTPUT_DIR) / f"{BEST}.pth"
    try:
        content = json.loads((weights.parent / HISTORY).read_text(encoding="utf-8"))
        done, value = max(
            content["evaluations"], key=lambda row: -math.inf if row[1] is None else row[1]
        )
    except (OSError, ValueError, LookupError, TypeError):
        return ""
    if value is None or not (cfg.TEST.BEST_METRIC and weights.is_file()):
        return ""
    return f"Best weights, {content['metric']} {value:.1f} after {done} iterations: {weights}"


def _draw(cfg: CfgNode, metrics: Metrics, folder: Path, progress: Progress) -> None:
    if cfg.TEST.SHEET_IMAGES <= 0:
        return
    name = cfg.DATASETS.TEST[0]
    predictions = predictions_file(evaluation_folder(cfg), name, metrics[name])
    if not predictions.is_file():  # an evaluator of the user's own need not write them
        logger.warning("No picture is drawn: the evaluator wrote no %s.", predictions)
        return
    write_sheet(
        folder / PICTURE,
        dataset=name,
        predictions=predictions,
        images=cfg.TEST.SHEET_IMAGES,
        files=image_files(cfg),
        skip_broken=cfg.DATALOADER.SKIP_BROKEN,
        threshold=cfg.TEST.SHEET_SCORE_THRESH,
        metrics=metrics[name],
        caption=f"{progress.iterations} iterations · {BACKEND} · {name}",
    )
    if PANOPTIC in metrics[name]:
        write_panoptic_sheet(
            folder / PANOPTIC_PICTURE,
            dataset=name,
            results=predictions.with_name(RESULTS),
            images=cfg.TEST.SHEET_IMAGES,
            title=summary({PANOPTIC: metrics[name][PANOPTIC]}),
            caption=f"{progress.iterations} iterations · {BACKEND} · {name}",
            files=image_files(cfg),
        )
