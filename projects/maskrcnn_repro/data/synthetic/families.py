"""Families of generated data sets."""

from __future__ import annotations

from maskrcnn_repro.data.synthetic.mini_coco import MINI_COCO
from maskrcnn_repro.data.synthetic.mini_people import MINI_PEOPLE

GENERATED = (MINI_COCO, MINI_PEOPLE)
