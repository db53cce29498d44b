"""The whole model, backbones and heads; importing this package registers them with Detectron2."""

from maskrcnn_repro.modeling import anchors as _anchors
from maskrcnn_repro.modeling import classifier as _classifier
from maskrcnn_repro.modeling import keypoint_head as _keypoint_head
from maskrcnn_repro.modeling import mask_head as _mask_head
from maskrcnn_repro.modeling import meta_arch as _meta_arch
from maskrcnn_repro.modeling import narrow_resnet as _narrow_resnet
from maskrcnn_repro.modeling import roi_heads as _roi_heads

__all__: list[str] = []

del _anchors, _classifier, _keypoint_head, _mask_head, _meta_arch, _narrow_resnet, _roi_heads
