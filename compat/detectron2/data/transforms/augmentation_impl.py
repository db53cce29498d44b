"""The augmentations. Sizes, crops and colours have files of their own beside this one; all are found here.

H, W = height and width of the image, C = channels.

All draw from NumPy's global generator, whose seed each worker of a data loader sets for itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from fvcore.transforms.transform import (
    HFlipTransform,
    NoOpTransform,
    Transform,
    VFlipTransform,
)

from detectron2._absent import module_getattr

from .augmentation import AugInput, Augmentation, _transform_to_aug
from .augmentation_color import RandomBrightness, RandomContrast, RandomLighting, RandomSaturation
from .augmentation_crop import (
    FixedSizeCrop,
    MinIoURandomCrop,
    RandomCrop,
    RandomCrop_CategoryAreaConstraint,
    RandomExtent,
)
from .augmentation_resize import (
    RandomResize,
    Resize,
    ResizeScale,
    ResizeShortestEdge,
    check_sample_style,
)
from .transform import RotationTransform

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


class RandomRotation(Augmentation):
    """Rotate counter-clockwise by a random angle."""

    def __init__(
        self,
        angle: float | Sequence[float],
        expand: bool = True,
        center: Sequence | None = None,
        sample_style: str = "range",
        interp: int | None = None,
    ):
        """Initialize.

        Args:
            angle: in degrees: the two ends of a range, a list to choose from, or one angle.
            expand: see `RotationTransform`.
            center: (x, y) as fractions of width and height: two corners of a range, a list to choose from, or
                one point. None is the centre of the image. Without effect if `expand`.
            sample_style: "range" or "choice", for both.
            interp: an OpenCV interpolation flag; None is bilinear.
        """
        check_sample_style(sample_style)
        self.is_range = sample_style == "range"
        self.angle = (angle, angle) if isinstance(angle, float | int) else angle
        if center is not None and isinstance(center[0], float | int):
            center = (center, center)
        self.expand, self.center = expand, center
        self.sample_style, self.interp = sample_style, interp

    def _draw(self) -> tuple[float, tuple[float, float] | None]:
        center = None
        if self.is_range:
            angle = np.random.uniform(self.angle[0], self.angle[1])
            if self.center is not None:
                low, high = self.center
                center = np.random.uniform(low[0], high[0]), np.random.uniform(low[1], high[1])
        else:
            angle = np.random.choice(self.angle)
            if self.center is not None:
                center = self.center[np.random.randint(len(self.center))]
        return angle, center

    def get_transform(self, image: np.ndarray) -> Transform:
        height, width = image.shape[:2]
        angle, center = self._draw()
        if angle % 360 == 0:
            return NoOpTransform()
        pivot = None if center is None else (width * center[0], height * center[1])
        return RotationTransform(
            height, width, angle, expand=self.expand, center=pivot, interp=self.interp
        )


__getattr__ = module_getattr(__name__)
