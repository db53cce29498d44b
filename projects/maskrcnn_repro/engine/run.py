"""One run in one process: set up, train or evaluate, then metrics, results and a picture."""

from __future__ import annotations

import logging
import re
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from maskrcnn_repro.data import notes_of
from maskrcnn_repro.engine.accumulation import say_division
from maskrcnn_repro.engine.launch import of_main, run_agreed
from maskrcnn_repro.engine.own_data import OwnData, fit_config
from maskrcnn_repro.engine.places import check_places
from maskrcnn_repro.engine.relations import remarks
from maskrcnn_repro.engine.report import check_expected, evaluation_folder, say_where, write_errors
from maskrcnn_repro.engine.resolve import resolve_config
from maskrcnn_repro.engine.resume import newest_in, refuse_other_classes, settle_config
from maskrcnn_repro.engine.setup import enter_folder, start
from maskrcnn_repro.engine.signals import handling, leave
from maskrcnn_repro.engine.stall import watch_stalls, watching_evaluation
from maskrcnn_repro.engine.trained import (
    checkpoint_folder,
    checkpoints_of,
    load_trained,
    takes_last_checkpoint,
    weights_of,
)
from maskrcnn_repro.engine.trainer import Trainer
from maskrcnn_repro.engine.trainer_name import trainer_of
from maskrcnn_repro.utils.files import room_needed
from maskrcnn_repro.utils.freed_memory import keep_freed_memory
from maskrcnn_repro.utils.logs import records_held
from maskrcnn_repro.utils.memory import memory_needed

from detectron2.config import CfgNode
from detectron2.evaluation.testing import flatten_results_dict
from detectron2.utils import comm

logger = logging.getLogger(__name__)
SHOWN = re.compile(r"/(AP|PQ|AR@1000)$")
"""Metrics that the line of a checkpoint has."""


def run(
    cfg: CfgNode,
    resume: bool = False,
    eval_only: bool = False,
    own: OwnData | None = None,
    checkpoints: bool = False,
) -> None:
    """Train, or with ``eval_only`` evaluate; called in every process of a run.

    Training writes into OUTPUT_DIR, an evaluation alone only below its ``inference`` folder.

    Args:
        cfg: as :func:`maskrcnn_repro.config.load_config` returns it; ``TRAINER`` names the trainer.
        resume: continue from, or evaluate, the last checkpoint of OUTPUT_DIR; ``ACCEPTED_CHANGES`` names keys
            whose values may differ from the checkpoint's.
        eval_only: evaluate.
        own: data of ``--data``, for which values of ``cfg`` are chosen.
        checkpoints: with ``eval_only``: evaluate each periodic checkpoint of OUTPUT_DIR, in a folder of its own.

    Raises:
        UserError: something that the user can mend.
        Ended: a signal ended it, or :class:`maskrcnn_repro.engine.step_end.StepEnd` with a status that is not 0.
    """
    with handling(leave), room_needed(), memory_needed():
        _run(cfg, resume=resume, eval_only=eval_only, own=own, checkpoints=checkpoints)


def _run(
    cfg: CfgNode, *, resume: bool, eval_only: bool, own: OwnData | None, checkpoints: bool
) -> None:
    with ExitStack() as stack:
        stack.enter_context(records_held())
        output = Path(cfg.OUTPUT_DIR)
        fresh = not (resume or eval_only)
        enter = partial(enter_folder, stack, output, fresh=fresh)
        lines: list[str] = []
        if own:
            run_agreed(enter)
            cfg, lines = fit_config(cfg, own, fresh=fresh, training=not eval_only)
        else:
            cfg = run_agreed(lambda: resolve_config(cfg, training=not eval_only))
            run_agreed(enter)
        if cfg.MODEL.DEVICE == "cpu":
            keep_freed_memory(huge=False)
        trainer = trainer_of(cfg)
        folder = evaluation_folder(cfg) if eval_only else output
        run_agreed(lambda: check_places(cfg, folder, training=not eval_only))
        earlier = output if resume else None
        # Reading and hashing it takes a while: once, in one process.
        checkpoint = of_main(lambda: newest_in(output)) if resume and not eval_only else None
        settle = (
            None if eval_only else lambda cfg: run_agreed(settle_config, cfg, earlier, checkpoint)
        )
        cfg = start(stack, cfg, folder, settle)
        for note in (*lines, *notes_of(cfg, training=not eval_only)):
            logger.info("%s", note)
        if eval_only and checkpoints:
            _evaluate_checkpoints(cfg, trainer)
            return
        if eval_only:
            last = takes_last_checkpoint(resume, own)
            weights = of_main(lambda: weights_of(cfg, resume=last))
            check_expected(cfg, _evaluate(cfg, trainer, weights, folder))
        else:
            say_division(cfg, comm.get_world_size())
            for remark in remarks(cfg):
                logger.warning("%s", remark)
            training = trainer(cfg)
            training.checkpointer.judged = checkpoint
            training.resume_or_load(resume=resume)
            with watch_stalls(training.phases, output, cfg.SOLVER.STALL_SECONDS):
                training.train()
            if own and comm.is_main_process():
                write_errors(cfg, output)
        if comm.is_main_process():
            say_where(cfg, folder)


def _evaluate(cfg: CfgNode, trainer: type[Trainer], weights: str, folder: Path) -> dict[str, Any]:
    """Evaluate a file's weights and write what a report has into ``folder``; return the metrics of the main process."""
    run_agreed(lambda: refuse_other_classes(cfg, weights))
    model, progress = load_trained(cfg, weights)
    with watching_evaluation(model, folder, cfg.SOLVER.STALL_SECONDS):
        return trainer.report(cfg, model, folder, progress)


def _evaluate_checkpoints(cfg: CfgNode, trainer: type[Trainer]) -> None:
    """Evaluate OUTPUT_DIR's periodic checkpoints, the first one first, and log what each gives in a line."""
    files = of_main(lambda: checkpoints_of(cfg))
    lines = []
    for number, file in enumerate(files, start=1):
        logger.info("Checkpoint %d of %d: %s", number, len(files), file)
        folder = checkpoint_folder(cfg, file)
        folder.mkdir(parents=True, exist_ok=True)
        own = cfg.clone()
        own.defrost()
        own.OUTPUT_DIR = str(folder)
        results = _evaluate(own, trainer, str(file), folder)
        values = flatten_results_dict(results)
        shown = [f"{name} {points:.1f}" for name, points in values.items() if SHOWN.search(name)]
        lines.append(f"{file.name}: {', '.join(shown)}")
    logger.info(
        "Checkpoints of %s, evaluated in %s:\n%s", cfg.OUTPUT_DIR, folder.parent, "\n".join(lines)
    )
