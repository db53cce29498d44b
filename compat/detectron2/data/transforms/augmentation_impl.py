"""The augmentations. Crops have a file of their own beside this one; all are found here.

H, W = height and width of the image, C = channels. Sizes are in pixels; a pair is (H, W).

All draw from NumPy's global generator, whose seed each worker of a data loader sets for itself.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from fvcore.transforms.transform import (
    BlendTransform,
    HFlipTransform,
    NoOpTransform,
    Transform,
    VFlipTransform,
)
from PIL import Image

from detectron2._absent import module_getattr

from .augmentation import AugInput, Augmentation, _transform_to_aug
from .augmentation_crop import (
    FixedSizeCrop,
    MinIoURandomCrop,
    RandomCrop,
    RandomCrop_CategoryAreaConstraint,
    RandomExtent,
)
from .transform import ResizeTransform, RotationTransform

__all__ = [
    "FixedSizeCrop",
    "MinIoURandomCrop",
    "RandomApply",
    "RandomBrightness",
    "RandomContrast",
    "RandomCrop",
    "RandomCrop_CategoryAreaConstraint",
    "RandomExtent",
    "RandomFlip",
    "RandomLighting",
    "RandomResize",
    "RandomRotation",
    "RandomSaturation",
    "Resize",
    "ResizeScale",
    "ResizeShortestEdge",
]


def _is_range(sample_style: str) -> bool:
    if sample_style not in ("range", "choice"):
        raise ValueError(f"sample_style must be 'range' or 'choice', got {sample_style!r}")
    return sample_style == "range"


class RandomApply(Augmentation):
    """Apply another augmentation or transform with probability `prob`, else nothing."""

    def __init__(self, tfm_or_aug: Transform | Augmentation, prob: float = 0.5):
        self.aug = _transform_to_aug(tfm_or_aug)
        # AssertionError is what Detectron2 raises, and its tests expect it.
        assert 0.0 <= prob <= 1.0, f"prob of RandomApply must lie in [0, 1], got {prob}"
        self.prob = prob

    def _hit(self) -> bool:
        return self._rand_range() < self.prob

    def get_transform(self, *args) -> Transform:
        return self.aug.get_transform(*args) if self._hit() else NoOpTransform()

    def __call__(self, aug_input: AugInput) -> Transform:
        return self.aug(aug_input) if self._hit() else NoOpTransform()


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
                "RandomFlip flips in one direction: set either horizontal or vertical, got "
                f"horizontal={self.horizontal}, vertical={self.vertical}; use two for both"
            )

    def get_transform(self, image: np.ndarray) -> Transform:
        if self._rand_range() >= self.prob:
            return NoOpTransform()
        height, width = image.shape[:2]
        return HFlipTransform(width) if self.horizontal else VFlipTransform(height)


@dataclass(repr=False, eq=False)
class RandomRotation(Augmentation):
    """Rotate counter-clockwise by a random angle.

    Attributes:
        angle: in degrees: the two ends of a range, a list to choose from, or one angle.
        expand: see `RotationTransform`.
        center: (x, y) as fractions of width and height: two corners of a range, a list to choose from, or one
            point. None is the centre of the image. Without effect if `expand`.
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

    def _draw(self) -> tuple[float, tuple[float, float] | None]:
        if not self.is_range:
            angle, centers = np.random.choice(self.angle), self.center
            return angle, centers and centers[np.random.randint(len(centers))]
        angle = np.random.uniform(*self.angle)
        return angle, self.center and tuple(map(np.random.uniform, *self.center))

    def get_transform(self, image: np.ndarray) -> Transform:
        height, width = image.shape[:2]
        angle, center = self._draw()
        if angle % 360 == 0:
            return NoOpTransform()
        pivot = None if center is None else (width * center[0], height * center[1])
        return RotationTransform(
            height, width, angle, expand=self.expand, center=pivot, interp=self.interp
        )


@dataclass(repr=False, eq=False)
class Resize(Augmentation):
    """Resize to a fixed (H, W), or to a square of one given side."""

    shape: int | tuple[int, int]
    interp: int = Image.BILINEAR

    def __post_init__(self):
        self.shape = (self.shape,) * 2 if isinstance(self.shape, int) else tuple(self.shape)

    def get_transform(self, image: np.ndarray) -> Transform:
        return ResizeTransform(*image.shape[:2], *self.shape, self.interp)


@dataclass(repr=False, eq=False)
class RandomResize(Augmentation):
    """Resize to one of several (H, W), each as likely as the others."""

    shape_list: Sequence[tuple[int, int]]
    interp: int = Image.BILINEAR

    def get_transform(self, image: np.ndarray) -> Transform:
        target = self.shape_list[np.random.randint(len(self.shape_list))]
        return ResizeTransform(*image.shape[:2], *target, self.interp)


@dataclass(repr=False, eq=False)
class ResizeShortestEdge(Augmentation):
    """Scale the shorter side to a given length, or as far as the longer side's limit allows.

    The aspect ratio is kept up to rounding.

    Attributes:
        short_edge_length: one length, the ends of a range (both included), or lengths to choose from. A drawn
            length of 0 leaves the image as it is.
        max_size: limit of the longer side.
        sample_style: "range" or "choice".
        interp: a Pillow resampling filter.
    """

    short_edge_length: int | Sequence[int]
    max_size: int = sys.maxsize
    sample_style: str = "range"
    interp: int = Image.BILINEAR

    def __post_init__(self):
        self.is_range = _is_range(self.sample_style)
        if isinstance(self.short_edge_length, int):
            self.short_edge_length = (self.short_edge_length,) * 2
        if self.is_range and len(self.short_edge_length) != 2:
            raise ValueError(
                "short_edge_length must be two lengths when sample_style is 'range', "
                f"got {self.short_edge_length}"
            )

    def get_transform(self, image: np.ndarray) -> Transform:
        height, width = image.shape[:2]
        if self.is_range:
            low, high = self.short_edge_length
            length = np.random.randint(low, high + 1)
        else:
            length = np.random.choice(self.short_edge_length)
        if length == 0:
            return NoOpTransform()
        target = self.get_output_shape(height, width, length, self.max_size)
        return ResizeTransform(height, width, *target, self.interp)

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
    interp: int = Image.BILINEAR

    def get_transform(self, image: np.ndarray) -> Transform:
        height, width = image.shape[:2]
        scale = np.random.uniform(self.min_scale, self.max_scale)
        fit = min(self.target_height * scale / height, self.target_width * scale / width)
        target = (round(height * fit), round(width * fit))
        return ResizeTransform(height, width, *target, self.interp)


# BT.601, as in Pillow's conversion to grey.
_LUMA = [0.299, 0.587, 0.114]

# Principal components of ImageNet's RGB values (Krizhevsky et al. 2012, section 4.1): a column per component.
_RGB_COMPONENTS = np.array(
    [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
)
_RGB_VARIANCES = np.array([0.2175, 0.0188, 0.0045])


@dataclass(repr=False, eq=False)
class _RandomBlend(Augmentation):
    """Weigh the image by a factor drawn from [intensity_min, intensity_max); 1 leaves it as it is."""

    intensity_min: float
    intensity_max: float

    def get_transform(self, image: np.ndarray) -> Transform:
        weight = np.random.uniform(self.intensity_min, self.intensity_max)
        return BlendTransform(self._other(image), src_weight=1 - weight, dst_weight=weight)

    def _other(self, image: np.ndarray) -> float | np.ndarray:
        raise NotImplementedError


class RandomContrast(_RandomBlend):
    """Blend with the mean of the image: a factor below 1 takes contrast away, above 1 adds some."""

    def _other(self, image: np.ndarray) -> float:
        return image.mean()


class RandomBrightness(_RandomBlend):
    """Blend with black: a factor below 1 darkens, above 1 brightens."""

    def _other(self, image: np.ndarray) -> float:
        return 0


class RandomSaturation(_RandomBlend):
    """Blend an RGB image with its grey version: a factor below 1 takes colour away, above 1 adds some."""

    def _other(self, image: np.ndarray) -> np.ndarray:
        _require_rgb(self, image)
        return image.dot(_LUMA)[:, :, np.newaxis]


@dataclass(repr=False, eq=False)
class RandomLighting(Augmentation):
    """Shift an RGB image along the principal components of ImageNet's colours, as AlexNet did.

    Attributes:
        scale: standard deviation of the shift, in units of each component's variance.
    """

    scale: float

    def get_transform(self, image: np.ndarray) -> Transform:
        _require_rgb(self, image)
        weights = np.random.normal(scale=self.scale, size=3)
        shift = _RGB_COMPONENTS.dot(weights * _RGB_VARIANCES)
        return BlendTransform(shift, src_weight=1.0, dst_weight=1.0)


def _require_rgb(aug: Augmentation, image: np.ndarray) -> None:
    if image.shape[-1] != 3:
        raise ValueError(f"{type(aug).__name__} needs an (H, W, 3) RGB image, got {image.shape}")


__getattr__ = module_getattr(__name__)
