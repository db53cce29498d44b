"""A mask as COCO's run-length encoding."""

from __future__ import annotations

from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

RLE = dict[str, Any]
"""COCO's compressed encoding, fit for JSON: ``{"size": [H, W], "counts": str}``."""


def encode_mask(mask: np.ndarray) -> RLE:
    """Return an (H, W) mask, bool or of 0 and 1, as compressed RLE."""
    # pycocotools encodes arrays in column-major order.
    rle = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": list(rle["size"]), "counts": rle["counts"].decode("ascii")}
