"""What is predicted on: one image, or the images of a folder, a pattern, a list or a generator, one by one.

H, W = height and width of an image in pixels.
"""

from __future__ import annotations

import glob
import io
from collections.abc import Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskrcnn_repro.data.image_file import ImageError, ImageFiles
from maskrcnn_repro.errors import DataError
from maskrcnn_repro.inference.picture_files import files_below, is_hidden, is_picture
from maskrcnn_repro.inference.web_image import UrlLimits, is_address, read_address

import numpy as np
from PIL import Image

Source = str | Path | bytes | np.ndarray | Image.Image
"""One image: path or address of a file, the bytes of one, an array, or a Pillow image."""
ARRAYS = "(H, W, 3) RGB, (H, W, 4) RGBA or (H, W) grey in uint8, or (H, W) grey in uint16"


def is_single(x: Any) -> bool:
    """Tell whether ``x`` is one image, and no folder, pattern, list or generator of images."""
    if isinstance(x, str | Path):
        return is_address(x) or not (Path(x).is_dir() or _is_pattern(x))
    return isinstance(x, bytes | Image.Image) or (isinstance(x, np.ndarray) and x.ndim != 4)


def sources_in(x: Any) -> Iterator[Source]:
    """Yield the images that ``x`` stands for, in order: those of a folder and its sub-folders by their paths.

    Raises:
        DataError: it stands for none, or is nothing that holds images; a generator alone may end at once.
    """
    if is_single(x):
        yield x
    elif isinstance(x, str | Path):
        yield from _files_in(x)
    elif isinstance(x, Iterable) and not isinstance(x, Mapping) and not _is_tensor(x):
        if isinstance(x, Sized) and not len(x):
            raise DataError(f"There is no image in an empty {type(x).__name__}.")
        for part in x:
            yield from sources_in(part)
    else:
        raise DataError(
            f"An input of type {type(x).__name__} is no image; it may be a path, address, folder or pattern, the "
            f"bytes of a file, a Pillow image, an array {ARRAYS}, or a list or generator of these."
        )


def _is_tensor(x: Any) -> bool:
    return hasattr(x, "__array__") and not isinstance(x, np.ndarray)


def _is_pattern(x: str | Path) -> bool:
    return glob.has_magic(str(x)) and not Path(x).exists()


def _files_in(x: str | Path) -> Iterator[Path]:
    files: Iterator[Path]
    if _is_pattern(x):
        matches = map(Path, glob.iglob(str(x), recursive=True))
        files = (file for file in matches if not file.is_dir() and not is_hidden(file.name))
    else:
        files = files_below(x)
    images = [file for file in files if is_picture(file.name)]
    if not images:
        what = "fits no image file" if _is_pattern(x) else "holds no image file"
        raise DataError(
            f"{str(x)!r} {what}; looked for the endings that Pillow reads, such as .jpg and .png."
        )
    yield from sorted(images)


@dataclass(frozen=True)
class ImageReader:
    """Reads one image of any kind, always by the rules of :class:`ImageFiles`."""

    files: ImageFiles
    image_format: str
    """``INPUT.FORMAT``."""
    urls: UrlLimits | None = None
    """Limits of what is fetched; None refuses addresses."""

    def read(self, source: Source) -> np.ndarray:
        """Return an (H, W, C) uint8 array in the channel order of the model.

        Raises:
            ImageError: it cannot be read or fetched, or cannot be shown faithfully.
        """
        name = name_of(source)
        if isinstance(source, np.ndarray):
            return self.files.convert(_image_of(source), name, self.image_format)
        if isinstance(source, Image.Image):
            return self.files.convert(source, name, self.image_format)
        if isinstance(source, bytes):
            return self.files.decode(io.BytesIO(source), name, self.image_format)
        if is_address(source):
            content = read_address(str(source), self.urls)
            return self.files.decode(io.BytesIO(content), name, self.image_format)
        return self.files.read(source, self.image_format)


def name_of(source: Source) -> str:
    """Return what error messages call an image."""
    if isinstance(source, str | Path):
        return str(source)
    if isinstance(source, np.ndarray):
        return f"of an array {source.shape} in {source.dtype}"
    if isinstance(source, bytes):
        return f"of {len(source)} bytes"
    return f"of Pillow, mode {source.mode},"


def path_of(source: Source) -> str | None:
    """Return the path or address of an image; None if it has none."""
    return str(source) if isinstance(source, str | Path) else None


def _image_of(array: np.ndarray) -> Image.Image:
    grey = array.ndim == 2 and array.dtype in (np.uint8, np.uint16)
    colored = array.ndim == 3 and array.shape[2] in (3, 4) and array.dtype == np.uint8
    if not (grey or colored) or not array.size:
        raise ImageError(f"Image {name_of(array)} cannot be read; an array is {ARRAYS}.")
    return Image.fromarray(np.ascontiguousarray(array))
