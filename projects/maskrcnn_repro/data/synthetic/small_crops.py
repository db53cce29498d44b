"""Generated classification data that backbones are trained on before they detect, as the paper's on ImageNet.

An image shows one object, of a class of ``small_coco`` or of a further combination of its shapes and textures. A record
has exactly one annotation, with box and mask, so that loader and mapper are those of detection.

``small_crops_train`` (8,000 images) and ``small_crops_val`` (1,000) come from seed 0; other seeds give
independent sets under names such as ``small_crops_seed1_train``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from maskrcnn_repro.data.synthetic.annotations import box_of
from maskrcnn_repro.data.synthetic.dataset import GeneratedSet
from maskrcnn_repro.data.synthetic.draws import Draws
from maskrcnn_repro.data.synthetic.small_coco.grounds import expose, paint_ground
from maskrcnn_repro.data.synthetic.small_coco.kinds import FURTHER_KINDS, KINDS
from maskrcnn_repro.data.synthetic.small_coco.things import draw_outline, paint_stone, paint_thing
from maskrcnn_repro.utils.rle import encode_mask

import numpy as np
from numpy.typing import NDArray

CLASSES = tuple(sorted((*KINDS, *FURTHER_KINDS), key=lambda kind: (kind.shape, kind.surface)))
"""The classes, by ascending category id."""

SIDES = (96, 104, 112, 120, 128)
"""Heights and widths of images."""

SHORTEST, LONGEST = 64, 144
"""Length of the object in pixels, before it is rotated."""

LEAST_INSIDE = 70
"""Least part of the object's area inside the image, in percent."""


@dataclass
class Crop:
    """An image of one object."""

    image: NDArray[np.uint8]
    """(H, W, 3), RGB."""
    mask: NDArray[np.bool_]
    """(H, W): the object's pixels."""
    category_id: int

    def annotations(self) -> list[dict[str, Any]]:
        """Return the one COCO annotation, without ``id`` and ``image_id``."""
        return [
            {
                "category_id": self.category_id,
                "iscrowd": 0,
                "area": int(self.mask.sum()),
                "bbox": box_of(self.mask),
                "segmentation": encode_mask(self.mask),
            }
        ]


def draw_crop(draws: Draws) -> Crop:
    """Draw an image of one object, in front of a ground on which stones may lie."""
    height, width = draws.choice(SIDES), draws.choice(SIDES)
    image = paint_ground(draws, height, width)
    for _ in range(draws.below(3)):
        paint_stone(draws, image, draws.between(20, 60))
    index = draws.below(len(CLASSES))
    kind, mask = CLASSES[index], np.zeros((height, width), dtype=bool)
    while True:
        length = draws.between(SHORTEST, LONGEST)
        centre = (
            draws.between(width // 3, 2 * width // 3),
            draws.between(height // 3, 2 * height // 3),
        )
        outline = draw_outline(draws, kind.shape, length, centre)
        inside, cut = outline.crop(height, width)
        if 100 * outline.mask[cut].sum() >= LEAST_INSIDE * outline.mask.sum():
            break
    mask[inside] = outline.mask[cut]
    paint_thing(draws, image, outline, kind.surface, kind.hue)
    return Crop(expose(draws, image), mask, index + 1)


SMALL_CROPS = GeneratedSet(
    name="small_crops",
    version=1,
    draw=draw_crop,
    categories=tuple(
        {"id": number, "name": kind.name, "supercategory": kind.shape}
        for number, kind in enumerate(CLASSES, start=1)
    ),
    sizes={"train": 8000, "val": 1000},
)

DIGESTS = {
    ("val", 2): "22c3ae767d2517ec839d1603afa918590c2f589567cfef401af6937448f70878",
    ("train", 50): "624b24ce72807a0c0ad5c345af3f65bf9e796e6dc0e472fa38a56dbf2f86672d",
    ("val", 50): "4a8d43e169588ea1d2ab2ef546a18c8202f00fd05b7db49129d36e16068c74cd",
    ("train", 8000): "ea212757f9ea0228843350099fa3b3cd0c0ff107fbd4639c5b5df3acd966da30",
    ("val", 1000): "991b21d62d4aad613462dce2c76bb28ec2687964082f54a602a02f1d20003c55",
}
"""(split, number of images) -> digest of that data set with seed 0, on every machine."""
