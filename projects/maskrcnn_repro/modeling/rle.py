"""Masks of an image as COCO run-length encodings: a container that ``Instances`` take as a field.

R masks of an image of H x W pixels.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np
import torch
from pycocotools import mask as coco_mask

RLE = dict[str, Any]
"""COCO's compressed encoding, fit for JSON: ``{"size": [H, W], "counts": str}``."""


class RLEMasks:
    """R binary masks of one image size, each encoded; what is asked for is decoded on the fly.

    It stands where Detectron2 has an (R, H, W) tensor: it has a length, an index and an iterator over
    (H, W) arrays, one in memory at a time.

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
        """Return one mask decoded, (H, W) bool, or those of a slice, of R bools or of indices, encoded."""
        if isinstance(item, int | np.integer):
            return coco_mask.decode(self.rles[item]).view(bool)
        if isinstance(item, slice):
            return RLEMasks(self.rles[item], self.image_size)
        chosen = np.arange(len(self))[np.asarray(torch.as_tensor(item).cpu())]
        return RLEMasks([self.rles[i] for i in chosen], self.image_size)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Decode one mask after the other, (H, W) bool."""
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        height, width = self.image_size
        return f"{type(self).__name__}({len(self)} masks of {height} x {width} pixels)"

    def to(self, *_: Any, **__: Any) -> RLEMasks:
        """Return the masks themselves: encodings are no tensors, and lie on no device."""
        return self

    def to_bitmaps(self) -> torch.Tensor:
        """Decode all masks at once, (R, H, W) bool."""
        bitmaps = torch.zeros(len(self), *self.image_size, dtype=torch.bool)
        for bitmap, mask in zip(bitmaps.numpy(), self, strict=True):
            bitmap[:] = mask
        return bitmaps

    @staticmethod
    def cat(parts: Sequence[RLEMasks]) -> RLEMasks:
        """Join the masks of at least one container, all of one image size."""
        rles = list(itertools.chain.from_iterable(part.rles for part in parts))
        return RLEMasks(rles, parts[0].image_size)
