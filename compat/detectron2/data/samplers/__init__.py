"""Samplers: which elements of a data set are read, in which order, by which process."""

from detectron2._absent import module_getattr

from .distributed_sampler import *
from .grouped_batch_sampler import *

__getattr__ = module_getattr(__name__)
