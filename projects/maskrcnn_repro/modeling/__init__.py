"""Backbones and heads; importing this package registers them with Detectron2."""

from maskrcnn_repro.modeling import narrow_resnet as _narrow_resnet

__all__: list[str] = []

del _narrow_resnet
