"""Files of pictures on which predictions are drawn: their size, names and formats.

H, W = height and width of an image in pixels.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from pathlib import Path

from maskrcnn_repro.errors import OutputError
from maskrcnn_repro.utils.files import replaced

import cv2
import numpy as np

SIDES = (480, 1600)
"""Least and largest longer side of an overlay, in pixels: labels fit into the first and are legible in the other."""
PICTURES = (".jpg", ".jpeg", ".png")
"""Formats of overlays of images."""


def magnification(height: int, width: int) -> float:
    """Return by how much an image is resized for its overlay, so that its longer side is within :data:`SIDES`."""
    longest = max(height, width)
    return min(max(longest, SIDES[0]), SIDES[1]) / longest


def overlay_path(folder: Path, name: str, kept: Sequence[str], names: Container[str]) -> Path:
    """Return where the overlay of an input is written, which no other input's overlay is.

    Args:
        folder: of the overlays.
        name: of the input, its relative path.
        kept: endings of inputs whose overlays have the same; others get the last of them behind their own.
        names: of all inputs.
    """
    if Path(name).suffix.lower() in kept:
        return folder / name
    name += kept[-1]
    while name in names:
        name += kept[-1]
    return folder / name


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
