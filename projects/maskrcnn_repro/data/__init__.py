"""Data sets: generated ones, the user's own, and checks before training. Importing it registers them."""

from maskrcnn_repro.data.custom import register_custom
from maskrcnn_repro.data.mini_coco import register_mini_coco
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

for _seed in (0, 1):
    register_mini_coco(_seed)

__all__ = [
    "check_registered",
    "class_names",
    "keypoint_names",
    "prepare_data",
    "register_custom",
    "register_mini_coco",
    "resolve_mask_format",
    "resolve_num_classes",
    "resolve_num_keypoints",
    "resolve_oks_sigmas",
]
