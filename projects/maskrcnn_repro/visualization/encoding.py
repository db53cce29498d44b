"""Pictures as the bytes of a file, and as data URIs that a page holds within itself."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from PIL import Image


def encode_picture(
    pixels: np.ndarray | Image.Image, kind: str, *, longest: int = 0, **options: Any
) -> bytes:
    """Return the bytes of an image file.

    Args:
        pixels: (H, W, 3) uint8 RGB, or an image of Pillow's.
        kind: ``"PNG"``, ``"WEBP"`` or ``"JPEG"``.
        longest: pixels of the longer side at most, a larger picture is made smaller; 0: any size.
        options: Pillow's for the format.
    """
    image = Image.fromarray(pixels) if isinstance(pixels, np.ndarray) else pixels
    if longest:
        image = image.copy()
        image.thumbnail((longest, longest))
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def data_uri(content: bytes, kind: str) -> str:
    """Return the bytes of an image file of a kind, such as ``"PNG"``, as a data URI."""
    return f"data:image/{kind.lower()};base64,{base64.b64encode(content).decode()}"
