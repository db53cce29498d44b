"""The training loop: trainers, hooks, launching of processes."""

from detectron2._absent import module_getattr

from ._setup import *
from .defaults import *
from .hooks import *
from .launch import *
from .train_loop import *

__getattr__ = module_getattr(__name__)
