"""Backbones: ResNet, ResNeXt, FPN."""

# ruff: noqa: F401 (what is imported here is for users to import)

from detectron2._absent import module_getattr

from .backbone import Backbone
from .build import BACKBONE_REGISTRY, build_backbone
from .fpn import FPN
from .resnet import *

__getattr__ = module_getattr(__name__)
