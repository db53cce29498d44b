"""Image files: what their header says, and their pixels by one rule for every mode, wherever images are read.

H, W = height and width in pixels, C = channels. "Upright" is an image turned as its EXIF orientation asks.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from maskrcnn_repro.data import jpeg
from maskrcnn_repro.data.orientation import SIDEWAYS, orientation_of, turn_upright
from maskrcnn_repro.errors import ConfigError, DataError
from maskrcnn_repro.utils.files import other_than_file

import numpy as np
from detectron2.data import detection_utils
from detectron2.utils.file_io import PathManager
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

logger = logging.getLogger(__name__)

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
"""Orientation of EXIF -> what turns an image upright."""
DRAWINGS = ("EPS", "WMF")
"""Pillow's names of formats that it lets other programs or the system draw; refused."""
_MISREAD = "YCbCr as RGBX"
"""Stands for the mode of an uncompressed YCbCr TIFF file of which older Pillows (12.0 among them) take four bytes for a pixel."""
_YCBCR = 6
"""Photometric interpretation of TIFF."""


class ImageError(DataError):
    """An image file that cannot be read, or cannot be shown faithfully."""


class ImageTooLargeError(ImageError):
    """An image of more pixels than are allowed; it was not decoded."""


class UnsupportedImageError(ImageError):
    """An intact image of a kind for which there is no rule."""


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
    def sideways(self) -> bool:
        """Whether the orientation exchanges width and height."""
        return self.orientation in SIDEWAYS

    @property
    def refusal(self) -> str:
        """Why this mode is refused, empty if it is not; grey of :data:`DEEP` needs ``INPUT.PIXEL_RANGE``."""
        if self.mode == _MISREAD:
            return f"holds YCbCr pixels that this Pillow misreads; install a newer one, or {_CURE}"
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
    with _open_image(path) as image:
        return _header(image)


def stored_values(path: str | Path) -> np.ndarray:
    """Return the numbers of an image file as they are stored, (H, W) or (H, W, C), such as ids: no rule of :data:`MODES`.

    Raises:
        ImageError: the file cannot be read, is larger than Pillow's limit on pixels, or has several channels of 16 bits,
            of which Pillow reads 8.
    """
    with _open_image(path) as image:
        tiles = getattr(image, "tile", ())  # none where a format is read as a whole
        if image.mode not in DEEP and any(";16" in str(tile[3]) for tile in tiles):
            raise UnsupportedImageError(
                f"Image {path} has channels of 16 bits, of which the lower 8 would be lost; write its numbers in channels "
                "of 8 bits, or in one of 16."
            )
        return np.asarray(image)


def verify_image(path: str | Path) -> None:
    """Raise ImageError if a file is cut off, or of a PNG file a checksum is wrong; nothing is decoded."""
    with _open_image(path) as image:
        image.verify()


@dataclass(frozen=True)
class ImageFiles:
    """Reads image files by the rules of :data:`MODES`; training, evaluation and drawing all read with it."""

    pixel_range: Sequence[float] = ()
    """``INPUT.PIXEL_RANGE``: the values of :data:`DEEP` grey that are black and white; empty: refused."""
    max_pixels: int = 0
    """An image of more pixels is not decoded; 0: of more than Pillow's own limit."""

    def read(
        self, path: str | Path, image_format: str | None, size: tuple[int, int] | None = None
    ) -> np.ndarray:
        """Return the first picture of a file, upright, as an (H, W, C) uint8 array.

        Args:
            path: of the file.
            image_format: ``BGR`` or a mode of Pillow's, as in Detectron2's ``read_image``.
            size: (H, W) that its record says. A file of another number of pixels is not decoded.

        Raises:
            ImageError: the file is broken, of another size than its record says, or its mode is refused.
        """
        with _open_image(path) as image:
            return self._pixels(image, path, image_format, size)

    def decode(self, stream: IO[bytes], name: str, image_format: str | None) -> np.ndarray:
        """Return the pixels of an open file as :meth:`read` does; ``name`` is what error messages call it.

        Raises:
            ImageError: see :meth:`read`.
        """
        with _failing_as(name), _image_in(stream, name) as image:
            return self._pixels(image, name, image_format, None)

    def convert(self, image: Image.Image, name: str, image_format: str | None) -> np.ndarray:
        """Return the pixels of a Pillow image as :meth:`read` does those of a file.

        Args:
            image: not changed, apart from being loaded.
            name: what error messages call it.
            image_format: see :meth:`read`.

        Raises:
            ImageError: see :meth:`read`.
        """
        with _failing_as(name):
            return self._pixels(image, name, image_format, None)

    def _pixels(
        self,
        image: Image.Image,
        path: str | Path,
        image_format: str | None,
        size: tuple[int, int] | None,
    ) -> np.ndarray:
        header = _header(image)
        _check_size(path, header.size, size, by_area=True)
        if self.max_pixels and math.prod(header.size) > self.max_pixels:
            raise ImageTooLargeError(
                f"Image {path} has {header.size[0]} x {header.size[1]} pixels, more than the {self.max_pixels} "
                "that are allowed here."
            )
        if not self.takes(header):
            raise UnsupportedImageError(f"Image {path} {header.refusal}.")
        _say_what_is_lost(path, image, header)
        if header.orientation == 1 and (fast := jpeg.decode(image, image_format)) is not None:
            _check_size(path, fast.shape[1::-1], size)
            return fast
        # Before the turn: what is broken has to fail outside of the block that suppresses errors.
        image.load()
        upright = turn_upright(image, header.orientation)
        _check_size(path, upright.size, size)
        shown = self._in_8_bits(path, upright) if header.mode in DEEP else upright
        pixels: np.ndarray = detection_utils.convert_PIL_to_numpy(shown, image_format)
        return pixels

    def takes(self, header: ImageHeader) -> bool:
        """Whether there is a rule for the mode of a file."""
        return not header.refusal or (header.mode in DEEP and bool(self.pixel_range))

    def _in_8_bits(self, path: str | Path, image: Image.Image) -> Image.Image:
        black, white = self.pixel_range
        # float32 does not hold all values of 32-bit integers.
        values = np.asarray(image, dtype=np.float64)
        if not np.isfinite(values).all():
            raise ImageError(f"Image {path} has values that are not finite; {_CURE}.")
        scaled = (values - black) * (255 / (white - black))
        return Image.fromarray(scaled.clip(0, 255).round().astype(np.uint8))


def check_pixel_range(pixel_range: Sequence[float]) -> None:
    """Raise ConfigError unless ``INPUT.PIXEL_RANGE`` is empty or two finite numbers in ascending order."""
    numbers = [v for v in pixel_range if isinstance(v, int | float) and math.isfinite(v)]
    if pixel_range and not (len(numbers) == len(pixel_range) == 2 and numbers[0] < numbers[1]):
        raise ConfigError(
            f"INPUT.PIXEL_RANGE {tuple(pixel_range)} must be empty or (BLACK, WHITE), two numbers of which the "
            "first is smaller, such as (0, 4095) for 12-bit images."
        )


@contextlib.contextmanager
def _open_image(path: str | Path) -> Iterator[Image.Image]:
    """Open an image file; whatever is raised within the block is an ImageError with its path."""
    if kind := other_than_file(path):
        raise ImageError(f"Image {path} cannot be read: it is {kind}.")
    with (
        _failing_as(path),
        PathManager.open(str(path), "rb") as stream,
        _image_in(stream, path) as image,
    ):
        yield image


def _image_in(stream: IO[bytes], path: str | Path) -> Image.Image:
    """Return the image of an open file, not decoded."""
    try:
        image = Image.open(stream)
    except UnidentifiedImageError as error:
        stream.seek(0)
        kind = _kind_of(stream.read(64))
        raise ImageError(f"Image {path} cannot be read: it is {kind}.") from error
    # Pillow would hand the file to Ghostscript, which runs programs.
    if image.format in DRAWINGS:
        raise UnsupportedImageError(
            f"Image {path} is a drawing ({image.format}) without pixels; {_CURE}."
        )
    return image


@contextlib.contextmanager
def _failing_as(path: str | Path) -> Iterator[None]:
    """Turn whatever Pillow raises within the block into an ImageError with the path."""
    try:
        yield
    except DataError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageTooLargeError(f"Image {path} cannot be read: {_reason(error)}.") from error
    # Decoders raise OSError, SyntaxError, struct.error, ValueError, EOFError and others on broken bytes.
    except Exception as error:
        raise ImageError(f"Image {path} cannot be read: {_reason(error)}.") from error


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


def _kind_of(head: bytes) -> str:
    """Return what a file is that is no image, by its first bytes."""
    if not head:
        return "an empty file"
    if head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page, not an image"
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the image"
    return "no image file that Pillow knows"


def _header(image: Image.Image) -> ImageHeader:
    orientation = orientation_of(image)
    width, height = _stored_size(image)
    if orientation in SIDEWAYS:
        width, height = height, width
    # An MPO is a photograph with a second view or a preview behind it, and no animation.
    frames = bool(getattr(image, "is_animated", False)) and image.format != "MPO"
    mode = _MISREAD if _is_misread(image) else image.mode
    return ImageHeader((width, height), mode, orientation, frames)


def _stored_size(image: Image.Image) -> tuple[int, int]:
    """Return (W, H) before EXIF turns the image; newer Pillows give the size of a TIFF file upright."""
    if (
        isinstance(image, TiffImagePlugin.TiffImageFile) and image.tile
    ):  # without: decoded and turned
        tags = image.tag_v2
        return tags[TiffImagePlugin.IMAGEWIDTH], tags[TiffImagePlugin.IMAGELENGTH]
    return image.size


def _is_misread(image: Image.Image) -> bool:
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return False
    plain = any(tile[0] == "raw" and "RGBX" in (tile[3] or ()) for tile in image.tile)
    return plain and image.tag_v2.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == _YCBCR


def _check_size(
    path: str | Path,
    size: tuple[int, int],
    record_size: tuple[int, int] | None,
    *,
    by_area: bool = False,
) -> None:
    """Raise ImageError if (W, H) of a file is not (H, W) of its record; ``by_area``: for one of other area."""
    if record_size is None:
        return
    expected = record_size[::-1]
    if math.prod(size) != math.prod(expected) if by_area else size != expected:
        raise ImageError(
            f"Image {path} is {size[0]} x {size[1]} pixels (width x height, upright), but its record says "
            f"{expected[0]} x {expected[1]}; correct the record, or the EXIF orientation of the file."
        )


def _say_what_is_lost(path: str | Path, image: Image.Image, header: ImageHeader) -> None:
    if header.frames:
        _say_once("has several pictures, of which the first is read", path)
    if MODES[header.mode] is _NO_ALPHA or "transparency" in image.info:
        _say_once("has transparency, which is dropped: colours under it are seen", path)


def _say_once(fact: str, path: str | Path) -> None:
    if fact not in _said:
        _said.add(fact)
        logger.warning("Image %s %s; so with all such files.", path, fact)


_said: set[str] = set()
