"""A model made ready for its training, as the config says."""

from __future__ import annotations

import logging

from maskrcnn_repro.engine.precision import give_losses_float32, tell_precision
from maskrcnn_repro.modeling.fast_training.build import quicken
from maskrcnn_repro.modeling.fast_training.checkpointing import checkpoint_stages, kept_activations
from maskrcnn_repro.modeling.freezing import freeze_backbone
from maskrcnn_repro.utils.precision import training_precision

from detectron2.config import CfgNode
from torch import nn

logger = logging.getLogger(__name__)


def prepare(model: nn.Module, cfg: CfgNode) -> None:
    """Freeze, quicken and checkpoint a model in place, and give its losses float32; its ``state_dict`` stays.

    Args:
        model: not in DistributedDataParallel.
        cfg: ``MODEL.BACKBONE.FREEZE_ALL``, ``FAST_TRAINING`` and ``CHECKPOINT_STAGES``, ``SOLVER.AMP``.
    """
    if cfg.MODEL.BACKBONE.FREEZE_ALL:
        freeze_backbone(model)
    if cfg.MODEL.FAST_TRAINING:
        logger.info("Parts that train faster: %s", dict(quicken(model)))
    if cfg.MODEL.CHECKPOINT_STAGES:
        logger.info("Stages whose activations are computed twice: %d", checkpoint_stages(model))
        if kept := kept_activations(model):
            logger.info("MODEL.CHECKPOINT_STAGES leaves heads as they are: %s", ", ".join(kept))
    tell_precision(cfg)
    if training_precision(cfg) == "bfloat16":
        give_losses_float32(model)
