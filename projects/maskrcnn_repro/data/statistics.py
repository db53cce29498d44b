"""Sizes and numbers of a data set's images and objects, from what its check left."""

from __future__ import annotations

from dataclasses import dataclass

from maskrcnn_repro.data.check.scan import Scan
from maskrcnn_repro.data.check.sizes import resize_factors

import numpy as np


@dataclass(frozen=True)
class Statistics:
    """Arrays over the images and the objects of a set; crowds and boxes without an area are no objects.

    Attributes:
        sizes: (M, 2) int64, width and height of each image in pixels of its file, upright.
        sides: (N, 2) float64, width and height of each object's box in these pixels.
        images: (N,) int64, index of its image.
        outlined: (N,) bool, whether it has a mask.
        classes: number of classes.
    """

    sizes: np.ndarray
    sides: np.ndarray
    images: np.ndarray
    outlined: np.ndarray
    classes: int

    @classmethod
    def of(cls, scan: Scan) -> Statistics:
        """Return those of a set whose check is complete and found no error."""
        assert scan.objects is not None
        assert scan.sizes is not None
        single = scan.objects.single
        return cls(
            sizes=scan.sizes,
            sides=scan.objects.boxes[single, 2:],
            images=scan.objects.images[single],
            outlined=~np.isnan(scan.objects.bounds[single, 0]),
            classes=len(scan.class_names),
        )

    @property
    def counts(self) -> np.ndarray:
        """(M,) int64, objects in each image."""
        return np.bincount(self.images, minlength=len(self.sizes))

    @property
    def empty(self) -> int:
        """Images without an object."""
        return int((self.counts == 0).sum())

    @property
    def short_side(self) -> int:
        """Shorter side in pixels that nine tenths of the images do not exceed."""
        return int(np.percentile(self.sizes.min(axis=1), 90))

    @property
    def elongation(self) -> float:
        """Longer over shorter side of an image, below which are 95 % of them."""
        sizes = self.sizes.clip(min=1)
        return float(np.percentile(sizes.max(axis=1) / sizes.min(axis=1), 95))

    def relative_extents(self) -> np.ndarray:
        """(N,) float64, the root of each box's area over the shorter side of its image."""
        return np.sqrt(self.sides.prod(axis=1)) / self.sizes.min(axis=1).clip(min=1)[self.images]

    def resized(self, short: int, longest: int) -> np.ndarray:
        """(N, 2) float64, sides of the boxes after a resize of the images.

        Args:
            short: pixels of an image's shorter side; 0 leaves its size.
            longest: most pixels of its longer side.
        """
        return self.sides * resize_factors(self.sizes, short, longest)[self.images][:, None]
