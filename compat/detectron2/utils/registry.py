"""Registries (fvcore's)."""

from fvcore.common.registry import Registry

from detectron2._absent import module_getattr

__all__ = ["Registry"]

__getattr__ = module_getattr(__name__)
