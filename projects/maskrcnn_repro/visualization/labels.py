"""Where the labels of objects go: within the picture, and off each other as far as there is room.

N = labels; coordinates are pixels of the picture.
"""

from __future__ import annotations

import numpy as np

ROWS = 3
"""Places that are tried above a box and below it, one label's height apart."""


def place_labels(boxes: np.ndarray, sizes: np.ndarray, picture: tuple[float, float]) -> np.ndarray:
    """Return the upper left corner of each label, (N, 2).

    One after another takes the place near its box that covers the least of the labels before it; of equal ones
    the first: above the box, in its upper corners, below it, then farther off.

    Args:
        boxes: (N, 4) xyxy, of the objects.
        sizes: (N, 2) width and height of the labels.
        picture: width and height; a label that is larger begins at its edge.
    """
    corners = np.zeros((len(boxes), 2))
    for index, (box, size) in enumerate(zip(boxes, sizes, strict=True)):
        places = np.clip(_places(box, size), 0, np.maximum(np.array(picture) - size, 0))
        before = corners[:index], corners[:index] + sizes[:index]
        low = np.maximum(places[:, None], before[0])
        high = np.minimum(places[:, None] + size, before[1])
        covered = (high - low).clip(min=0).prod(axis=2).sum(axis=1)
        corners[index] = places[covered.argmin()]
    return corners


def _places(box: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Return the upper left corners to try, (M, 2), the best first."""
    left, top, right, bottom = box
    width, height = size
    columns = (left, right - width, (left + right - width) / 2)
    rows = [top - height, top, bottom, bottom - height, (top + bottom - height) / 2]
    rows += [top - n * height for n in range(2, ROWS + 1)]
    rows += [bottom + n * height for n in range(1, ROWS)]
    around = [(x, y) for y in rows for x in columns]
    beside = [(x, y) for x in (right, left - width) for y in (top, bottom - height)]
    return np.array([*around, *beside])
