"""Registry of whole models."""

import torch
from torch import nn

from detectron2._absent import module_getattr
from detectron2.config import CfgNode
from detectron2.utils.registry import Registry

# Called with the config alone.
META_ARCH_REGISTRY = Registry("META_ARCH")


def build_model(cfg: CfgNode) -> nn.Module:
    """Build ``MODEL.META_ARCHITECTURE`` on ``MODEL.DEVICE``, with fresh weights.

    Raises:
        KeyError: no architecture of that name is registered.
    """
    model = META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)(cfg)
    return model.to(torch.device(cfg.MODEL.DEVICE))


__getattr__ = module_getattr(__name__)
