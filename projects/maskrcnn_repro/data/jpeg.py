"""JPEG files decoded by OpenCV, whose pixels are Pillow's: both use libjpeg-turbo. It writes BGR without a copy.

H, W = height and width in pixels.
"""

from __future__ import annotations

import functools
import io
from typing import IO

import cv2
import numpy as np
from PIL import Image

_MODES = ("RGB", "L")
"""Pillow's modes of files without a colour profile to convert by."""
_END = b"\xff\xd9"


def decode(image: Image.Image, image_format: str | None) -> np.ndarray | None:
    """Return Pillow's pixels of a JPEG file, (H, W, 3) uint8 BGR and contiguous; not turned by its EXIF.

    Args:
        image: opened, not decoded; its file is read anew.
        image_format: as of Detectron2's ``read_image``.

    Returns:
        None where that is left to Pillow: another format, or a file that is cut off or broken, whose fault Pillow names.
    """
    if image_format != "BGR" or image.format != "JPEG" or image.mode not in _MODES:
        return None
    stream = getattr(image, "fp", None)
    if stream is None or not decodes_as_pillow():
        return None
    content = _whole_file(stream)
    return _decode(content) if content.rstrip(b"\0").endswith(_END) else None


def _whole_file(stream: IO[bytes]) -> bytes:
    place = stream.tell()
    stream.seek(0)
    content = stream.read()
    stream.seek(place)
    return content


def _decode(content: bytes) -> np.ndarray | None:
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        return cv2.imdecode(np.frombuffer(content, dtype=np.uint8), flags)
    except cv2.error:
        return None


@functools.cache
def decodes_as_pillow() -> bool:
    """Whether the OpenCV of this machine gives Pillow's pixels of a coloured and of a grey JPEG file."""
    noise = np.random.default_rng(0).integers(0, 256, (48, 56, 3), dtype=np.uint8)
    coarse = Image.fromarray(noise).resize((83, 67), Image.Resampling.BICUBIC)
    for sample in (coarse, coarse.convert("L")):
        stream = io.BytesIO()
        sample.save(stream, "JPEG", quality=80)
        pixels = _decode(stream.getvalue())
        expected = np.asarray(Image.open(stream).convert("RGB"))[..., ::-1]
        if pixels is None or not np.array_equal(pixels, expected):
            return False
    return True
