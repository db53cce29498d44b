"""Deterministic transforms beyond fvcore's: resize, rotation, colour.

H, W = height and width of the image, C = channels, N = points.

Coordinates are (x, y) in absolute pixels of the image, as real numbers: the image covers [0, W] x
[0, H] and pixel (i, j) has its centre at (j + 0.5, i + 0.5). `apply_coords` takes an (N, 2) array;
`apply_segmentation` takes an (H, W) array of labels and never mixes two of them.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from fvcore.transforms.transform import CropTransform, NoOpTransform, Transform, TransformList
from PIL import Image

from detectron2._absent import module_getattr

__all__ = ["ColorTransform", "PILColorTransform", "ResizeTransform", "RotationTransform"]

_TORCH_MODES = {Image.NEAREST: "nearest", Image.BILINEAR: "bilinear", Image.BICUBIC: "bicubic"}


def _check_size(transform: Transform, image: np.ndarray) -> None:
    if image.shape[:2] != (transform.h, transform.w):
        size = f"{transform.h} x {transform.w}"
        raise ValueError(f"{type(transform).__name__} is for {size} pixels, got {image.shape[:2]}")


@dataclass(repr=False, eq=False)
class ResizeTransform(Transform):
    """Resize an image of h x w pixels to new_h x new_w.

    uint8 images go through Pillow, which averages over the covered area when it shrinks; other
    types through `torch.nn.functional.interpolate`, which does not.

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
        _check_size(self, img)
        method = self.interp if interp is None else interp
        if img.dtype != np.uint8:
            resized = self._resize_with_torch(img, _TORCH_MODES[method])
        else:
            # Pillow has no images of shape (H, W, 1).
            picture = Image.fromarray(img[:, :, 0] if img.shape[2:] == (1,) else img)
            resized = np.asarray(picture.resize((self.new_w, self.new_h), method))
        return resized.reshape(self.new_h, self.new_w, *img.shape[2:])

    def _resize_with_torch(self, img: np.ndarray, mode: str) -> np.ndarray:
        # A copy where strides are negative, as after a flip: torch has no such tensors.
        channels_last = torch.from_numpy(np.ascontiguousarray(img)).view(1, self.h, self.w, -1)
        corners = {} if mode == "nearest" else {"align_corners": False}
        size = (self.new_h, self.new_w)
        resized = F.interpolate(channels_last.permute(0, 3, 1, 2), size, mode=mode, **corners)
        return resized.permute(0, 2, 3, 1).numpy()

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        """Scale the points in place, in the type of the array: integers are cut."""
        for axis, factor in enumerate((self.new_w / self.w, self.new_h / self.h)):
            coords[:, axis] = coords[:, axis] * factor
        return coords

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        return self.apply_image(segmentation, interp=Image.NEAREST)

    def inverse(self) -> Transform:
        old, new = (self.h, self.w), (self.new_h, self.new_w)
        return ResizeTransform(*new, *old, self.interp)


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
        self.center = self.image_center if self.center is None else self.center
        self.interp = cv2.INTER_LINEAR if self.interp is None else self.interp
        self.bound_w, self.bound_h = self.w, self.h
        if self.expand:
            turn = np.deg2rad(self.angle)
            cos, sin = abs(np.cos(turn)), abs(np.sin(turn))
            bounds = [self.h * sin + self.w * cos, self.h * cos + self.w * sin]
            self.bound_w, self.bound_h = np.rint(bounds).astype(int)
        # OpenCV puts integer coordinates at pixel centres.
        self.rm_coords, self.rm_image = map(self.create_rotation_matrix, (0, -0.5))

    def create_rotation_matrix(self, offset: float = 0) -> np.ndarray:
        """Return the affine (2, 3) matrix for coordinates that are shifted by `offset` pixels."""
        pivot = (self.center[0] + offset, self.center[1] + offset)
        matrix = cv2.getRotationMatrix2D(pivot, self.angle, 1)
        if self.expand:
            # Wherever the pivot was, the centre of the image must land on the centre of the result.
            landed = cv2.transform(self.image_center[None, None, :] + offset, matrix)[0, 0]
            matrix[:, 2] += np.array([self.bound_w / 2, self.bound_h / 2]) + offset - landed
        return matrix

    def apply_image(self, img: np.ndarray, interp: int | None = None) -> np.ndarray:
        _check_size(self, img)
        flags = self.interp if interp is None else interp
        return cv2.warpAffine(img, self.rm_image, (self.bound_w, self.bound_h), flags=flags)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        points = np.asarray(coords, dtype=np.float64)
        # OpenCV refuses empty arrays.
        return cv2.transform(points[:, None, :], self.rm_coords)[:, 0] if len(points) else points

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
    """Change colours alone: `op` maps the image, coordinates and labels stay as they are.

    Args:
        op: takes an image array and returns one of the same height and width.
    """

    def __init__(self, op: Callable[[np.ndarray], np.ndarray]):
        self.op = op

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        return self.op(img)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        return coords

    def apply_segmentation(self, labels: np.ndarray) -> np.ndarray:
        return labels

    def inverse(self) -> Transform:
        return NoOpTransform()


class PILColorTransform(ColorTransform):
    """As `ColorTransform`, with an `op` from Pillow image to Pillow image."""

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        return np.asarray(super().apply_image(Image.fromarray(img)))


__getattr__ = module_getattr(__name__)
