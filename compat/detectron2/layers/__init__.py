"""Building blocks of networks, and operations on boxes and masks."""

from detectron2._absent import module_getattr

from .batch_norm import *
from .blocks import *
from .mask_ops import *
from .nms import *
from .roi_align import *
from .shape_spec import *
from .wrappers import *

__getattr__ = module_getattr(__name__)
