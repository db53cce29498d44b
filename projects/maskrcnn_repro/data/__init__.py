"""Data sets: generated ones, the user's own, and checks before training. Importing it registers them."""

from maskrcnn_repro.data.cityscapes import default_root, register_cityscapes
from maskrcnn_repro.data.custom import register_custom
from maskrcnn_repro.data.panoptic.truth import register_panoptic, register_published
from maskrcnn_repro.data.registry import (
    check_registered,
    class_names,
    keypoint_names,
    prepare_data,
    resolve_mask_format,
    resolve_num_classes,
    resolve_num_keypoints,
    resolve_oks_sigmas,
)
from maskrcnn_repro.data.sets import notes_of
from maskrcnn_repro.data.synthetic.families import GENERATED

register_cityscapes(default_root())
register_published(default_root().parent)
for _data in GENERATED:
    for _seed in (0, 1):
        _data.register(_seed)

__all__ = [
    "GENERATED",
    "check_registered",
    "class_names",
    "keypoint_names",
    "notes_of",
    "prepare_data",
    "register_custom",
    "register_panoptic",
    "resolve_mask_format",
    "resolve_num_classes",
    "resolve_num_keypoints",
    "resolve_oks_sigmas",
]
