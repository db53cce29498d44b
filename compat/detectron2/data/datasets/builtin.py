"""Registers the splits of COCO, below `$DETECTRON2_DATASETS` or `./datasets`. Nothing is read from there before use."""

import os

from detectron2._absent import module_getattr

from .builtin_meta import _get_builtin_metadata
from .coco import register_coco_instances

# Split: folder of its images, and what its annotation files are called after "instances_" or "person_keypoints_".
_ANNOTATED = {
    "2014_train": ("train2014", "train2014"),
    "2014_val": ("val2014", "val2014"),
    "2014_minival": ("val2014", "minival2014"),
    "2014_valminusminival": ("val2014", "valminusminival2014"),
    "2017_train": ("train2017", "train2017"),
    "2017_val": ("val2017", "val2017"),
    "2017_val_100": ("val2017", "val2017_100"),
}
# Splits without public annotations: images, and what is called after "image_info_".
_UNANNOTATED = {
    "2017_test": ("test2017", "test2017"),
    "2017_test-dev": ("test2017", "test-dev2017"),
}


def register_all_coco(root: str) -> None:
    """Register `coco_*` and `keypoints_coco_*` for a folder that holds `coco/`."""
    families = (
        ("coco", "coco_", "instances_", _ANNOTATED),
        ("coco", "coco_", "image_info_", _UNANNOTATED),
        ("coco_person", "keypoints_coco_", "person_keypoints_", _ANNOTATED),
    )
    for metadata, name_prefix, file_prefix, splits in families:
        for split, (images, annotations) in splits.items():
            register_coco_instances(
                name_prefix + split,
                _get_builtin_metadata(metadata),
                os.path.join(root, f"coco/annotations/{file_prefix}{annotations}.json"),
                os.path.join(root, "coco", images),
            )


register_all_coco(os.path.expanduser(os.getenv("DETECTRON2_DATASETS", "datasets")))

__getattr__ = module_getattr(__name__)
