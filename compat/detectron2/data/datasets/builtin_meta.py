"""What is known about COCO without its files: classes, colours, keypoints (`coco.json`)."""

import json
from pathlib import Path
from typing import Any

from detectron2._absent import module_getattr

_FACTS = json.loads(Path(__file__).with_name("coco.json").read_text(encoding="utf-8"))

# The 80 classes of objects, by COCO's id; stuff classes are left out.
COCO_CATEGORIES: list[dict[str, Any]] = [
    {"id": category_id, "name": name, "isthing": 1, "color": list(bytes.fromhex(color))}
    for group in _FACTS["things"].values()
    for name, (category_id, color) in group.items()
]

# What changes places when a person is mirrored.
COCO_PERSON_KEYPOINT_FLIP_MAP = tuple(
    (f"left_{part}", f"right_{part}") for part in _FACTS["keypoint_pairs"]
)
COCO_PERSON_KEYPOINT_NAMES = ("nose", *sum(COCO_PERSON_KEYPOINT_FLIP_MAP, ()))

# Which keypoints to join by a line when a person is drawn, and its colour.
KEYPOINT_CONNECTION_RULES = [
    (start, end, tuple(bytes.fromhex(color)))
    for lines in _FACTS["keypoint_lines"].values()
    for start, end, color in lines
]


def _get_builtin_metadata(dataset_name: str) -> dict[str, Any]:
    """Return the metadata of a family of data sets: "coco" or "coco_person"."""
    if dataset_name == "coco_person":
        return {
            "keypoint_connection_rules": KEYPOINT_CONNECTION_RULES,
            "keypoint_flip_map": COCO_PERSON_KEYPOINT_FLIP_MAP,
            "keypoint_names": COCO_PERSON_KEYPOINT_NAMES,
            "thing_classes": ["person"],
        }
    if dataset_name != "coco":
        raise KeyError(f"built-in metadata are for 'coco' and 'coco_person', not {dataset_name!r}")
    return {
        # COCO numbers its 80 classes with gaps, from 1 to 90.
        "thing_dataset_id_to_contiguous_id": {c["id"]: i for i, c in enumerate(COCO_CATEGORIES)},
        "thing_classes": [category["name"] for category in COCO_CATEGORIES],
        "thing_colors": [category["color"] for category in COCO_CATEGORIES],
    }


__getattr__ = module_getattr(__name__)
