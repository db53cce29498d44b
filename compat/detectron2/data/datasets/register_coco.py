"""The registration of COCO-format data sets, at the place where older projects look for it."""

from detectron2._absent import module_getattr

from .coco import register_coco_instances  # noqa: F401

__getattr__ = module_getattr(__name__)
