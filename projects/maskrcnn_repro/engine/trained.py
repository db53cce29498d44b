"""Which trained weights are evaluated, and the model that has them."""

from __future__ import annotations

import logging
from pathlib import Path

from maskrcnn_repro.checkpoint.checkpointer import Checkpointer
from maskrcnn_repro.checkpoint.foreign_head import refuse_other_head
from maskrcnn_repro.engine.own_data import OwnData
from maskrcnn_repro.engine.report import evaluation_folder
from maskrcnn_repro.engine.trainer_name import trainer_of
from maskrcnn_repro.errors import CheckpointError
from maskrcnn_repro.evaluation.coco import CHECKPOINTS
from maskrcnn_repro.utils.provenance import Progress

from detectron2.config import CfgNode
from torch import nn

logger = logging.getLogger(__name__)


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


def checkpoints_of(cfg: CfgNode) -> list[Path]:
    """Return the periodic checkpoints of OUTPUT_DIR, the first one first, without the one that is the last model.

    Raises:
        CheckpointError: there are none.
    """
    files = Checkpointer(nn.Module(), cfg.OUTPUT_DIR).folder.on_the_way()
    if not files:
        raise CheckpointError(
            f"OUTPUT_DIR {cfg.OUTPUT_DIR!r} holds no checkpoint model_NUMBER.pth from before the end of its training; "
            "SOLVER.CHECKPOINT_PERIOD and SOLVER.CHECKPOINT_KEEP say how many a training leaves."
        )
    return files


def checkpoint_folder(cfg: CfgNode, file: Path) -> Path:
    """Return the folder of a checkpoint's evaluation, which is an OUTPUT_DIR of its own."""
    return evaluation_folder(cfg) / CHECKPOINTS / file.stem
