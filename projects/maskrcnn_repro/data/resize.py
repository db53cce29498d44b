"""How images are resized before they go into the network: as ``INPUT.RESIZE`` says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import transforms as T


class FloatResize(T.ResizeTransform):
    """Detectron2's resizing, of images in float32: bilinear, without averaging where it shrinks."""

    def apply_image(self, img: np.ndarray, interp: Any = None) -> np.ndarray:
        """Return the resized image, float32; with a filter of its own, such as of a segmentation, its own type."""
        return super().apply_image(img if interp is not None else img.astype(np.float32), interp)


class TorchvisionResize(T.Augmentation):
    """What torchvision's detectors do to an image: the shorter side to a length, the longer one at most another.

    Args:
        lengths: of the shorter side, pixels: some to draw from, or the ends of a range; 0 leaves an image as it is.
        longest: limit of the longer side, pixels.
        is_range: whether ``lengths`` are the ends, both included, of a range.
    """

    def __init__(
        self, lengths: int | Sequence[int], longest: int, *, is_range: bool = False
    ) -> None:
        super().__init__()
        self.lengths = [lengths] if isinstance(lengths, int) else list(lengths)
        self.longest, self.is_range = longest, is_range

    def get_transform(self, image: np.ndarray) -> T.Transform:
        """Return the resizing of an image (height, width, ...)."""
        if self.is_range:
            length = np.random.randint(self.lengths[0], self.lengths[1] + 1)
        else:
            length = np.random.choice(self.lengths)
        size = image.shape[:2]
        return FloatResize(*size, *(resized(size, int(length), self.longest) if length else size))


def resized(size: tuple[int, int], length: int, longest: int) -> tuple[int, int]:
    """Return torchvision's (height, width) of a resized image: sides are cut to whole pixels, not rounded."""
    scale = min(length / min(size), longest / max(size))
    height, width = (max(int(side * scale), 1) for side in size)
    return height, width


def resizing(cfg: CfgNode, *, is_train: bool) -> T.Augmentation:
    """Return the resizing that ``INPUT.RESIZE`` names, with the sizes of ``INPUT``."""
    keys, kind = cfg.INPUT, "TRAIN" if is_train else "TEST"
    lengths, longest = keys[f"MIN_SIZE_{kind}"], keys[f"MAX_SIZE_{kind}"]
    style = keys.MIN_SIZE_TRAIN_SAMPLING if is_train else "choice"
    if keys.RESIZE == "pillow":
        return T.ResizeShortestEdge(lengths, longest, style)
    return TorchvisionResize(lengths, longest, is_range=style == "range")


def with_resizing(cfg: CfgNode, augmentations: Sequence[Any], *, is_train: bool) -> list[Any]:
    """Return Detectron2's augmentations with the resizing that ``INPUT.RESIZE`` names in place of its own."""
    if cfg.INPUT.RESIZE == "pillow":
        return list(augmentations)
    own = resizing(cfg, is_train=is_train)
    return [own if isinstance(step, T.ResizeShortestEdge) else step for step in augmentations]
