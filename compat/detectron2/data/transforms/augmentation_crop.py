"""Augmentations that cut a window out of the image.

H, W = height and width of the image, N = boxes. Sizes in pixels unless said otherwise; a pair is (H, W).
"""

from dataclasses import dataclass

import numpy as np
from fvcore.transforms.transform import (
    CropTransform,
    NoOpTransform,
    PadTransform,
    Transform,
    TransformList,
)

from detectron2.structures import Boxes, pairwise_iou

from .augmentation import Augmentation
from .transform import ExtentTransform

_CROP_TYPES = ("relative_range", "relative", "absolute", "absolute_range")


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

    def get_transform(self, image: np.ndarray) -> TransformList:
        height, width = image.shape[:2]
        rows, cols = self.crop_size
        # One number places the window along both axes.
        spare = np.maximum([height - rows, width - cols], 0)
        y0, x0 = np.round(spare * np.random.uniform(0.0, 1.0)).astype(int).tolist()
        transforms = [CropTransform(x0, y0, cols, rows, width, height)]
        if self.pad:
            right, bottom = max(cols - width, 0), max(rows - height, 0)
            cropped = min(cols, width), min(rows, height)
            transforms.append(
                PadTransform(0, 0, right, bottom, *cropped, self.pad_value, self.seg_pad_value)
            )
        return TransformList(transforms)


@dataclass(repr=False, eq=False)
class RandomCrop(Augmentation):
    """Cut a window at a random place.

    Attributes:
        crop_type: how to read `crop_size`.

            - "relative": window height and width as fractions, in (0, 1], of the image's;
            - "relative_range": the least such fractions; the real ones are drawn between them and 1;
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
            raise ValueError(
                f"crop_type of RandomCrop must be one of {_CROP_TYPES}, got {self.crop_type!r}"
            )
        if self.crop_type == "absolute_range" and self.crop_size[0] > self.crop_size[1]:
            raise ValueError(
                f"crop_size of an absolute_range ends below its start: {self.crop_size}"
            )

    def get_transform(self, image: np.ndarray) -> Transform:
        return self._place(image.shape[:2])

    def _place(self, image_size: tuple[int, int]) -> CropTransform:
        height, width = self.get_crop_size(image_size)
        y0 = np.random.randint(image_size[0] - height + 1)
        x0 = np.random.randint(image_size[1] - width + 1)
        return CropTransform(x0, y0, width, height)

    def get_crop_size(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """Draw the (H, W) of the window for an image of this (H, W)."""
        height, width = image_size
        if self.crop_type == "absolute":
            return min(self.crop_size[0], height), min(self.crop_size[1], width)
        if self.crop_type == "absolute_range":
            low, high = self.crop_size
            rows = np.random.randint(min(height, low), min(height, high) + 1)
            return rows, np.random.randint(min(width, low), min(width, high) + 1)
        fractions = self.crop_size
        if self.crop_type == "relative_range":
            least = np.asarray(self.crop_size, dtype=np.float32)
            fractions = least + np.random.rand(2) * (1 - least)
        return int(height * fractions[0] + 0.5), int(width * fractions[1] + 0.5)


@dataclass(repr=False, eq=False)
class RandomCrop_CategoryAreaConstraint(Augmentation):
    """As `RandomCrop`, but up to ten times over, until no class fills too much of the window.

    Attributes:
        crop_type, crop_size: see `RandomCrop`.
        single_category_max_area: greatest fraction of the labelled window for one class; from 1 on there is no
            limit.
        ignored_category: a label that does not count.
    """

    crop_type: str
    crop_size: tuple[float, float]
    single_category_max_area: float = 1.0
    ignored_category: int | None = None

    def __post_init__(self):
        self.crop_aug = RandomCrop(self.crop_type, self.crop_size)

    def get_transform(self, image: np.ndarray, sem_seg: np.ndarray) -> Transform:
        if self.single_category_max_area >= 1.0:
            return self.crop_aug.get_transform(image)
        for _ in range(10):
            window = self.crop_aug._place(sem_seg.shape)
            labels, counts = np.unique(window.apply_segmentation(sem_seg), return_counts=True)
            if self.ignored_category is not None:
                counts = counts[labels != self.ignored_category]
            if len(counts) > 1 and counts.max() < counts.sum() * self.single_category_max_area:
                break
        return window


@dataclass(repr=False, eq=False)
class RandomExtent(Augmentation):
    """Cut a random rectangle, which may reach beyond the image, where the result is black.

    Attributes:
        scale_range: range of the rectangle's size as a factor of the image's.
        shift_range: (x, y) as fractions of width and height: the rectangle's centre moves by up to half of
            that each way from the centre of the image.
    """

    scale_range: tuple[float, float]
    shift_range: tuple[float, float]

    def get_transform(self, image: np.ndarray) -> Transform:
        height, width = image.shape[:2]
        corners = np.array([[-0.5 * width, -0.5 * height], [0.5 * width, 0.5 * height]])
        corners *= np.random.uniform(*self.scale_range)
        for axis, side in enumerate((width, height)):
            corners[:, axis] += self.shift_range[axis] * side * (np.random.rand() - 0.5)
            corners[:, axis] += 0.5 * side
        x0, y0, x1, y1 = corners.reshape(4)
        return ExtentTransform((x0, y0, x1, y1), output_size=(int(y1 - y0), int(x1 - x0)))


@dataclass(repr=False, eq=False)
class MinIoURandomCrop(Augmentation):
    """SSD's crop: a window that overlaps every box by at least an IoU drawn at random, or no crop.

    Attributes:
        min_ious: least IoUs to draw from, beside "no crop" and "any window".
        min_crop_size: least side of the window as a fraction of the image's.
        mode_trials: how often to draw a least IoU.
        crop_trials: how often to try a window for it.
    """

    min_ious: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7, 0.9)
    min_crop_size: float = 0.3
    mode_trials: int = 1000
    crop_trials: int = 50

    def get_transform(self, image: np.ndarray, boxes: np.ndarray | None) -> Transform:
        if boxes is None:
            return NoOpTransform()
        for _ in range(self.mode_trials):
            least_iou = np.random.choice((1, *self.min_ious, 0))
            if least_iou == 1:
                return NoOpTransform()
            for _ in range(self.crop_trials):
                window = self._draw_window(*image.shape[:2])
                if window is not None and _suits(window, boxes, least_iou):
                    left, top, width, height = window
                    return CropTransform(int(left), int(top), int(width), int(height))
        return NoOpTransform()

    def _draw_window(self, height: int, width: int) -> tuple[float, float, float, float] | None:
        """Draw (left, top, width, height); None if it is too long, too high or empty."""
        new_w = np.random.uniform(self.min_crop_size * width, width)
        new_h = np.random.uniform(self.min_crop_size * height, height)
        if not 0.5 <= new_h / new_w <= 2:
            return None
        # Between 1 and the spare pixels, not 0: Detectron2's draw, kept for equal random streams.
        left = np.random.uniform(width - new_w, 1.0)
        top = np.random.uniform(height - new_h, 1.0)
        if int(left + new_w) == int(left) or int(top + new_h) == int(top):
            return None
        return left, top, new_w, new_h


def _suits(window: tuple[float, ...], boxes: np.ndarray, least_iou: float) -> bool:
    """Whether all boxes (N, 4) overlap the window by `least_iou` and one has its centre strictly inside."""
    left, top, width, height = window
    low = np.array([int(left), int(top)])
    high = np.array([int(left + width), int(top + height)])
    boxes = boxes.reshape(-1, 4)
    if len(boxes) == 0:
        return True
    if pairwise_iou(Boxes(np.concatenate([low, high])[None]), Boxes(boxes)).min() < least_iou:
        return False
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    return bool(((centers > low) & (centers < high)).all(axis=1).any())
