"""What is known about COCO without its files: classes, colours, keypoints. The facts are in `coco.json`."""

import json
from pathlib import Path
from typing import Any

from detectron2._absent import module_getattr

_FACTS = json.loads(Path(__file__).with_name("coco.json").read_text(encoding="utf-8"))


def _rgb(hexadecimal: str) -> list[int]:
    return list(bytes.fromhex(hexadecimal))


# The 80 classes of objects, by COCO's id; stuff classes are left out.
COCO_CATEGORIES: list[dict[str, Any]] = [
    {"id": category_id, "name": name, "isthing": 1, "color": _rgb(color)}
    for group in _FACTS["things"].values()
    for name, (category_id, color) in group.items()
]

COCO_PERSON_KEYPOINT_NAMES = (
    "nose",
    *(f"{side}_{part}" for part in _FACTS["keypoint_pairs"] for side in ("left", "right")),
)

# What changes places when a person is mirrored.
COCO_PERSON_KEYPOINT_FLIP_MAP = tuple(
    (f"left_{part}", f"right_{part}") for part in _FACTS["keypoint_pairs"]
)

# Which keypoints to join by a line when a person is drawn, and its colour.
KEYPOINT_CONNECTION_RULES = [
    (start, end, tuple(_rgb(color)))
    for lines in _FACTS["keypoint_lines"].values()
    for start, end, color in lines
]


def _get_builtin_metadata(dataset_name: str) -> dict[str, Any]:
    """Return the metadata of a family of data sets: "coco" or "coco_person"."""
    if dataset_name == "coco":
        ids = [category["id"] for category in COCO_CATEGORIES]
        return {
            # COCO numbers its 80 classes with gaps, from 1 to 90.
            "thing_dataset_id_to_contiguous_id": dict(zip(ids, range(len(ids)), strict=True)),
            "thing_classes": [category["name"] for category in COCO_CATEGORIES],
            "thing_colors": [category["color"] for category in COCO_CATEGORIES],
        }
    if dataset_name == "coco_person":
        return {
            "keypoint_connection_rules": KEYPOINT_CONNECTION_RULES,
            "keypoint_flip_map": COCO_PERSON_KEYPOINT_FLIP_MAP,
            "keypoint_names": COCO_PERSON_KEYPOINT_NAMES,
            "thing_classes": ["person"],
        }
    raise KeyError(f"no built-in metadata for {dataset_name!r}, only for 'coco' and 'coco_person'")


__getattr__ = module_getattr(__name__)
