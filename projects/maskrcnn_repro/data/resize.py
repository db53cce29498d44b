"""How images are resized before they go into the network: as ``INPUT.RESIZE`` says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import transforms as T
from torch.nn import functional as F


class VectorResize(T.ResizeTransform):
    """Pillow's bilinear resizing of uint8 images of three channels, by torch's vectorised kernel.

    Its weights have 16 bits, Pillow's 22: some values differ by 1.
    """

    def apply_image(self, img: np.ndarray, interp: Any = None) -> np.ndarray:
        """Return the resized image (H, W, 3), its planes one after the other; others as Pillow resizes them."""
        if interp is not None or img.dtype != np.uint8 or img.shape[2:] != (3,):
            return super().apply_image(img, interp)
        image = planes(img)[None]
        size = (self.new_h, self.new_w)
        resized = F.interpolate(image, size, mode="bilinear", antialias=True)
        return resized[0].permute(1, 2, 0).numpy()


class VectorResizeShortestEdge(T.ResizeShortestEdge):
    """Detectron2's ``ResizeShortestEdge`` with :class:`VectorResize`."""

    def get_transform(self, image: np.ndarray) -> T.Transform:
        """Return the resizing of an image (height, width, ...)."""
        step = super().get_transform(image)
        if not isinstance(step, T.ResizeTransform):
            return step
        return VectorResize(step.h, step.w, step.new_h, step.new_w)


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


_SHORTEST_EDGE = {"pillow": T.ResizeShortestEdge, "torch": VectorResizeShortestEdge}


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
    if keys.RESIZE in _SHORTEST_EDGE:
        return _SHORTEST_EDGE[keys.RESIZE](lengths, longest, style)
    return TorchvisionResize(lengths, longest, is_range=style == "range")


def with_resizing(cfg: CfgNode, augmentations: Sequence[Any], *, is_train: bool) -> list[Any]:
    """Return Detectron2's augmentations with the resizing that ``INPUT.RESIZE`` names in place of its own."""
    if cfg.INPUT.RESIZE == "pillow":
        return list(augmentations)
    own = resizing(cfg, is_train=is_train)
    return [own if isinstance(step, T.ResizeShortestEdge) else step for step in augmentations]


def planes(image: np.ndarray) -> torch.Tensor:
    """Return an image (H, W, C) as a contiguous tensor (C, H, W), not a copy where its memory is that already."""
    channels_first = image.transpose(2, 0, 1)
    if channels_first.flags.c_contiguous and channels_first.flags.writeable:
        return torch.from_numpy(channels_first)
    if image.dtype != np.uint8 or image.shape[2] != 3:
        return torch.from_numpy(channels_first.copy())
    mirrored = image.strides[1] < 0
    upright = image[:, ::-1] if mirrored else image
    # OpenCV separates channels, and mirrors rows, several times faster than NumPy.
    if upright.flags.c_contiguous:
        separate: Sequence[np.ndarray] = cv2.split(upright)
    else:
        separate = [np.ascontiguousarray(upright[..., channel]) for channel in range(3)]
    result = np.empty(channels_first.shape, dtype=np.uint8)
    for plane, target in zip(separate, result, strict=True):
        if mirrored:
            cv2.flip(plane, 1, dst=target)
        else:
            target[:] = plane
    return torch.from_numpy(result)
