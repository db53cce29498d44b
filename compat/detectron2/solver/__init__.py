"""Optimizers and learning-rate schedules, built from the ``SOLVER`` section of a config."""

from detectron2._absent import module_getattr

from .build import *
from .lr_scheduler import *

__getattr__ = module_getattr(__name__)
