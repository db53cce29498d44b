"""The turn that an image file asks for by its EXIF, numbered from 1 to 8 as there."""

from __future__ import annotations

import contextlib
import os
import zlib
from typing import IO

from PIL import ExifTags, Image, PngImagePlugin

SIDEWAYS = (5, 6, 7, 8)
"""Orientations that exchange width and height."""
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Orientation -> what turns an image upright."""
_TAIL = 1 << 17
"""Bytes at the end of a PNG file in which EXIF is looked for; it has at most half of that in other formats."""


def orientation_of(image: Image.Image) -> int:
    """Return the orientation of an image that is not decoded; 1, upright, where its EXIF says none."""
    with contextlib.suppress(Exception):
        orientation = int(_exif(image).get(ExifTags.Base.Orientation, 1))
        return orientation if orientation in range(1, 9) else 1
    return 1


def turn_upright(image: Image.Image, orientation: int) -> Image.Image:
    """Return a decoded image turned as its EXIF asks; Pillow has turned a TIFF file."""
    turns = orientation in _UPRIGHT and image.format != "TIFF"
    return image.transpose(_UPRIGHT[orientation]) if turns else image


def _exif(image: Image.Image) -> Image.Exif:
    """Return the EXIF of an image that is not decoded."""
    if isinstance(image, PngImagePlugin.PngImageFile) and "exif" not in image.info and image.fp:
        exif = Image.Exif()
        if content := _exif_behind_pixels(image.fp):
            exif.load(content)
            return exif
    # Not image.getexif: that of a PNG file without EXIF before its pixels decodes them.
    return Image.Image.getexif(image)


def _exif_behind_pixels(stream: IO[bytes]) -> bytes:
    """Return the last EXIF chunk in the tail of a PNG file, empty without; Pillow sees it once it has decoded."""
    place = stream.tell()
    stream.seek(max(0, stream.seek(0, os.SEEK_END) - _TAIL))
    tail = stream.read()
    stream.seek(place)
    start = tail.rfind(b"eXIf")
    end = start + 4 + int.from_bytes(tail[max(0, start - 4) : max(0, start)], "big")
    whole = start >= 0 and zlib.crc32(tail[start:end]) == int.from_bytes(tail[end : end + 4], "big")
    return tail[start + 4 : end] if whole else b""
