"""Predictions with masks that can be drawn by hand."""

from maskrcnn_repro.inference.prediction import Prediction

import numpy as np
from pycocotools import mask as rle_codec

NAMES = ("cat", "dog & co")
# fmt: off
RING = np.array([
    [0, 0, 0, 0, 0, 0],
    [0, 1, 1, 1, 0, 0],
    [0, 1, 0, 1, 0, 0],
    [0, 1, 1, 1, 0, 1],
], np.uint8)
"""A part with a hole, and a part of one pixel: rows are y."""
# fmt: on


def encoded(mask):
    """COCO's compressed RLE of a mask, fit for JSON."""
    rle = rle_codec.encode(np.asfortranarray(mask, dtype=np.uint8))
    return rle | {"counts": rle["counts"].decode("ascii")}


def prediction(masks=(RING,), boxes=None, class_ids=None, **fields):
    """A prediction with falling scores 0.9, 0.8 …; with ``boxes`` and no masks, of a model without masks."""
    rles = [encoded(mask) for mask in masks] if boxes is None else None
    if boxes is None:
        boxes = [rle_codec.toBbox(rle) for rle in rles]
        boxes = [(x, y, x + w, y + h) for x, y, w, h in boxes]
    count = len(boxes)
    height, width = np.shape(masks[0]) if len(masks) else (4, 6)
    return Prediction(
        boxes=np.array(boxes, np.float32).reshape(count, 4),
        scores=np.linspace(0.9, 0.9 - 0.1 * (count - 1), count, dtype=np.float32),
        class_ids=np.array(class_ids if class_ids is not None else [1] * count, np.int64),
        class_names=NAMES,
        **{"height": height, "width": width, "rles": rles} | fields,
    )
