"""Running a model over a data set and measuring it."""

from detectron2._absent import module_getattr

from .coco_evaluation import *
from .evaluator import *
from .testing import *

__getattr__ = module_getattr(__name__)
