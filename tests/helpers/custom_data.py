"""A small COCO data set of the user's own, valid as it stands, to be changed and written."""

import copy
import json

from maskrcnn_repro.config import get_config

import numpy as np
from PIL import Image

SQUARE = [[2, 2, 10, 2, 10, 10, 2, 10]]

VALID = {
    "images": [
        {"id": 1, "file_name": "a.png", "height": 30, "width": 40},
        {"id": 2, "file_name": "b.png", "height": 30, "width": 40},
    ],
    "annotations": [
        {
            "id": 1,
            "image_id": 1,
            "category_id": 7,
            "bbox": [2, 2, 8, 8],
            "area": 64,
            "iscrowd": 0,
            "segmentation": SQUARE,
        }
    ],
    # Not in the order of their ids: the model's classes are.
    "categories": [{"id": 7, "name": "zebra"}, {"id": 3, "name": "ant"}],
}


def write_entry(folder, tree=VALID, name="own_train"):
    """Write a data set into ``folder`` and return its entry for DATASETS.CUSTOM."""
    images = folder / "images"
    images.mkdir(exist_ok=True)
    for file in ("a.png", "b.png"):
        Image.fromarray(np.zeros((30, 40, 3), dtype=np.uint8)).save(images / file)
    path = folder / f"{name}.json"
    path.write_text(tree if isinstance(tree, str) else json.dumps(tree))
    return [name, str(path), str(images)]


def changed(**lists):
    """Return VALID with the first record of some lists changed; a field set to None is left out."""
    tree = copy.deepcopy(VALID)
    for key, fields in lists.items():
        record = {**tree[key][0], **fields}
        tree[key][0] = {k: v for k, v in record.items() if v is not None}
    return tree


def with_keypoints(names):
    tree = copy.deepcopy(VALID)
    tree["categories"] = [{"id": 7, "name": "person", "keypoints": list(names), "skeleton": []}]
    tree["annotations"][0].update(keypoints=[5, 5, 2] * len(names), num_keypoints=len(names))
    return tree


def config(train=(), test=(), custom=()):
    cfg = get_config()
    cfg.DATASETS.TRAIN = tuple(train)
    cfg.DATASETS.TEST = tuple(test)
    cfg.DATASETS.CUSTOM = tuple(custom)
    return cfg
