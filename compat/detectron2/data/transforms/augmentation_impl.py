"""The augmentations.

H, W = height and width of the image, C = channels. Unless said otherwise, sizes are pairs (H, W) in
pixels.

All draw from NumPy's global generator, whose seed each worker of a data loader sets for itself.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from fvcore.transforms import transform as fv
from PIL.Image import Resampling

from detectron2._absent import module_getattr

from .augmentation import AugInput, Augmentation, _as_augmentation
from .transform import ResizeTransform, RotationTransform

__all__ = [
    "FixedSizeCrop",
    "RandomApply",
    "RandomBrightness",
    "RandomContrast",
    "RandomCrop",
    "RandomFlip",
    "RandomRotation",
    "RandomSaturation",
    "Resize",
    "ResizeScale",
    "ResizeShortestEdge",
]


class RandomApply(Augmentation):
    """Apply another augmentation or transform with probability `prob`, else nothing."""

    def __init__(self, tfm_or_aug: fv.Transform | Augmentation, prob: float = 0.5):
        # AssertionError is what Detectron2 raises, and its tests expect it.
        assert 0.0 <= prob <= 1.0, f"prob of RandomApply must lie in [0, 1], got {prob}"
        self.aug, self.prob = _as_augmentation(tfm_or_aug), prob

    def get_transform(self, *args) -> fv.Transform:
        return self.aug.get_transform(*args) if self._hit() else fv.NoOpTransform()

    def __call__(self, aug_input: AugInput) -> fv.Transform:
        return self.aug(aug_input) if self._hit() else fv.NoOpTransform()

    def _hit(self) -> bool:
        return self._rand_range() < self.prob


@dataclass(repr=False, eq=False)
class RandomFlip(Augmentation):
    """Flip with probability `prob`: either left-right or upside down.

    Raises:
        ValueError: not exactly one of `horizontal` and `vertical` is set.
    """

    prob: float = 0.5
    horizontal: bool = field(default=True, kw_only=True)
    vertical: bool = field(default=False, kw_only=True)

    def __post_init__(self):
        if bool(self.horizontal) == bool(self.vertical):
            raise ValueError(
                "RandomFlip has one direction (use two of them for both), got "
                f"horizontal={self.horizontal}, vertical={self.vertical}"
            )

    def get_transform(self, image: np.ndarray) -> fv.Transform:
        height, width = image.shape[:2]
        flip = fv.HFlipTransform(width) if self.horizontal else fv.VFlipTransform(height)
        return flip if self._rand_range() < self.prob else fv.NoOpTransform()


@dataclass(repr=False, eq=False)
class Resize(Augmentation):
    """Resize to a fixed (H, W), or to a square of one given side."""

    shape: int | tuple[int, int]
    interp: int = Resampling.BILINEAR

    def __post_init__(self):
        self.shape = (self.shape,) * 2 if isinstance(self.shape, int) else tuple(self.shape)

    def get_transform(self, image: np.ndarray) -> fv.Transform:
        return ResizeTransform(*image.shape[:2], *self.shape, self.interp)


def _is_range(sample_style: str) -> bool:
    if sample_style not in ("range", "choice"):
        raise ValueError(f"sample_style must be 'range' or 'choice', got {sample_style!r}")
    return sample_style == "range"


@dataclass(repr=False, eq=False)
class ResizeShortestEdge(Augmentation):
    """Scale the shorter side to a given length, or as far as the longer side's limit allows.

    The aspect ratio is kept up to rounding.

    Attributes:
        short_edge_length: one length, the ends of a range (both included), or lengths to choose
            from. A drawn length of 0 leaves the image as it is.
        max_size: limit of the longer side.
        sample_style: "range" or "choice".
        interp: a Pillow resampling filter.
    """

    short_edge_length: int | Sequence[int]
    max_size: int = sys.maxsize
    sample_style: str = "range"
    interp: int = Resampling.BILINEAR

    def __post_init__(self):
        self.is_range = _is_range(self.sample_style)
        if isinstance(self.short_edge_length, int):
            self.short_edge_length = (self.short_edge_length,) * 2
        if self.is_range and len(self.short_edge_length) != 2:
            raise ValueError(
                f"a range of short_edge_length is two numbers, got {self.short_edge_length}"
            )

    def get_transform(self, image: np.ndarray) -> fv.Transform:
        if self.is_range:
            low, high = self.short_edge_length
            length = np.random.randint(low, high + 1)
        else:
            length = np.random.choice(self.short_edge_length)
        if length == 0:
            return fv.NoOpTransform()
        size = image.shape[:2]
        target = self.get_output_shape(*size, length, self.max_size)
        return ResizeTransform(*size, *target, self.interp)

    @staticmethod
    def get_output_shape(
        oldh: int, oldw: int, short_edge_length: int, max_size: int
    ) -> tuple[int, int]:
        """Return the (H, W) that an image of oldh x oldw is resized to."""
        short = float(short_edge_length)
        scale = short / min(oldh, oldw)
        height, width = (short, scale * oldw) if oldh < oldw else (scale * oldh, short)
        shrink = min(1.0, max_size / max(height, width))
        return int(height * shrink + 0.5), int(width * shrink + 0.5)


@dataclass(repr=False, eq=False)
class ResizeScale(Augmentation):
    """Scale to fit inside a target box that is itself scaled at random, keeping the aspect ratio.

    With `FixedSizeCrop` after it, this is large-scale jittering.

    Attributes:
        min_scale, max_scale: range of the random scale of the target box.
        target_height, target_width: the target box.
        interp: a Pillow resampling filter.
    """

    min_scale: float
    max_scale: float
    target_height: int
    target_width: int
    interp: int = Resampling.BILINEAR

    def get_transform(self, image: np.ndarray) -> fv.Transform:
        height, width = image.shape[:2]
        scale = np.random.uniform(self.min_scale, self.max_scale)
        fit = min(self.target_height * scale / height, self.target_width * scale / width)
        target = (round(height * fit), round(width * fit))
        return ResizeTransform(height, width, *target, self.interp)


@dataclass(repr=False, eq=False)
class RandomRotation(Augmentation):
    """Rotate counter-clockwise by a random angle.

    Attributes:
        angle: in degrees: the two ends of a range, a list to choose from, or one angle.
        expand: see `RotationTransform`.
        center: (x, y) as fractions of width and height: two corners of a range, a list to choose
            from, or one point. None is the centre of the image. Without effect if `expand`.
        sample_style: "range" or "choice", for both.
        interp: an OpenCV interpolation flag; None is bilinear.
    """

    angle: float | Sequence[float]
    expand: bool = True
    center: Sequence | None = None
    sample_style: str = "range"
    interp: int | None = None

    def __post_init__(self):
        self.is_range = _is_range(self.sample_style)
        if isinstance(self.angle, float | int):
            self.angle = (self.angle, self.angle)
        if self.center is not None and isinstance(self.center[0], float | int):
            self.center = (self.center, self.center)

    def get_transform(self, image: np.ndarray) -> fv.Transform:
        height, width = image.shape[:2]
        # The angle is drawn before the centre.
        if self.is_range:
            angle = np.random.uniform(*self.angle)
            center = self.center and tuple(map(np.random.uniform, *self.center))
        else:
            angle = np.random.choice(self.angle)
            center = self.center and self.center[np.random.randint(len(self.center))]
        if angle % 360 == 0:
            return fv.NoOpTransform()
        pivot = center and (width * center[0], height * center[1])
        return RotationTransform(height, width, angle, self.expand, pivot, self.interp)


@dataclass(repr=False, eq=False)
class FixedSizeCrop(Augmentation):
    """Cut a window of a fixed size; where the image is smaller, pad at the right and bottom.

    Attributes:
        crop_size: (H, W) of the result.
        pad: whether to pad; otherwise a smaller image stays smaller.
        pad_value, seg_pad_value: what to pad the image and the label map with.
    """

    crop_size: tuple[int, int]
    pad: bool = True
    pad_value: float = 128.0
    seg_pad_value: int = 255

    def get_transform(self, image: np.ndarray) -> fv.TransformList:
        height, width = image.shape[:2]
        rows, cols = self.crop_size
        # One number places the window along both axes.
        spare = np.maximum([height - rows, width - cols], 0)
        y0, x0 = np.round(spare * np.random.uniform(0.0, 1.0)).astype(int).tolist()
        chosen: list[fv.Transform] = [fv.CropTransform(x0, y0, cols, rows, width, height)]
        if self.pad:
            right, bottom = max(cols - width, 0), max(rows - height, 0)
            cropped = min(cols, width), min(rows, height)
            values = self.pad_value, self.seg_pad_value
            chosen.append(fv.PadTransform(0, 0, right, bottom, *cropped, *values))
        return fv.TransformList(chosen)


_CROP_TYPES = ("relative_range", "relative", "absolute", "absolute_range")


@dataclass(repr=False, eq=False)
class RandomCrop(Augmentation):
    """Cut a window at a random place.

    Attributes:
        crop_type: how to read `crop_size`.

            - "relative": window height and width as fractions, in (0, 1], of the image's;
            - "relative_range": the least such fractions; they are drawn between these and 1;
            - "absolute": window height and width in pixels, cut to the image's;
            - "absolute_range": least and greatest side in pixels; height and width are drawn apart.
        crop_size: two numbers.

    Raises:
        ValueError: `crop_type` is not one of these, or the range ends before it begins.
    """

    crop_type: str
    crop_size: tuple[float, float]

    def __post_init__(self):
        if self.crop_type not in _CROP_TYPES:
            raise ValueError(f"crop_type must be one of {_CROP_TYPES}, got {self.crop_type!r}")
        if self.crop_type == "absolute_range" and self.crop_size[0] > self.crop_size[1]:
            raise ValueError(f"the range crop_size ends before it begins: {self.crop_size}")

    def get_transform(self, image: np.ndarray) -> fv.Transform:
        rows, cols = self.get_crop_size(image.shape[:2])
        y0 = np.random.randint(image.shape[0] - rows + 1)
        x0 = np.random.randint(image.shape[1] - cols + 1)
        return fv.CropTransform(x0, y0, cols, rows)

    def get_crop_size(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """Draw the (H, W) of the window for an image of this (H, W)."""
        height, width = image_size
        first, second = self.crop_size
        if self.crop_type == "absolute":
            return min(first, height), min(second, width)
        if self.crop_type == "absolute_range":
            rows = np.random.randint(min(height, first), min(height, second) + 1)
            return rows, np.random.randint(min(width, first), min(width, second) + 1)
        if self.crop_type == "relative_range":
            least = np.asarray(self.crop_size, dtype=np.float32)
            first, second = least + np.random.rand(2) * (1 - least)
        return int(height * first + 0.5), int(width * second + 0.5)


@dataclass(repr=False, eq=False)
class _RandomBlend(Augmentation):
    """Weigh the image by a factor drawn from [intensity_min, intensity_max); 1 leaves it as it is.

    A subclass gives `_other`, what to blend the image with.
    """

    intensity_min: float
    intensity_max: float

    def get_transform(self, image: np.ndarray) -> fv.Transform:
        weight = np.random.uniform(self.intensity_min, self.intensity_max)
        return fv.BlendTransform(self._other(image), src_weight=1 - weight, dst_weight=weight)


class RandomContrast(_RandomBlend):
    """Blend with the mean of the image: a factor below 1 takes contrast away, above 1 adds some."""

    def _other(self, image: np.ndarray) -> float:
        return image.mean()


class RandomBrightness(_RandomBlend):
    """Blend with black: a factor below 1 darkens, above 1 brightens."""

    def _other(self, image: np.ndarray) -> float:
        return 0


class RandomSaturation(_RandomBlend):
    """Blend an RGB image with its grey version: below 1 takes colour away, above 1 adds some."""

    def _other(self, image: np.ndarray) -> np.ndarray:
        if image.shape[-1] != 3:
            raise ValueError(f"RandomSaturation needs an (H, W, 3) RGB image, got {image.shape}")
        # BT.601, as in Pillow's conversion to grey.
        return image.dot([0.299, 0.587, 0.114])[:, :, np.newaxis]


__getattr__ = module_getattr(__name__)
