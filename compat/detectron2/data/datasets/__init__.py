"""COCO-format data sets. Importing this package registers COCO's own splits."""

from detectron2._absent import module_getattr

from . import builtin
from .coco import convert_to_coco_json, load_coco_json, register_coco_instances

__all__ = ["builtin", "convert_to_coco_json", "load_coco_json", "register_coco_instances"]

__getattr__ = module_getattr(__name__)
