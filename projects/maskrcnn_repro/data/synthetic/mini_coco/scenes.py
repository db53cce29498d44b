"""Random images with annotations: objects that may occlude each other, drawn back to front.

H, W = height and width of the image in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from maskrcnn_repro.data.synthetic.annotations import box_of, runs_of
from maskrcnn_repro.data.synthetic.draws import Draws
from maskrcnn_repro.data.synthetic.mini_coco.shapes import SHAPES
from maskrcnn_repro.data.synthetic.outlines import FIFTHS, Point, Ring, area, fill, place
from maskrcnn_repro.data.synthetic.textures import PATTERNS, Colour, muted_colour, paint
from maskrcnn_repro.utils.rle import encode_mask

import numpy as np
from numpy.typing import NDArray

# With gaps, as COCO's (80 classes with ids up to 90).
CATEGORY_IDS = dict(zip(sorted(SHAPES), (1, 2, 3, 5, 6, 8, 9, 12), strict=True))
"""Class name -> category id in the JSON."""

STUFF_IDS = dict(zip(PATTERNS, (92, 93, 95, 96, 98), strict=True))
"""Texture of the ground -> category id in the panoptic JSON, behind those of the classes."""

SIDES = (128, 136, 144, 152, 160)
"""Heights and widths of images."""

SMALLEST, LARGEST = 24, 96
"""Length of an object in pixels, before it is rotated; objects that are longer afterwards are discarded."""

LARGEST_TURN = 45
"""Limit of an object's rotation to either side, in degrees: as in photographs, most objects are upright."""

LEAST_VISIBLE = 60
"""Least visible part of an object's area, in percent."""

# Without typical colours, 13 mask AP instead of 21 after as many iterations (DEVIATIONS.md).
COLOURS: dict[str, Colour] = {
    "arrow": (215, 70, 60),
    "bar": (225, 150, 50),
    "crescent": (205, 205, 70),
    "cross": (95, 190, 80),
    "ell": (70, 190, 190),
    "horseshoe": (80, 120, 220),
    "ring": (150, 90, 210),
    "star": (215, 100, 170),
}
"""Class name -> typical colour, RGB."""

COLOUR_SPREAD = 36
"""Largest difference of an object's colour from the typical one, in each channel."""


@dataclass
class _Object:
    category: str
    outline: list[Ring] | None
    """In fifths of a pixel; None for a crowd."""
    full_area: int
    """In square pixels, hidden parts and those outside of the image included."""


@dataclass
class Scene:
    """An image and its objects."""

    image: NDArray[np.uint8]
    """(H, W, 3), RGB."""
    owner: NDArray[np.int64]
    """(H, W): index of the visible object at each pixel, plus one; 0 is background."""
    ground: str
    """Texture of the background, one of :data:`STUFF_IDS`."""
    objects: list[_Object] = field(default_factory=list)

    def annotations(self) -> list[dict[str, Any]]:
        """Return the COCO annotations of the visible parts, without ``id`` and ``image_id``."""
        return [self._annotation(i, instance) for i, instance in enumerate(self.objects, start=1)]

    def segments(self) -> tuple[NDArray[np.int64], list[dict[str, Any]]]:
        """Return ids of panoptic segments, (H, W), and their entries in a COCO panoptic JSON; nothing is void."""
        ids = np.where(self.owner == 0, len(self.objects) + 1, self.owner)
        return ids, [self._segment(index, ids == index) for index in np.unique(ids).tolist()]

    def _segment(self, index: int, mask: NDArray[np.bool_]) -> dict[str, Any]:
        thing = self.objects[index - 1] if index <= len(self.objects) else None
        return {
            "id": index,
            "category_id": CATEGORY_IDS[thing.category] if thing else STUFF_IDS[self.ground],
            "iscrowd": int(thing is not None and thing.outline is None),
            "area": int(mask.sum()),
            "bbox": box_of(mask),
        }

    def _annotation(self, index: int, instance: _Object) -> dict[str, Any]:
        mask = self.owner == index
        return {
            "category_id": CATEGORY_IDS[instance.category],
            "iscrowd": int(instance.outline is None),
            "area": int(mask.sum()),
            "bbox": box_of(mask),
            "segmentation": _segmentation(mask, instance.outline),
        }


def draw_scene(draws: Draws) -> Scene:
    """Draw an image with two to five objects; one in 25 also has a crowd, one in 50 is empty."""
    height, width = draws.choice(SIDES), draws.choice(SIDES)
    colour, ground = muted_colour(draws), draws.choice(tuple(PATTERNS))
    image = paint(draws, colour, height, width, swing=40, pattern=ground)
    scene = Scene(image, np.zeros((height, width), dtype=np.int64), ground)
    if draws.one_in(50):
        return scene
    if draws.one_in(25):
        _add_crowd(scene, draws)
    goal = len(scene.objects) + draws.between(2, 5)
    # `_add_object` may discard its object: the number of attempts is limited.
    for _ in range(60):
        if len(scene.objects) == goal:
            break
        _add_object(scene, draws)
    return scene


def _add_object(scene: Scene, draws: Draws) -> None:
    """Draw a random object on top, unless it or an object below it would be hidden too much."""
    category = draws.choice(tuple(SHAPES))
    length = draws.between(SMALLEST, LARGEST)
    size = (length, length * draws.between(65, 100) // 100)
    turn = draws.between(-LARGEST_TURN, LARGEST_TURN)
    outline = place(SHAPES[category](draws), size, turn, _centre(scene, draws, length))
    if max(max(axis) - min(axis) for axis in zip(*outline[0], strict=True)) > LARGEST * FIFTHS:
        return
    mask = fill(outline, *scene.owner.shape)
    visible = np.bincount(scene.owner[~mask], minlength=len(scene.objects) + 1)
    instance = _Object(category, outline, area(outline))
    shown = np.array([*visible[1:], mask.sum()])
    full = np.array([item.full_area for item in (*scene.objects, instance)])
    if (100 * shown >= LEAST_VISIBLE * full).all():
        _lay(scene, instance, mask, draws)


def _centre(scene: Scene, draws: Draws, length: int) -> Point:
    """Return a random centre in fifths of a pixel: mostly inside the image, sometimes on another object."""
    height, width = scene.owner.shape
    if scene.objects and draws.one_in(8):
        neighbour = scene.owner == 1 + draws.below(len(scene.objects))
        rows, columns = np.nonzero(neighbour)
        pixel = draws.below(len(rows))
        return int(columns[pixel]) * FIFTHS, int(rows[pixel]) * FIFTHS
    margin = 4 if draws.one_in(8) else length // 2 + 2
    return (
        draws.between(margin * FIFTHS, (width - margin) * FIFTHS),
        draws.between(margin * FIFTHS, (height - margin) * FIFTHS),
    )


def _add_crowd(scene: Scene, draws: Draws) -> None:
    """Draw a crowd: a cluster of objects of one class that are too small to be distinguished."""
    category = draws.choice(tuple(SHAPES))
    height, width = scene.owner.shape
    x, y = draws.between(30, width - 30), draws.between(30, height - 30)
    mask = np.zeros((height, width), dtype=bool)
    for _ in range(draws.between(8, 16)):
        centre = (x + draws.between(-18, 18)) * FIFTHS, (y + draws.between(-18, 18)) * FIFTHS
        size = (draws.between(6, 9),) * 2
        mask |= fill(place(SHAPES[category](draws), size, draws.below(360), centre), height, width)
    _lay(scene, _Object(category, None, int(mask.sum())), mask, draws)


def _lay(scene: Scene, instance: _Object, mask: NDArray[np.bool_], draws: Draws) -> None:
    red, green, blue = (
        channel + draws.between(-COLOUR_SPREAD, COLOUR_SPREAD)
        for channel in COLOURS[instance.category]
    )
    scene.objects.append(instance)
    scene.owner[mask] = len(scene.objects)
    left, top, width, height = box_of(mask)
    window = np.s_[top : top + height, left : left + width]
    texture = paint(draws, (red, green, blue), height, width, swing=60)
    scene.image[window][mask[window]] = texture[mask[window]]


def _segmentation(mask: NDArray[np.bool_], outline: list[Ring] | None) -> Any:
    """Return a polygon if it describes the mask exactly, else RLE (occlusion, hole, crowd), as COCO does."""
    height, width = mask.shape
    if outline is None:
        return runs_of(mask)
    inside = all(0 <= x <= width * FIFTHS and 0 <= y <= height * FIFTHS for x, y in outline[0])
    if len(outline) == 1 and inside and np.array_equal(mask, fill(outline, height, width)):
        return [[coordinate / FIFTHS for point in outline[0] for coordinate in point]]
    return encode_mask(mask)
