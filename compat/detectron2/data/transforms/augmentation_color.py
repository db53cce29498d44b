"""Augmentations that change colours alone.

Each blends the image with something else: weight x image + (1 - weight) x other, cut to [0, 255] for uint8.
"""

from dataclasses import dataclass

import numpy as np
from fvcore.transforms.transform import BlendTransform, Transform

from .augmentation import Augmentation

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
