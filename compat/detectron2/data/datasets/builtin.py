"""Registers COCO, below `$DETECTRON2_DATASETS` or `./datasets`; nothing is read before use."""

import os

from detectron2._absent import module_getattr

from .builtin_meta import _get_builtin_metadata
from .coco import register_coco_instances

# Folder of images: the parts of it that have annotation files.
_PARTS = {
    "train2014": ["train"],
    "val2014": ["val", "minival", "valminusminival"],
    "train2017": ["train"],
    "val2017": ["val", "val_100"],
    "test2017": ["test", "test-dev"],
}


def register_all_coco(root: str) -> None:
    """Register `coco_*` and `keypoints_coco_*` for a folder that holds `coco/`."""
    people = ("coco_person", "keypoints_coco", "person_keypoints")
    for folder, parts in _PARTS.items():
        year, labelled = folder[-4:], not folder.startswith("test")
        objects = ("coco", "coco", "instances" if labelled else "image_info")
        for part in parts:
            stem, *subset = part.split("_")
            for family, prefix, kind in (objects, people) if labelled else (objects,):
                file = "_".join([kind, stem + year, *subset]) + ".json"
                register_coco_instances(
                    f"{prefix}_{year}_{part}",
                    _get_builtin_metadata(family),
                    os.path.join(root, "coco", "annotations", file),
                    os.path.join(root, "coco", folder),
                )


register_all_coco(os.path.expanduser(os.getenv("DETECTRON2_DATASETS", "datasets")))

__getattr__ = module_getattr(__name__)
