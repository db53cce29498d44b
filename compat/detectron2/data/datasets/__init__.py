"""COCO-format data sets. Importing this package registers COCO's own splits."""

from detectron2._absent import module_getattr

from . import builtin as builtin
from .coco import *

__getattr__ = module_getattr(__name__)
