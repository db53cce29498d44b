"""Boxes, masks and keypoints, the instances that have them, and batches of images."""

from detectron2._absent import module_getattr

from .boxes import *
from .image_list import *
from .instances import *
from .keypoints import *
from .masks import *

__getattr__ = module_getattr(__name__)
