"""COCO's fields of a bitmap mask: box and run-length encodings.

H, W = height and width of the image in pixels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def box_of(mask: NDArray[np.bool_]) -> list[int]:
    """Return the bounding box (left, top, width, height) of an (H, W) mask with at least one pixel."""
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    left, top = int(columns[0]), int(rows[0])
    return [left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1]


def runs_of(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """Return an (H, W) mask as uncompressed RLE (a list of counts), which COCO's JSON has for crowds."""
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(flat, prepend=False)).tolist()
    return {"size": list(mask.shape), "counts": np.diff([0, *edges, flat.size]).tolist()}
