"""From a config as it is written to the one that a run uses: every default that follows, every check."""

from __future__ import annotations

from maskrcnn_repro.config import default_device
from maskrcnn_repro.data import prepare_data
from maskrcnn_repro.data.proposals.prepare import prepare_proposals
from maskrcnn_repro.engine.accumulation import parts_of
from maskrcnn_repro.engine.checks import check_config
from maskrcnn_repro.engine.relations import check_division
from maskrcnn_repro.engine.trainer_name import trainer_of
from maskrcnn_repro.errors import ConfigError
from maskrcnn_repro.plugins import load_plugins

import torch
from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer
from detectron2.utils import comm


def resolve_config(cfg: CfgNode, *, training: bool) -> CfgNode:
    """Return a frozen copy of ``cfg`` in which all is said, and with which all can be built.

    Plug-ins are loaded and data sets registered, which spawned processes do not inherit: each one calls this.
    The device is resolved, batch and schedule are scaled to the number of processes (if
    ``SOLVER.REFERENCE_WORLD_SIZE`` is set), classes and keypoints counted, and every check is made.

    Args:
        cfg: as :func:`maskrcnn_repro.config.load_config` returns it.
        training: for a training; else for an evaluation, which needs no training data.

    Raises:
        UserError: see :func:`maskrcnn_repro.engine.checks.check_config`, and of plug-ins, device, trainer,
            data and stored proposals.
    """
    load_plugins(cfg.PLUGINS)
    # Before the checks: its module may register what the config names.
    trainer_of(cfg)
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE = resolve_device(cfg.MODEL.DEVICE)
    cfg.SOLVER.ACCUMULATE = parts_of(cfg, comm.get_world_size())
    if training:
        check_division(cfg, comm.get_world_size())
    # A part of a batch stands for a process of its own.
    cfg = DefaultTrainer.auto_scale_workers(cfg, comm.get_world_size() * cfg.SOLVER.ACCUMULATE)
    check_config(cfg, comm.get_world_size(), training=training)
    prepare_data(cfg, training=training)
    prepare_proposals(cfg, training=training)
    cfg.freeze()
    return cfg


def resolve_device(name: str) -> str:
    """Return ``cuda`` or ``cpu`` for ``auto``, other names unchanged.

    Raises:
        ConfigError: the name is no device, or there is no such GPU.
    """
    if name == "auto":
        return default_device()
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(
            f"MODEL.DEVICE {name!r} is not one of auto, cpu, cuda, cuda:N."
        ) from error
    if device.type == "meta":
        raise ConfigError(f"MODEL.DEVICE {name!r} holds no numbers; use MODEL.DEVICE auto or cpu.")
    if device.type == "cuda" and (device.index or 0) >= (count := torch.cuda.device_count()):
        raise ConfigError(
            f"MODEL.DEVICE {name!r}, but PyTorch sees {count} GPUs here; use MODEL.DEVICE auto or cpu."
        )
    return name
