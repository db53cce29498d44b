"""Deterministic transforms beyond fvcore's: resize, extent, rotation, colour.

H, W = height and width of the image, C = channels, N = points.

Coordinates are (x, y) in absolute pixels of the image, as real numbers: the image covers [0, W] x [0, H] and
pixel (i, j) has its centre at (j + 0.5, i + 0.5). `apply_coords` takes an (N, 2) array; `apply_segmentation`
takes an (H, W) array of labels and never mixes two of them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from fvcore.transforms.transform import CropTransform, NoOpTransform, Transform, TransformList
from PIL import Image

from detectron2._absent import module_getattr

__all__ = [
    "ColorTransform",
    "ExtentTransform",
    "PILColorTransform",
    "ResizeTransform",
    "RotationTransform",
]

_TORCH_MODES = {Image.NEAREST: "nearest", Image.BILINEAR: "bilinear", Image.BICUBIC: "bicubic"}


def _with_pil(image: np.ndarray, operation: Callable[[Image.Image], Image.Image]) -> np.ndarray:
    """Run a Pillow operation on an (H, W) or (H, W, C) array; Pillow has no one-channel (H, W, 1) images."""
    one_channel = image.ndim == 3 and image.shape[2] == 1
    result = np.asarray(operation(Image.fromarray(image[:, :, 0] if one_channel else image)))
    return result[:, :, None] if one_channel else result


@dataclass(repr=False, eq=False)
class ExtentTransform(Transform):
    """Cut a rectangle out of the image and scale it to a given size.

    Attributes:
        src_rect: (x0, y0, x1, y1) in pixels of the input; it may reach beyond the image.
        output_size: (H, W) of the result.
        interp: a Pillow resampling filter.
        fill: the colour of pixels from outside the image.
    """

    src_rect: tuple[float, float, float, float]
    output_size: tuple[int, int]
    interp: int = Image.BILINEAR
    fill: Any = 0

    def apply_image(self, img: np.ndarray, interp: int | None = None) -> np.ndarray:
        height, width = self.output_size
        return _with_pil(
            img,
            lambda image: image.transform(
                (width, height),
                Image.Transform.EXTENT,
                self.src_rect,
                resample=interp or self.interp,
                fill=self.fill,
            ),
        )

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        x0, y0, x1, y1 = self.src_rect
        height, width = self.output_size
        moved = coords.astype(np.float32)
        for axis, (low, high, side) in enumerate(((x0, x1, width), (y0, y1, height))):
            column = moved[:, axis]
            column -= 0.5 * (low + high)
            column *= side / (high - low)
            column += 0.5 * side
        return moved

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        return self.apply_image(segmentation, interp=Image.NEAREST)


@dataclass(repr=False, eq=False)
class ResizeTransform(Transform):
    """Resize an image of h x w pixels to new_h x new_w.

    uint8 images go through Pillow, which averages over the covered area when it shrinks; other types through
    `torch.nn.functional.interpolate`, which does not.

    Attributes:
        interp: a Pillow resampling filter; None is bilinear.
    """

    h: int
    w: int
    new_h: int
    new_w: int
    interp: int | None = None

    def __post_init__(self):
        if self.interp is None:
            self.interp = Image.BILINEAR

    def apply_image(self, img: np.ndarray, interp: int | None = None) -> np.ndarray:
        """Resize an array of shape (H, W), (H, W, C) or, unless uint8, (H, W, N, C)."""
        if img.shape[:2] != (self.h, self.w):
            raise ValueError(
                f"ResizeTransform was made for {self.h} x {self.w} pixels, got {img.shape[:2]}"
            )
        method = self.interp if interp is None else interp
        if img.dtype == np.uint8:
            return _with_pil(img, lambda image: image.resize((self.new_w, self.new_h), method))
        return self._resize_with_torch(img, _TORCH_MODES[method])

    def _resize_with_torch(self, img: np.ndarray, mode: str) -> np.ndarray:
        # A copy where strides are negative, as after a flip: torch has no such tensors.
        channels_last = torch.from_numpy(np.ascontiguousarray(img)).view(self.h, self.w, -1)
        resized = F.interpolate(
            channels_last.permute(2, 0, 1)[None],
            (self.new_h, self.new_w),
            mode=mode,
            align_corners=None if mode == "nearest" else False,
        )
        return resized[0].permute(1, 2, 0).reshape(self.new_h, self.new_w, *img.shape[2:]).numpy()

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        """Scale the points in place, in the type of the array: integers are cut."""
        for axis, factor in enumerate((self.new_w / self.w, self.new_h / self.h)):
            coords[:, axis] = coords[:, axis] * factor
        return coords

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        return self.apply_image(segmentation, interp=Image.NEAREST)

    def inverse(self) -> Transform:
        return ResizeTransform(self.new_h, self.new_w, self.h, self.w, self.interp)


@dataclass(repr=False, eq=False)
class RotationTransform(Transform):
    """Rotate counter-clockwise about a point of an image of h x w pixels.

    Attributes:
        angle: in degrees.
        expand: whether the result grows to hold the whole rotated image; otherwise it stays h x w.
        center: (x, y) in pixels; None is the centre of the image. Without effect if `expand`.
        interp: an OpenCV interpolation flag; None is bilinear.
        bound_h, bound_w: size of the result.
    """

    h: int
    w: int
    angle: float
    expand: bool = True
    center: tuple[float, float] | None = None
    interp: int | None = None

    def __post_init__(self):
        self.image_center = np.array((self.w / 2, self.h / 2))
        if self.center is None:
            self.center = self.image_center
        if self.interp is None:
            self.interp = cv2.INTER_LINEAR
        self.bound_w, self.bound_h = self._bounds() if self.expand else (self.w, self.h)
        self.rm_coords = self.create_rotation_matrix()
        # OpenCV puts integer coordinates at pixel centres.
        self.rm_image = self.create_rotation_matrix(offset=-0.5)

    def _bounds(self) -> np.ndarray:
        turn = np.deg2rad(self.angle)
        cos, sin = abs(np.cos(turn)), abs(np.sin(turn))
        return np.rint([self.h * sin + self.w * cos, self.h * cos + self.w * sin]).astype(int)

    def create_rotation_matrix(self, offset: float = 0) -> np.ndarray:
        """Return the affine (2, 3) matrix for coordinates that are shifted by `offset` pixels."""
        pivot = (self.center[0] + offset, self.center[1] + offset)
        matrix = cv2.getRotationMatrix2D(pivot, self.angle, 1)
        if self.expand:
            # Wherever the pivot was, the centre of the image must land on the centre of the result.
            landed = cv2.transform(self.image_center[None, None, :] + offset, matrix)[0, 0]
            matrix[:, 2] += np.array([self.bound_w / 2, self.bound_h / 2]) + offset - landed
        return matrix

    @property
    def _does_nothing(self) -> bool:
        return self.angle % 360 == 0

    def apply_image(self, img: np.ndarray, interp: int | None = None) -> np.ndarray:
        if len(img) == 0 or self._does_nothing:
            return img
        if img.shape[:2] != (self.h, self.w):
            raise ValueError(
                f"RotationTransform was made for {self.h} x {self.w} pixels, got {img.shape[:2]}"
            )
        flags = self.interp if interp is None else interp
        return cv2.warpAffine(img, self.rm_image, (self.bound_w, self.bound_h), flags=flags)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        coords = np.asarray(coords, dtype=float)
        if len(coords) == 0 or self._does_nothing:
            return coords
        return cv2.transform(coords[:, None, :], self.rm_coords)[:, 0, :]

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        return self.apply_image(segmentation, interp=cv2.INTER_NEAREST)

    def inverse(self) -> Transform:
        """Rotate back, then cut the original h x w out of the middle.

        Raises:
            NotImplementedError: without `expand`, because the corners are lost.
        """
        if not self.expand:
            raise NotImplementedError("a rotation with expand=False loses corners: no inverse")
        back = RotationTransform(self.bound_h, self.bound_w, -self.angle, interp=self.interp)
        x0, y0 = (back.bound_w - self.w) // 2, (back.bound_h - self.h) // 2
        return TransformList([back, CropTransform(x0, y0, self.w, self.h)])


class ColorTransform(Transform):
    """Change colours alone: the image goes through `op`, coordinates and labels stay as they are."""

    def __init__(self, op: Callable[[np.ndarray], np.ndarray]):
        """Initialize.

        Args:
            op: takes an image array and returns one of the same height and width.

        Raises:
            TypeError: `op` cannot be called.
        """
        if not callable(op):
            raise TypeError(f"op of {type(self).__name__} must be callable, got {op!r}")
        super().__init__()
        self.op = op

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        return self.op(img)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        return coords

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        return segmentation

    def inverse(self) -> Transform:
        return NoOpTransform()


class PILColorTransform(ColorTransform):
    """As `ColorTransform`, with an `op` from Pillow image to Pillow image."""

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        return np.asarray(self.op(Image.fromarray(img)))


__getattr__ = module_getattr(__name__)
