"""From a command line to a trained model: launch, setup, training, checkpoints, results."""

from maskrcnn_repro.engine.resolve import resolve_config
from maskrcnn_repro.engine.trainer import Trainer

__all__ = ["Trainer", "resolve_config"]
