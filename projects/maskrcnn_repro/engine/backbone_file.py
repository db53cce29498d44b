"""Hook that leaves the backbone of a trained classifier beside its last checkpoint."""

from __future__ import annotations

import logging
from pathlib import Path

from maskrcnn_repro.checkpoint.backbone import BACKBONE_FILE, write_backbone
from maskrcnn_repro.modeling.classifier import BackboneClassifier

from detectron2.config import CfgNode
from detectron2.engine import HookBase
from detectron2.utils import comm
from torch import nn

logger = logging.getLogger(__name__)


class BackboneWriter(HookBase):
    """Writes ``backbone.pkl`` into OUTPUT_DIR when a training is complete.

    Args:
        backbone: the network that is trained.
        cfg: the config of the training.
    """

    def __init__(self, backbone: nn.Module, cfg: CfgNode) -> None:
        self.backbone, self.cfg = backbone, cfg

    def after_train(self) -> None:
        """Write in the main process, unless the training was stopped or failed."""
        trainer = self.trainer
        if not (trainer.is_complete and comm.is_main_process()):
            return
        path = Path(self.cfg.OUTPUT_DIR) / BACKBONE_FILE
        origin = {
            "datasets": list(self.cfg.DATASETS.TRAIN),
            "iterations": trainer.done,
            "seed": self.cfg.SEED,
            "config_sha256": trainer.checkpointer.facts.get("config_sha256"),
            "input_format": self.cfg.INPUT.FORMAT,
            "pixel_mean": list(self.cfg.MODEL.PIXEL_MEAN),
            "pixel_std": list(self.cfg.MODEL.PIXEL_STD),
        }
        write_backbone(self.backbone, path, origin)
        logger.info("Backbone for detectors to start from (MODEL.WEIGHTS): %s", path)


def backbone_writer(model: nn.Module, cfg: CfgNode) -> BackboneWriter | None:
    """Return the hook for a classifier; None for other models."""
    return BackboneWriter(model.backbone, cfg) if isinstance(model, BackboneClassifier) else None
