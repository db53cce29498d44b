"""Reading images. All names are public in `detectron2.data.detection_utils`.

H, W = height and width of the image, C = channels. A format is "BGR" or a mode of Pillow's.
"""

import contextlib

import numpy as np
from PIL import Image, ImageOps

from detectron2.utils.file_io import PathManager


def convert_PIL_to_numpy(image: Image.Image, format: str | None) -> np.ndarray:
    """Return a Pillow image as an (H, W, C) array of a format; None keeps the image's own mode.

    Raises:
        ValueError: Pillow knows no such format.
    """
    if format is None:
        return np.asarray(image)
    array = np.asarray(image.convert("RGB" if format == "BGR" else format))
    if format == "L":
        return array[..., None]
    return array[..., ::-1] if format == "BGR" else array


def read_image(file_name: str, format: str | None = None) -> np.ndarray:
    """Read an image file and turn it upright by its EXIF tag.

    Returns:
        See `convert_PIL_to_numpy`.
    """
    with PathManager.open(file_name, "rb") as stream:
        image = Image.open(stream)
        image.load()  # an error of the pixels is not to be suppressed
        # They are turned first, then the tags are written anew, which fails on many a broken one.
        with contextlib.suppress(Exception):
            ImageOps.exif_transpose(image, in_place=True)
        return convert_PIL_to_numpy(image, format)
