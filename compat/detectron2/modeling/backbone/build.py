"""Backbones by name."""

from detectron2._absent import module_getattr
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.utils.registry import Registry

from .backbone import Backbone

# Called with the config and the ShapeSpec of the images.
BACKBONE_REGISTRY = Registry("BACKBONE")


def build_backbone(cfg: CfgNode, input_shape: ShapeSpec | None = None) -> Backbone:
    """Build the backbone that ``MODEL.BACKBONE.NAME`` names.

    Args:
        cfg: the whole configuration.
        input_shape: channels of the images; by default one per entry of ``MODEL.PIXEL_MEAN``.

    Raises:
        KeyError: no backbone of that name is registered.
        TypeError: what is registered there returned something else than a Backbone.
    """
    name = cfg.MODEL.BACKBONE.NAME
    input_shape = input_shape or ShapeSpec(channels=len(cfg.MODEL.PIXEL_MEAN))
    backbone = BACKBONE_REGISTRY.get(name)(cfg, input_shape)
    if not isinstance(backbone, Backbone):
        raise TypeError(
            f"MODEL.BACKBONE.NAME {name!r} built a {type(backbone).__name__}, not a Backbone"
        )
    return backbone


__getattr__ = module_getattr(__name__)
