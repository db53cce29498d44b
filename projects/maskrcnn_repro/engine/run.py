"""One run in one process: set up, train or evaluate, then metrics, results and a picture."""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from maskrcnn_repro._backend import BACKEND
from maskrcnn_repro.checkpoint.checkpointer import Checkpointer
from maskrcnn_repro.checkpoint.foreign_head import refuse_other_head
from maskrcnn_repro.engine.launch import agreed
from maskrcnn_repro.engine.setup import complete_config, enter_folder, start
from maskrcnn_repro.engine.trainer import laid_out, train
from maskrcnn_repro.errors import CheckpointError
from maskrcnn_repro.evaluation.coco import Metrics, evaluate, flat, predictions_file
from maskrcnn_repro.evaluation.table import metrics_table
from maskrcnn_repro.utils.provenance import Progress, write_results
from maskrcnn_repro.visualization.sheet import write_sheet

from detectron2.config import CfgNode
from detectron2.evaluation import verify_results
from detectron2.modeling import build_model
from detectron2.utils import comm
from torch import nn

logger = logging.getLogger(__name__)
PICTURE = "predictions.png"


def run(cfg: CfgNode, resume: bool, eval_only: bool) -> None:
    """Train, or with ``eval_only`` evaluate; called in every process of a run.

    Training writes into OUTPUT_DIR, an evaluation alone only below its ``inference`` folder.

    Raises:
        UserError: something that the user can mend.
    """
    cfg = agreed(lambda: complete_config(cfg, training=not eval_only))
    output = Path(cfg.OUTPUT_DIR)
    with ExitStack() as stack:
        fresh = not (resume or eval_only)
        agreed(lambda: enter_folder(stack, output, fresh=fresh))
        folder = evaluation_folder(cfg) if eval_only else output
        cfg = start(stack, cfg, folder, resume=resume and not eval_only)
        if eval_only:
            model, progress = load_trained(cfg, resume=resume)
            report(cfg, model, folder, progress)
        else:
            train(
                cfg,
                resume=resume,
                report=lambda model, progress: report(cfg, model, folder, progress),
            )
        if comm.is_main_process():
            _say_where(cfg, folder)


def load_trained(cfg: CfgNode, *, resume: bool) -> tuple[nn.Module, Progress]:
    """Return the model with the weights of :func:`weights_of`.

    Raises:
        CheckpointError: there are no weights, they do not fill the model, or they are of another C4 head.
    """
    path = weights_of(cfg, resume=resume)
    refuse_other_head(cfg, path)
    model = laid_out(cfg, build_model(cfg))
    logger.info("Weights: %s", path)
    checkpointer = Checkpointer(model, cfg.OUTPUT_DIR, complete=True)
    return model, Progress.of_checkpoint(checkpointer.load(path, checkpointables=[]))


def weights_of(cfg: CfgNode, *, resume: bool) -> str:
    """Return MODEL.WEIGHTS or, with ``resume`` or where that is empty, OUTPUT_DIR's last checkpoint.

    Raises:
        CheckpointError: there is neither.
    """
    checkpointer = Checkpointer(nn.Module(), cfg.OUTPUT_DIR)
    last = checkpointer.has_checkpoint() and (resume or not cfg.MODEL.WEIGHTS)
    path = checkpointer.get_checkpoint_file() if last else cfg.MODEL.WEIGHTS
    if not path:
        raise CheckpointError(
            f"There are no weights: OUTPUT_DIR {cfg.OUTPUT_DIR!r} holds no checkpoint; name a file with "
            "MODEL.WEIGHTS FILE."
        )
    return path


def report(cfg: CfgNode, model: nn.Module, folder: Path, progress: Progress) -> dict[str, Any]:
    """Evaluate ``model`` on all test sets; write the table, ``results.json`` and the picture.

    Returns:
        Metrics by task, or by data set and task if there are several sets; empty in other processes
        than the main one.
    """
    begin = time.perf_counter()
    metrics = evaluate(cfg, model, evaluation_folder(cfg))
    seconds = time.perf_counter() - begin
    if not comm.is_main_process():
        return {}
    for name, tasks in metrics.items():
        logger.info("%s after %d iterations:\n%s", name, progress.iterations, metrics_table(tasks))
    verify_results(cfg, flat(metrics))
    write_results(folder / "results.json", cfg, progress, eval_seconds=seconds, metrics=metrics)
    _draw(cfg, metrics, folder, progress)
    return flat(metrics)


def evaluation_folder(cfg: CfgNode) -> Path:
    """Return where predictions go, and all files of an evaluation alone."""
    return Path(cfg.OUTPUT_DIR) / "inference"


def _draw(cfg: CfgNode, metrics: Metrics, folder: Path, progress: Progress) -> None:
    if cfg.TEST.SHEET_IMAGES > 0:
        name = cfg.DATASETS.TEST[0]
        write_sheet(
            folder / PICTURE,
            dataset=name,
            predictions=predictions_file(evaluation_folder(cfg), name, metrics[name]),
            images=cfg.TEST.SHEET_IMAGES,
            threshold=cfg.TEST.SHEET_SCORE_THRESH,
            metrics=metrics[name],
            caption=f"{progress.iterations} iterations · {BACKEND} · {name}",
        )


def _say_where(cfg: CfgNode, folder: Path) -> None:
    results = folder / "results.json"
    if cfg.DATASETS.TEST and results.is_file():
        print(f"Results: {results}", flush=True)
    picture, weights = folder / PICTURE, Path(cfg.OUTPUT_DIR) / "model_final.pth"
    if cfg.DATASETS.TEST and cfg.TEST.SHEET_IMAGES > 0 and picture.is_file():
        print(f"Picture of predictions beside ground truth: {picture}", flush=True)
    elif weights.is_file():
        print(f"Weights: {weights}", flush=True)
