"""Pictures of predictions: masks, boxes, labels and skeletons drawn over their image.

H, W = height and width of an image in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from maskrcnn_repro.errors import OutputError
from maskrcnn_repro.inference.prediction import Prediction
from maskrcnn_repro.utils.files import replaced
from maskrcnn_repro.visualization.draw import Objects, Style, draw

import cv2
import numpy as np

SIDES = (480, 1600)
"""Least and largest longer side of an overlay, in pixels: labels fit into the first and are legible in the other."""
KEPT = (".jpg", ".jpeg", ".png")
"""Endings of images whose overlays have the same; others get a .png behind their own."""


def magnification(height: int, width: int) -> float:
    """Return by how much an image is resized for its overlay, so that its longer side is within :data:`SIDES`."""
    longest = max(height, width)
    return min(max(longest, SIDES[0]), SIDES[1]) / longest


def overlay(
    image: np.ndarray,
    prediction: Prediction,
    colors: Sequence[int] | None = None,
    scale: float = 1.0,
) -> np.ndarray:
    """Return a picture of a prediction.

    Args:
        image: (H, W, 3) RGB uint8.
        prediction: for it.
        colors: number of the colour of each detection; by default that of its class, or, of a single class, its
            place by size.
        scale: size of the picture over that of the image.

    Returns:
        (sH, sW, 3) RGB uint8.
    """
    objects, style = prediction.drawn()
    if colors is not None:
        # As if each colour were a class.
        numbers = np.array(colors, dtype=np.int64)
        names = [""] * (int(numbers.max(initial=0)) + 2)
        for number, name in zip(numbers, prediction.names, strict=True):
            names[number] = name
        objects, style = replace(objects, classes=numbers), replace(style, names=names)
    return draw(image, objects, style, scale)


def overlay_path(folder: Path, name: str) -> Path:
    """Return where the overlay of an image with the relative path ``name`` is written."""
    path = folder / name
    return path if path.suffix.lower() in KEPT else path.with_name(f"{path.name}.png")


def write_picture(path: Path, picture: np.ndarray) -> None:
    """Write a picture, (H, W, 3) RGB uint8, whole or not at all, in the format of the file's ending.

    Raises:
        OutputError: it cannot be written.
    """
    whole, content = cv2.imencode(path.suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    if not whole:
        height, width = picture.shape[:2]
        raise OutputError(f"{path} cannot be written: OpenCV writes no {width} x {height} pixels.")
    with replaced(path) as beside:
        beside.write_bytes(content.tobytes())
