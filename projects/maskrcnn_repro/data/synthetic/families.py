"""Families of generated data sets."""

from __future__ import annotations

from maskrcnn_repro.data.synthetic.mini_coco import MINI_COCO
from maskrcnn_repro.data.synthetic.mini_people import MINI_PEOPLE
from maskrcnn_repro.data.synthetic.small_coco import SMALL_COCO
from maskrcnn_repro.data.synthetic.small_crops import SMALL_CROPS
from maskrcnn_repro.data.synthetic.small_people import SMALL_PEOPLE

GENERATED = (MINI_COCO, MINI_PEOPLE, SMALL_COCO, SMALL_CROPS, SMALL_PEOPLE)


def is_generated(dataset_name: str) -> bool:
    """Tell whether a registered name is of a generated set, so that its images may be shown and kept anywhere."""
    return any(family.identify(dataset_name) for family in GENERATED)
