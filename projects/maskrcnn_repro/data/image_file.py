"""Image files: what their header says, and their pixels by one rule for every mode, wherever images are read.

H, W = height and width in pixels, C = channels. "Upright" is an image turned as its EXIF orientation asks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from maskrcnn_repro.errors import DataError

from detectron2.utils.file_io import PathManager
from PIL import ExifTags, Image

_DEEP = "the two values of INPUT.PIXEL_RANGE become 0 and 255; refused without that key"
_NO_PROFILE = "converted without a colour profile"
_NO_ALPHA = "the alpha channel is dropped: colours under transparent pixels are seen"
MODES = {
    "1": "black becomes 0, white 255",
    "L": "as it is",
    "P": "each index becomes its palette's colour; transparency is dropped",
    "RGB": "as it is; of a 16-bit channel the upper 8 bits",
    "LA": _NO_ALPHA,
    "PA": _NO_ALPHA,
    "RGBA": _NO_ALPHA,
    "RGBX": "the fourth channel is dropped",
    "CMYK": _NO_PROFILE,
    "YCbCr": _NO_PROFILE,
    "HSV": _NO_PROFILE,
    **dict.fromkeys(("I;16", "I;16L", "I;16B", "I;16N", "I", "F"), _DEEP),
}
"""Pillow's mode of a file, to what becomes of its pixels; a mode that is not here is refused."""
DEEP = tuple(mode for mode, rule in MODES.items() if rule is _DEEP)
"""Grey of more than 8 bits, which has no agreed white."""
_CURE = "convert the file to 8-bit grey or RGB"
_SIDEWAYS = (5, 6, 7, 8)


class ImageError(DataError):
    """An image file that cannot be read, or cannot be shown faithfully."""


@dataclass(frozen=True)
class ImageHeader:
    """What the header of an image file says."""

    size: tuple[int, int]
    """Upright, (W, H)."""
    mode: str
    """Pillow's name; see :data:`MODES`."""
    orientation: int
    """Of EXIF, 1 to 8; 1 is upright."""
    frames: bool
    """Whether there are more pictures after the first, as in an animation."""

    @property
    def refusal(self) -> str:
        """Why this mode is refused, empty if it is not; grey of :data:`DEEP` needs ``INPUT.PIXEL_RANGE``."""
        if self.mode not in MODES:
            return f"has Pillow's mode {self.mode!r}, for which there is no rule; {_CURE}"
        if self.mode in DEEP:
            return (
                f"is grey of more than 8 bits (Pillow's mode {self.mode!r}), whose black and white no file "
                f"tells; name them with INPUT.PIXEL_RANGE (BLACK, WHITE), or {_CURE}"
            )
        return ""


def image_header(path: str | Path) -> ImageHeader:
    """Return what the header of an image file says, without decoding it.

    Args:
        path: of the file.

    Raises:
        ImageError: the file is missing, empty, no image, or larger than Pillow's limit on pixels.
    """
    with _opened(path) as image:
        return _header(image)


@contextlib.contextmanager
def _opened(path: str | Path) -> Iterator[Image.Image]:
    """Open an image file; whatever Pillow raises within the block is an ImageError with its path."""
    try:
        with PathManager.open(str(path), "rb") as stream, Image.open(stream) as image:
            yield image
    except DataError:
        raise
    # Decoders raise OSError, SyntaxError, struct.error, ValueError, EOFError and others on broken bytes.
    except Exception as error:
        reason = _reason(error)
        raise ImageError(f"Image {path} cannot be read: {reason}.") from error


def _reason(error: Exception) -> str:
    if isinstance(error, Image.UnidentifiedImageError):
        return "it is no image file that Pillow knows, or it is empty"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


def _header(image: Image.Image) -> ImageHeader:
    orientation = 1
    # Image.getexif and not image.getexif: that of a PNG file without EXIF before its pixels decodes them.
    with contextlib.suppress(Exception):
        orientation = int(Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1))
    if orientation not in range(1, 9):
        orientation = 1
    width, height = image.size
    # Pillow gives the size of a TIFF file upright.
    if orientation in _SIDEWAYS and image.format != "TIFF":
        width, height = height, width
    frames = bool(getattr(image, "is_animated", False)) and image.format != "MPO"
    return ImageHeader((width, height), image.mode, orientation, frames)
