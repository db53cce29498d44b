"""What a model says of one image.

Shape legend: R detections, by falling score; H, W height and width of the upright image in pixels; K keypoints.
"Upright" is an image turned as its EXIF orientation asks. Boxes are xyxy in pixels of that image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools import mask as rle_codec


@dataclass(frozen=True, eq=False)
class Prediction:
    """The detections in one image.

    Attributes:
        boxes: (R, 4) float32, xyxy in pixels of the upright image.
        scores: (R,) float32 in [0, 1], falling.
        class_ids: (R,) int64, places in ``class_names``.
        class_names: of all classes of the model.
        height, width: of the upright image, in pixels.
        rles: R masks as COCO's compressed run-length encodings of (H, W), or None from a model without masks.
        keypoints: (R, K, 3) float32: x and y in pixels of the upright image and a score; or None.
        keypoint_names: K names, or none.
        path: of the image, or None for an array.
    """

    boxes: np.ndarray
    scores: np.ndarray
    class_ids: np.ndarray
    class_names: Sequence[str]
    height: int
    width: int
    rles: Sequence[Mapping[str, Any]] | None = None
    keypoints: np.ndarray | None = None
    keypoint_names: Sequence[str] = ()
    path: str | None = None

    def __len__(self) -> int:
        """Number of detections."""
        return len(self.scores)

    @property
    def names(self) -> list[str]:
        """Class name of each detection."""
        return [self.class_names[index] for index in self.class_ids]

    @property
    def masks(self) -> np.ndarray | None:
        """(R, H, W) bool, decoded at each call; or None from a model without masks."""
        if self.rles is None:
            return None
        masks = np.zeros((len(self), self.height, self.width), bool)
        for mask, rle in zip(masks, self.rles, strict=True):
            mask[:] = rle_codec.decode(rle)
        return masks
