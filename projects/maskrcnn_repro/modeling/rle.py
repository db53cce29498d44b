"""Masks of an image as COCO run-length encodings, in a container that ``Instances`` accepts as a field.

Shape legend: R masks of an image of H x W pixels.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, overload

from maskrcnn_repro.utils.rle import RLE, encode_mask

import numpy as np
import torch
from pycocotools import mask as coco_mask


def encode_masks(masks: Any) -> list[RLE]:
    """Return masks of an image, :class:`RLEMasks` or an (R, H, W) bool tensor, as R encodings."""
    if isinstance(masks, RLEMasks):
        return masks.rles
    return [encode_mask(mask.cpu().numpy().view(np.uint8)) for mask in masks]


class RLEMasks(Sequence[np.ndarray]):
    """R binary masks of one image, stored as run-length encodings and decoded when they are read.

    Replaces Detectron2's (R, H, W) tensor ``pred_masks``: it has a length, indexing, and an iterator over
    (H, W) arrays, of which one at a time is in memory.

    Args:
        rles: the R encodings, all of one size.
        image_size: H, W.

    Raises:
        ValueError: an encoding of another size.
    """

    def __init__(self, rles: Sequence[RLE], image_size: tuple[int, int]) -> None:
        self.rles = list(rles)
        """The encodings, in order."""
        self.image_size = (int(image_size[0]), int(image_size[1]))
        """H, W."""
        for number, rle in enumerate(self.rles):
            if tuple(rle["size"]) != self.image_size:
                raise ValueError(
                    f"RLE {number} has the size {tuple(rle['size'])}, not {self.image_size}."
                )

    def __len__(self) -> int:
        return len(self.rles)

    @overload
    def __getitem__(self, item: int) -> np.ndarray: ...

    @overload
    def __getitem__(self, item: slice | torch.Tensor | np.ndarray | list) -> RLEMasks: ...

    def __getitem__(self, item: Any) -> np.ndarray | RLEMasks:
        """Return one mask, (H, W) bool, or the encoded masks of a slice, of R bools or of indices."""
        if isinstance(item, int | np.integer):
            return coco_mask.decode(self.rles[item]).view(bool)
        if isinstance(item, slice):
            return RLEMasks(self.rles[item], self.image_size)
        rows = item.cpu().numpy() if isinstance(item, torch.Tensor) else item
        return RLEMasks([self.rles[i] for i in np.arange(len(self))[rows]], self.image_size)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Decode one mask after the other, (H, W) bool."""
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        height, width = self.image_size
        return f"{type(self).__name__}({len(self)} masks of {height} x {width} pixels)"

    def to(self, *_: Any, **__: Any) -> RLEMasks:
        """Return ``self``: ``Instances.to`` calls it, but encodings are on no device."""
        return self

    def to_bitmaps(self) -> torch.Tensor:
        """Decode all masks at once, (R, H, W) bool."""
        bitmaps = torch.zeros(len(self), *self.image_size, dtype=torch.bool)
        for bitmap, mask in zip(bitmaps.numpy(), self, strict=True):
            bitmap[:] = mask
        return bitmaps

    @staticmethod
    def cat(parts: Sequence[RLEMasks]) -> RLEMasks:
        """Concatenate at least one container of masks of the same image size, for ``Instances.cat``."""
        rles = list(itertools.chain.from_iterable(part.rles for part in parts))
        return RLEMasks(rles, parts[0].image_size)
