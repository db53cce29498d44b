"""Embedded Detectron2: what Mask R-CNN needs of Detectron2's API, from PyPI alone."""

from detectron2._absent import install_finder, module_getattr
from detectron2.utils.env import setup_environment

install_finder()
setup_environment()

__version__ = "0.6+embedded"

__getattr__ = module_getattr(__name__)
