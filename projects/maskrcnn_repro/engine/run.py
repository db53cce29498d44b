"""One run in one process: set up, train or evaluate, then metrics, results and a picture."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from maskrcnn_repro.checkpoint.checkpointer import Checkpointer
from maskrcnn_repro.checkpoint.foreign_head import refuse_other_head
from maskrcnn_repro.data import notes_of
from maskrcnn_repro.engine.accumulation import say_division
from maskrcnn_repro.engine.launch import agreed, of_main
from maskrcnn_repro.engine.own_data import OwnData, fitted
from maskrcnn_repro.engine.places import check_places
from maskrcnn_repro.engine.relations import remarks
from maskrcnn_repro.engine.report import check_expected, evaluation_folder, say_where, write_errors
from maskrcnn_repro.engine.resolve import resolve_config
from maskrcnn_repro.engine.resume import newest_in, refuse_other_classes, settled
from maskrcnn_repro.engine.setup import enter_folder, start
from maskrcnn_repro.engine.signals import handling, leave
from maskrcnn_repro.engine.stall import watching, watching_evaluation
from maskrcnn_repro.engine.trainer_name import trainer_of
from maskrcnn_repro.errors import CheckpointError
from maskrcnn_repro.utils.files import room_needed
from maskrcnn_repro.utils.freed_memory import keep_freed_memory
from maskrcnn_repro.utils.logs import records_held
from maskrcnn_repro.utils.memory import memory_needed
from maskrcnn_repro.utils.provenance import Progress

from detectron2.config import CfgNode
from detectron2.utils import comm
from torch import nn

logger = logging.getLogger(__name__)


def run(
    cfg: CfgNode, resume: bool = False, eval_only: bool = False, own: OwnData | None = None
) -> None:
    """Train, or with ``eval_only`` evaluate; called in every process of a run.

    Training writes into OUTPUT_DIR, an evaluation alone only below its ``inference`` folder.

    Args:
        cfg: as :func:`maskrcnn_repro.config.load_config` returns it; ``TRAINER`` names the trainer.
        resume: continue from, or evaluate, the last checkpoint of OUTPUT_DIR; ``ACCEPTED_CHANGES`` names keys
            whose values may differ from the checkpoint's.
        eval_only: evaluate.
        own: data of ``--data``, for which values of ``cfg`` are chosen.

    Raises:
        UserError: something that the user can mend.
        Ended: a signal ended it, or :class:`maskrcnn_repro.engine.step_end.StepEnd` with a status that is not 0.
    """
    with handling(leave), room_needed(), memory_needed():
        _run(cfg, resume=resume, eval_only=eval_only, own=own)


def _run(cfg: CfgNode, *, resume: bool, eval_only: bool, own: OwnData | None) -> None:
    with ExitStack() as stack:
        stack.enter_context(records_held())
        output = Path(cfg.OUTPUT_DIR)
        fresh = not (resume or eval_only)
        enter = partial(enter_folder, stack, output, fresh=fresh)
        lines: list[str] = []
        if own:
            agreed(enter)
            cfg, lines = fitted(cfg, own, fresh=fresh, training=not eval_only)
        else:
            cfg = agreed(lambda: resolve_config(cfg, training=not eval_only))
            agreed(enter)
        if cfg.MODEL.DEVICE == "cpu":
            keep_freed_memory(huge=False)
        trainer = trainer_of(cfg)
        folder = evaluation_folder(cfg) if eval_only else output
        agreed(lambda: check_places(cfg, folder, training=not eval_only))
        earlier = output if resume else None
        # Reading and hashing it takes a while: once, in one process.
        checkpoint = of_main(lambda: newest_in(output)) if resume and not eval_only else None
        settle = None if eval_only else lambda cfg: agreed(settled, cfg, earlier, checkpoint)
        cfg = start(stack, cfg, folder, settle)
        for note in (*lines, *notes_of(cfg, training=not eval_only)):
            logger.info("%s", note)
        if eval_only:
            last = takes_last_checkpoint(resume, own)
            weights = of_main(lambda: weights_of(cfg, resume=last))
            agreed(lambda: refuse_other_classes(cfg, weights))
            model, progress = load_trained(cfg, weights)
            with watching_evaluation(model, folder, cfg.SOLVER.STALL_SECONDS):
                results = trainer.report(cfg, model, folder, progress)
            check_expected(cfg, results)
        else:
            say_division(cfg, comm.get_world_size())
            for remark in remarks(cfg):
                logger.warning("%s", remark)
            training = trainer(cfg)
            training.checkpointer.judged = checkpoint
            training.resume_or_load(resume=resume)
            with watching(training.phases, output, cfg.SOLVER.STALL_SECONDS):
                training.train()
            if own and comm.is_main_process():
                write_errors(cfg, output)
        if comm.is_main_process():
            say_where(cfg, folder)


def takes_last_checkpoint(resume: bool, own: OwnData | None) -> bool:
    """Tell whether an evaluation takes OUTPUT_DIR's last checkpoint, whatever MODEL.WEIGHTS says.

    With ``--data`` these are the weights that the training begins with, unless the user gave them.
    """
    return resume or (own is not None and "MODEL.WEIGHTS" not in own.given)


def load_trained(cfg: CfgNode, path: str) -> tuple[nn.Module, Progress]:
    """Return the model with the weights of a file, see :func:`weights_of`.

    Raises:
        CheckpointError: the weights do not fill the model, or they are of another C4 head.
    """
    refuse_other_head(cfg, path)
    model = trainer_of(cfg).build_model(cfg)
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
