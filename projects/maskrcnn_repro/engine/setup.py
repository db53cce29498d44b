"""What every process does between the resolved config and the model: folder, log, seeds, config.yaml."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from maskrcnn_repro._backend import BACKEND
from maskrcnn_repro._version import __version__
from maskrcnn_repro.data.custom import find_unused
from maskrcnn_repro.plugins import loaded_plugins
from maskrcnn_repro.utils.files import write_text
from maskrcnn_repro.utils.lock import locked, refuse_used
from maskrcnn_repro.utils.logs import logging_to

import torch
from detectron2.config import CfgNode
from detectron2.utils import comm
from detectron2.utils.collect_env import collect_env_info
from detectron2.utils.env import seed_all_rng

logger = logging.getLogger(__name__)


def enter_folder(stack: ExitStack, folder: Path, *, fresh: bool) -> None:
    """In the main process: hold ``folder`` until ``stack`` closes; with ``fresh``, refuse a used one.

    Raises:
        OutputError: the folder is in use, holds an earlier training, or cannot be written to.
    """
    if comm.is_main_process():
        stack.enter_context(locked(folder))
        if fresh:
            refuse_used(folder)


def start(
    stack: ExitStack, cfg: CfgNode, folder: Path, settle: Callable[[CfgNode], CfgNode] | None = None
) -> CfgNode:
    """Start logging to ``folder``, seed all generators, write ``config.yaml``; return the final config.

    An unset seed (SEED -1) is drawn and put into the config, so that ``config.yaml`` repeats the run.

    Args:
        stack: closes the log.
        cfg: resolved.
        folder: of the log and of ``config.yaml``.
        settle: makes the final config of a resumed run, or raises; nothing is overwritten before.
    """
    rank = comm.get_rank()
    stack.enter_context(logging_to(folder, rank))
    if settle:
        cfg = settle(cfg)
    if cfg.SEED < 0:
        cfg = cfg.clone()
        cfg.defrost()
        cfg.SEED = comm.shared_random_seed()
        cfg.freeze()
    seed_all_rng(cfg.SEED + rank)
    torch.backends.cudnn.benchmark = bool(cfg.CUDNN_BENCHMARK)
    if cfg.FLOAT32_PRECISION:
        torch.set_float32_matmul_precision(cfg.FLOAT32_PRECISION)
        torch.backends.cudnn.allow_tf32 = cfg.FLOAT32_PRECISION != "highest"
    logger.info("maskrcnn-repro %s, %s", __version__, BACKEND)
    for plugin in loaded_plugins():
        logger.info("%s", plugin)
    logger.info(
        "Device %s, %d process(es) with %d thread(s) each, seed %d",
        cfg.MODEL.DEVICE,
        comm.get_world_size(),
        torch.get_num_threads(),
        cfg.SEED,
    )
    for name in find_unused((entry[0] for entry in cfg.DATASETS.CUSTOM), cfg):
        logger.info("Data set %r of DATASETS.CUSTOM is neither in DATASETS.TRAIN nor in TEST", name)
    logger.debug("Command: %s", sys.argv)
    logger.debug("Environment:\n%s", collect_env_info())
    logger.debug("Config:\n%s", cfg.dump())
    if comm.is_main_process():
        write_text(folder / "config.yaml", cfg.dump())
        logger.info("Output goes to %s (log.txt, config.yaml)", folder)
    return cfg
