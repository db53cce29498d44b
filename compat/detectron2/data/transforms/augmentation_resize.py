"""Augmentations that change the size of the image.

H, W = height and width of the image. All sizes are in pixels; a pair is (H, W).
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from fvcore.transforms.transform import NoOpTransform, Transform
from PIL import Image

from .augmentation import Augmentation
from .transform import ResizeTransform


def check_sample_style(style: str) -> None:
    """Raise ValueError unless `style` is one of the two ways to draw from a list."""
    if style not in ("range", "choice"):
        raise ValueError(f"sample_style must be 'range' or 'choice', got {style!r}")


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
        check_sample_style(self.sample_style)
        self.is_range = self.sample_style == "range"
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
