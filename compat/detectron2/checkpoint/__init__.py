"""Saving and loading models, from files of this library and of its predecessors."""

from fvcore.common.checkpoint import Checkpointer, PeriodicCheckpointer

from detectron2._absent import module_getattr

from . import catalog  # noqa: F401  (registers the prefix catalog://)
from .detection_checkpoint import DetectionCheckpointer

__all__ = ["Checkpointer", "DetectionCheckpointer", "PeriodicCheckpointer"]

__getattr__ = module_getattr(__name__)
