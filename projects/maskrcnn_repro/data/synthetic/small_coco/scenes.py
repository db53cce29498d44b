"""Random images with annotations: few large or many small objects in front of each other.

H, W = height and width of the image in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from maskrcnn_repro.data.synthetic.annotations import box_of, runs_of
from maskrcnn_repro.data.synthetic.draws import Draws, lengths
from maskrcnn_repro.data.synthetic.outlines import Point
from maskrcnn_repro.data.synthetic.small_coco.grounds import expose, paint_ground
from maskrcnn_repro.data.synthetic.small_coco.kinds import KINDS
from maskrcnn_repro.data.synthetic.small_coco.things import (
    Kind,
    Outline,
    draw_outline,
    paint_stone,
    paint_thing,
)
from maskrcnn_repro.utils.rle import encode_mask

import numpy as np
from numpy.typing import NDArray

# With gaps, as COCO's (80 classes with ids up to 90).
CATEGORY_IDS = dict(
    zip((kind.name for kind in KINDS), (1, 2, 3, 5, 6, 7, 8, 10, 11, 13, 15, 16), strict=True)
)
"""Class name -> category id in the JSON."""

SIDES = (384, 416, 448, 480, 512, 544, 576)
"""Heights and widths of images."""

SHORTEST, LONGEST = 80, 480
"""Longer side of an object's whole box in pixels: 5 to 30 cells of stride 16."""

COUNTS = (1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 5, 5, 6, 7, 8, 10, 12, 15)
"""Choices for the number of objects in an image; some may find no free position."""

LEAST_INSIDE, LEAST_VISIBLE = 55, 65
"""Least part of an object's area inside the image, and least visible part of that, in percent."""


@dataclass
class _Object:
    kind: Kind
    is_crowd: bool
    area: int
    """In pixels of the image, hidden ones included."""
    shown: int
    """Visible pixels."""


@dataclass
class Scene:
    """An image and its objects."""

    image: NDArray[np.uint8]
    """(H, W, 3), RGB."""
    owner: NDArray[np.int16]
    """(H, W): index of the visible object at each pixel, plus one; 0 is background."""
    objects: list[_Object] = field(default_factory=list)

    def annotations(self) -> list[dict[str, Any]]:
        """Return the COCO annotations of the visible parts, without ``id`` and ``image_id``."""
        return [self._annotation(i, instance) for i, instance in enumerate(self.objects, start=1)]

    def _annotation(self, index: int, instance: _Object) -> dict[str, Any]:
        mask = self.owner == index
        return {
            "category_id": CATEGORY_IDS[instance.kind.name],
            "iscrowd": int(instance.is_crowd),
            "area": int(mask.sum()),
            "bbox": box_of(mask),
            "segmentation": runs_of(mask) if instance.is_crowd else encode_mask(mask),
        }


@dataclass
class _Canvas:
    """A scene before its exposure."""

    image: NDArray[np.int16]
    owner: NDArray[np.int16]
    objects: list[_Object] = field(default_factory=list)


def longest_of(count: int) -> int:
    """Return the limit of an object's length in pixels where an image has ``count`` objects."""
    return min(LONGEST, SHORTEST + 40 + 1400 // count)


def draw_scene(draws: Draws) -> Scene:
    """Draw an image with one to fifteen objects; one in 16 also has a crowd, one in 80 is empty."""
    height, width = draws.choice(SIDES), draws.choice(SIDES)
    canvas = _Canvas(paint_ground(draws, height, width), np.zeros((height, width), np.int16))
    for _ in range(draws.below(7)):
        paint_stone(draws, canvas.image, draws.between(24, 200))
    if not draws.one_in(80):
        if draws.one_in(16):
            _add_crowd(canvas, draws)
        count = draws.choice(COUNTS)
        palette = [draws.choice(KINDS) for _ in range(draws.between(2, 8))]
        goal = len(canvas.objects) + count
        # `_add_object` may discard its object: the number of attempts is limited.
        for _ in range(4 * count + 8):
            if len(canvas.objects) == goal:
                break
            _add_object(canvas, draws, palette, longest_of(count))
    return Scene(expose(draws, canvas.image), canvas.owner, canvas.objects)


def _add_object(canvas: _Canvas, draws: Draws, palette: Sequence[Kind], longest: int) -> None:
    """Draw a random object on top, unless it or an object below it would be hidden too much."""
    kind, length = draws.choice(palette), draws.choice(lengths(SHORTEST, longest))
    outline = draw_outline(draws, kind.shape, length, _centre(canvas, draws, length))
    if not SHORTEST <= max(outline.mask.shape) <= LONGEST:
        return
    inside, cut = outline.crop(*canvas.owner.shape)
    mask = outline.mask[cut]
    area = int(mask.sum())
    if 100 * area < LEAST_INSIDE * int(outline.mask.sum()):
        return
    hidden = np.bincount(canvas.owner[inside][mask], minlength=len(canvas.objects) + 1)[1:]
    for instance, lost in zip(canvas.objects, hidden.tolist(), strict=True):
        if 100 * (instance.shown - lost) < LEAST_VISIBLE * instance.area:
            return
    _lay(canvas, draws, _Object(kind, False, area, area), outline)


def _centre(canvas: _Canvas, draws: Draws, length: int) -> Point:
    """Return a random centre in pixels: mostly inside the image, sometimes near another object."""
    height, width = canvas.owner.shape
    if canvas.objects and draws.one_in(12):
        rows, columns = np.nonzero(canvas.owner == 1 + draws.below(len(canvas.objects)))
        pixel = draws.below(len(rows))
        return int(columns[pixel]), int(rows[pixel])
    # At the border objects are cut.
    margin = 0 if draws.one_in(4) else length // 2
    return _within(draws, width, margin), _within(draws, height, margin)


def _within(draws: Draws, side: int, margin: int) -> int:
    margin = min(margin, side // 2 - 8)
    return draws.between(margin, side - margin)


def _add_crowd(canvas: _Canvas, draws: Draws) -> None:
    """Draw a crowd: a cluster of objects of one class that are too small to be distinguished."""
    height, width = canvas.owner.shape
    crowd = _Object(draws.choice(KINDS), True, 0, 0)
    x, y = draws.between(80, width - 80), draws.between(80, height - 80)
    for _ in range(draws.between(10, 20)):
        centre = x + draws.between(-64, 64), y + draws.between(-64, 64)
        outline = draw_outline(draws, crowd.kind.shape, draws.between(28, 48), centre)
        _lay(canvas, draws, crowd, outline)
    crowd.area = crowd.shown = int((canvas.owner == len(canvas.objects)).sum())


def _lay(canvas: _Canvas, draws: Draws, instance: _Object, outline: Outline) -> None:
    """Paint an object on top of all others, or a further member of the crowd that was laid last."""
    if not canvas.objects or canvas.objects[-1] is not instance:
        canvas.objects.append(instance)
    inside, cut = outline.crop(*canvas.owner.shape)
    mask = outline.mask[cut]
    hidden = np.bincount(canvas.owner[inside][mask], minlength=len(canvas.objects) + 1)[1:]
    for below, lost in zip(canvas.objects, hidden.tolist(), strict=True):
        below.shown -= lost
    canvas.owner[inside][mask] = len(canvas.objects)
    paint_thing(draws, canvas.image, outline, instance.kind.surface, instance.kind.hue)
