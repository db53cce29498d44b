"""Registry of semantic segmentation heads; the subset has the place for them, but no head."""

from torch import nn

from detectron2._absent import module_getattr
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.utils.registry import Registry

# Called with the config and the shapes of the features.
SEM_SEG_HEADS_REGISTRY = Registry("SEM_SEG_HEADS")


def build_sem_seg_head(cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> nn.Module:
    """Build ``MODEL.SEM_SEG_HEAD.NAME``.

    Raises:
        KeyError: no head of that name is registered.
    """
    return SEM_SEG_HEADS_REGISTRY.get(cfg.MODEL.SEM_SEG_HEAD.NAME)(cfg, input_shape)


__getattr__ = module_getattr(__name__)
