"""Registries, files, logging, communication between processes, training events."""

from detectron2._absent import module_getattr

__getattr__ = module_getattr(__name__)
