"""Random images with annotations: people on a floor in front of a wall, drawn from far to near.

H, W = height and width of the image in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from maskrcnn_repro.data.keypoints import COCO_KEYPOINTS
from maskrcnn_repro.data.synthetic.annotations import box_of, runs_of
from maskrcnn_repro.data.synthetic.draws import Draws
from maskrcnn_repro.data.synthetic.mini_people.coordinates import annotate
from maskrcnn_repro.data.synthetic.mini_people.figures import (
    ARMS,
    EIGHTHS,
    HEAD,
    LEGS,
    TORSO,
    Figure,
    draw_figure,
)
from maskrcnn_repro.data.synthetic.mini_people.rasters import Raster, render
from maskrcnn_repro.data.synthetic.outlines import crop
from maskrcnn_repro.data.synthetic.textures import Colour, muted_colour, paint
from maskrcnn_repro.utils.rle import encode_mask

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Proportions:
    """Sizes and numbers of what is drawn, all lengths in pixels.

    Attributes:
        sides: heights and widths of images.
        heights: of standing figures.
        unlabelled: heights of far figures without annotated keypoints; COCO's small persons have none either.
        counts: choices for the number of figures in an image; some may find no free position.
        crowded: heights of the figures of a crowd.
        spread: of a crowd to either side of its middle.
        margin: between the middle of a crowd and the image's left and right border.
    """

    sides: Sequence[int]
    heights: Sequence[int]
    unlabelled: Sequence[int]
    counts: Sequence[int]
    crowded: Sequence[int]
    spread: int
    margin: int


MINI = Proportions(
    sides=range(128, 161, 8),
    heights=range(44, 117),
    unlabelled=range(24, 33),
    counts=(1, 1, 2, 2, 3, 4),
    crowded=range(20, 29),
    spread=24,
    margin=30,
)

LEAST_INSIDE, LEAST_VISIBLE = 55, 35
"""Least part of a figure's area inside the image, and least visible part of that, in percent."""

FAR_SIDE = -30
"""A joint with a depth below this is on the far side of the body; a keypoint of the face is not annotated."""


# Compared by identity: `_lay` looks for the same person, not for an equal one.
@dataclass(eq=False)
class _Person:
    figure: Figure | None
    """None for a crowd."""
    area: int
    """In pixels of the image, hidden ones included."""
    is_labelled: bool


@dataclass
class Scene:
    """An image and its people."""

    image: NDArray[np.uint8]
    """(H, W, 3) RGB."""
    horizon: int
    """First row of the floor."""
    owner: NDArray[np.int64]
    """(H, W): index of the visible person at each pixel, plus one; 0 is background."""
    part: NDArray[np.uint8]
    """(H, W): number of the visible body part of that person."""
    people: list[_Person] = field(default_factory=list)

    def annotations(self) -> list[dict[str, Any]]:
        """Return the COCO annotations of the visible parts, without ``id`` and ``image_id``."""
        return [self._annotation(i, person) for i, person in enumerate(self.people, start=1)]

    def surfaces(self) -> list[dict[str, Any]]:
        """Return COCO's DensePose fields of each of the annotations; none of crowds and of far figures."""
        masks = [self.owner == index for index in range(1, len(self.people) + 1)]
        return [
            annotate(person.figure, mask, box_of(mask))
            if person.figure and person.is_labelled
            else {}
            for person, mask in zip(self.people, masks, strict=True)
        ]

    def _annotation(self, index: int, person: _Person) -> dict[str, Any]:
        mask = self.owner == index
        keypoints = [0] * 3 * len(COCO_KEYPOINTS)
        if person.figure and person.is_labelled:
            triples = [self._keypoint(index, person.figure, name) for name in COCO_KEYPOINTS]
            keypoints = [value for triple in triples for value in triple]
        return {
            "category_id": 1,
            "iscrowd": int(person.figure is None),
            "area": int(mask.sum()),
            "bbox": box_of(mask),
            "segmentation": encode_mask(mask) if person.figure else runs_of(mask),
            "keypoints": keypoints,
            "num_keypoints": sum(visibility > 0 for visibility in keypoints[2::3]),
        }

    def _keypoint(self, index: int, figure: Figure, name: str) -> tuple[int, int, int]:
        """Return column, row and COCO's visibility: 0 not annotated, 1 hidden, 2 visible."""
        x, y = (coordinate // EIGHTHS for coordinate in figure.joints[name][:2])
        height, width = self.owner.shape
        is_far, parts = figure.depth(name) < FAR_SIDE, _PARTS_WITH[name]
        if not (0 <= x < width and 0 <= y < height) or (is_far and parts == {HEAD}):
            return 0, 0, 0
        part = int(self.part[y, x])
        visible = self.owner[y, x] == index and part in parts and not (is_far and part == TORSO)
        return x, y, 2 if visible else 1


def _parts_with(name: str) -> set[int]:
    side, _, joint = name.rpartition("_")
    if joint in ("nose", "eye", "ear"):
        return {HEAD}
    limb = ARMS[side] if joint in ("shoulder", "elbow", "wrist") else LEGS[side]
    return {limb, TORSO} if joint in ("shoulder", "hip") else {limb}


# Keypoint -> the body parts on which it can be visible.
_PARTS_WITH = {name: _parts_with(name) for name in COCO_KEYPOINTS}


def draw_scene(draws: Draws, proportions: Proportions = MINI) -> Scene:
    """Draw an image with some figures; one in 20 has no labelled figure, one in 25 has a crowd."""
    height, width = draws.choice(proportions.sides), draws.choice(proportions.sides)
    wall = muted_colour(draws)
    image = paint(draws, wall, height, width, swing=30)
    horizon = height * draws.between(40, 75) // 100
    image[horizon:] = paint(draws, muted_colour(draws), height - horizon, width, swing=30)
    scene = Scene(
        image, horizon, np.zeros((height, width), np.int64), np.zeros((height, width), np.uint8)
    )
    if draws.one_in(25):
        _add_crowd(scene, draws, wall, proportions)
    if draws.one_in(4):
        far = draws.choice(proportions.unlabelled)
        _add_person(scene, draws, wall, far, is_labelled=False)
    if draws.one_in(20):
        return scene
    # Smaller figures are further away and therefore drawn first.
    count = draws.choice(proportions.counts)
    sizes = sorted(draws.choice(proportions.heights) for _ in range(count))
    for size in sizes:
        _add_person(scene, draws, wall, size, is_labelled=True)
    return scene


def _add_person(
    scene: Scene, draws: Draws, ground: Colour, size: int, *, is_labelled: bool
) -> None:
    """Draw a random figure on top, at a position where neither it nor a person behind it is hidden too much.

    After eight attempts it is left out.
    """
    height, width = scene.owner.shape
    for _ in range(8):
        # The feet of some are below the image's lower border.
        lowest = height + size // 4 if draws.one_in(6) else height - 2
        highest = max(scene.horizon + 2, size * 3 // 4)
        foot = draws.below(width * EIGHTHS), draws.between(highest, lowest) * EIGHTHS
        figure = draw_figure(draws, size, foot, ground)
        raster = render(draws, figure)
        inside, cut = crop(raster.part.shape, (raster.left, raster.top), height, width)
        area = int((raster.part[cut] > 0).sum())
        if 100 * area < LEAST_INSIDE * int((raster.part > 0).sum()):
            continue
        mask = np.zeros((height, width), dtype=bool)
        mask[inside] = raster.part[cut] > 0
        shown = np.bincount(scene.owner[~mask], minlength=len(scene.people) + 1)[1:]
        needed = [person.area * LEAST_VISIBLE for person in scene.people]
        if (100 * shown >= needed).all():
            _lay(scene, _Person(figure, area, is_labelled), raster)
            return


def _add_crowd(scene: Scene, draws: Draws, ground: Colour, proportions: Proportions) -> None:
    """Draw a crowd: a row of figures that are too small to be distinguished."""
    height, width = scene.owner.shape
    margin, spread = proportions.margin, proportions.spread
    x, y = draws.between(margin, width - margin), draws.between(scene.horizon + 2, height - 4)
    crowd = _Person(None, 0, is_labelled=False)
    for _ in range(draws.between(6, 10)):
        foot = (x + draws.between(-spread, spread)) * EIGHTHS, (y + draws.between(-3, 3)) * EIGHTHS
        figure = draw_figure(draws, draws.choice(proportions.crowded), foot, ground)
        _lay(scene, crowd, render(draws, figure))
    crowd.area = int((scene.owner > 0).sum())


def _lay(scene: Scene, person: _Person, raster: Raster) -> None:
    if person not in scene.people:
        scene.people.append(person)
    inside, cut = crop(raster.part.shape, (raster.left, raster.top), *scene.owner.shape)
    mask = raster.part[cut] > 0
    scene.owner[inside][mask] = len(scene.people)
    scene.part[inside][mask] = raster.part[cut][mask]
    scene.image[inside][mask] = raster.image[cut][mask]
