"""Families of generated data sets."""

from __future__ import annotations

from maskrcnn_repro.data.synthetic.mini_coco import MINI_COCO
from maskrcnn_repro.data.synthetic.mini_people import MINI_PEOPLE
from maskrcnn_repro.data.synthetic.small_coco import SMALL_COCO
from maskrcnn_repro.data.synthetic.small_crops import SMALL_CROPS
from maskrcnn_repro.data.synthetic.small_people import SMALL_PEOPLE

GENERATED = (MINI_COCO, MINI_PEOPLE, SMALL_COCO, SMALL_CROPS, SMALL_PEOPLE)
