"""Reading images, and conversion between colour formats. All names are public in `detectron2.data.detection_utils`.

H, W = height and width of the image, C = channels.

A format is a Pillow mode ("RGB", "L" ...), "BGR", or "YUV-BT.601", which is floating point.
"""

import numpy as np
import torch
from PIL import Image

from detectron2.utils.file_io import PathManager

_EXIF_ORIENTATION = 274

# By the value of that tag, 1 to 8. Pillow's own `exif_transpose` also rewrites the tags, which fails on broken ones.
_UPRIGHT = (
    None,
    None,
    Image.Transpose.FLIP_LEFT_RIGHT,
    Image.Transpose.ROTATE_180,
    Image.Transpose.FLIP_TOP_BOTTOM,
    Image.Transpose.TRANSPOSE,
    Image.Transpose.ROTATE_270,
    Image.Transpose.TRANSVERSE,
    Image.Transpose.ROTATE_90,
)

_YUV_OF_RGB = np.array(
    ((0.299, 0.587, 0.114), (-0.14713, -0.28886, 0.436), (0.615, -0.51499, -0.10001))
)
_RGB_OF_YUV = np.array(((1.0, 0.0, 1.13983), (1.0, -0.39465, -0.5806), (1.0, 2.03211, 0.0)))


def convert_PIL_to_numpy(image: Image.Image, format: str | None) -> np.ndarray:
    """Return a Pillow image as an (H, W, C) array of a format; None keeps the image's own mode.

    The result is uint8 in [0, 255], but for "YUV-BT.601", float64 with Y in [0, 1].
    """
    if format is None:
        return np.asarray(image)
    array = np.asarray(image.convert("RGB" if format in ("BGR", "YUV-BT.601") else format))
    if format == "L":
        return array[:, :, None]
    if format == "BGR":
        return array[:, :, ::-1]
    return np.dot(array / 255.0, _YUV_OF_RGB.T) if format == "YUV-BT.601" else array


def convert_image_to_rgb(image: np.ndarray | torch.Tensor, format: str) -> np.ndarray:
    """Return an (H, W, C) image of a format as (H, W, 3) RGB in [0, 255], uint8 unless it was floating point."""
    if isinstance(image, torch.Tensor):
        image = image.cpu().numpy()
    if format == "BGR":
        return image[..., [2, 1, 0]]
    if format == "YUV-BT.601":
        return np.dot(image, _RGB_OF_YUV.T) * 255.0
    if format == "L":
        image = image[:, :, 0]
    return np.asarray(Image.fromarray(image.astype(np.uint8), mode=format).convert("RGB"))


def _upright(image: Image.Image) -> Image.Image:
    """Turn a photograph as its camera says that it was held."""
    try:
        orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:  # noqa: BLE001
        # Files in the wild have EXIF blocks that Pillow fails on in many ways; the pixels are good.
        return image
    known = isinstance(orientation, int) and 1 < orientation < len(_UPRIGHT)
    return image.transpose(_UPRIGHT[orientation]) if known else image


def read_image(file_name: str, format: str | None = None) -> np.ndarray:
    """Read an image file and turn it upright by its EXIF tag.

    Returns:
        See `convert_PIL_to_numpy`.
    """
    with PathManager.open(file_name, "rb") as f:
        return convert_PIL_to_numpy(_upright(Image.open(f)), format)
