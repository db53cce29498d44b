"""Large pictures in overlapping tiles, and the detections of tiles as detections of the picture.

Two tiles see their overlap alike: detections of one class whose masks (without masks, boxes) agree there are of one
object. H, W = height and width of the picture in pixels; "parts" are the detections of tiles.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from maskrcnn_repro.errors import ConfigError
from maskrcnn_repro.inference.outlines import crop_mask
from maskrcnn_repro.inference.prediction import Prediction
from maskrcnn_repro.modeling.paste import rle_of_crop

import numpy as np

AGREEMENT = 0.5
"""IoU within the overlap of two tiles from which on two parts are of one object."""
EDGE = 2
"""Pixels; an object whose box comes closer to the edge of its tile is taken to go on behind it."""


@dataclass(frozen=True)
class Box:
    """A rectangle of whole pixels of the picture."""

    x1: int
    y1: int
    x2: int
    y2: int

    @property
    def empty(self) -> bool:
        """Whether it has no pixel."""
        return self.x1 >= self.x2 or self.y1 >= self.y2

    def __and__(self, other: Box) -> Box:
        """Return what two rectangles share."""
        low = max(self.x1, other.x1), max(self.y1, other.y1)
        return Box(*low, min(self.x2, other.x2), min(self.y2, other.y2))

    def __or__(self, other: Box) -> Box:
        """Return the smallest rectangle that holds both."""
        low = min(self.x1, other.x1), min(self.y1, other.y1)
        return Box(*low, max(self.x2, other.x2), max(self.y2, other.y2))

    def moved(self, x: int, y: int) -> Box:
        """Return the rectangle x pixels further right and y further down."""
        return Box(self.x1 + x, self.y1 + y, self.x2 + x, self.y2 + y)

    def slices(self, origin: Box) -> tuple[slice, slice]:
        """Return the rows and columns of this rectangle in an array of the pixels of ``origin``."""
        return (
            slice(self.y1 - origin.y1, self.y2 - origin.y1),
            slice(self.x1 - origin.x1, self.x2 - origin.x1),
        )


def tiles_of(height: int, width: int, size: int, overlap: int) -> list[Box]:
    """Return tiles of ``size`` pixels a side, or of the picture's side where that is less, row by row.

    Args:
        height: H.
        width: W.
        size: of a tile.
        overlap: least pixels that neighbours share, less than ``size``.
    """
    tops, lefts = (_starts(side, size, overlap) for side in (height, width))
    return [
        Box(left, top, min(left + size, width), min(top + size, height))
        for top, left in itertools.product(tops, lefts)
    ]


def check_tiles(size: int, overlap: float, largest: int) -> None:
    """Raise ConfigError unless pictures can be tiled so; ``largest``: the model's ``INPUT.MAX_SIZE_TEST``."""
    if not 0 <= overlap <= 0.75:
        raise ConfigError(
            f"overlap {overlap} is a part of a tile's side, at least 0 and at most 0.75."
        )
    if size and not 16 <= size <= largest:
        raise ConfigError(
            f"tiles {size} is a side in pixels, at least 16 and at most {largest}, the model's INPUT.MAX_SIZE_TEST; "
            "0 does without tiles."
        )


def _starts(side: int, size: int, overlap: int) -> list[int]:
    if side <= size:
        return [0]
    count = -(-(side - overlap) // (size - overlap))
    return [round(place * (side - size) / (count - 1)) for place in range(count)]


@dataclass(frozen=True)
class _Part:
    """A detection of one tile, in pixels of the picture."""

    tile: Box
    score: float
    label: int
    box: np.ndarray
    """(4,) xyxy."""
    area: Box
    """What ``mask`` covers."""
    mask: np.ndarray
    """(h, w) bool; of a model without masks the pixels of the box."""
    keypoints: np.ndarray | None
    mask_score: float | None
    whole: bool
    """Whether the object ends before all edges of the tile that lie within the picture."""

    def within(self, zone: Box) -> np.ndarray:
        """Return the mask in a rectangle, of which this part may cover some."""
        pixels = np.zeros((zone.y2 - zone.y1, zone.x2 - zone.x1), bool)
        shared = zone & self.area
        if not shared.empty:
            pixels[shared.slices(zone)] = self.mask[shared.slices(self.area)]
        return pixels


def merge_tiles(
    tiled: Sequence[tuple[Box, Prediction]], height: int, width: int, path: str | None = None
) -> Prediction:
    """Return the detections of a picture from those of its tiles, an object's parts in several tiles as one.

    An object that lies whole within a tile is as the best of such tiles has it; boxes and masks of one that every
    tile cuts are united, and its keypoints are those of its part of the highest score.

    Args:
        tiled: at least one tile with its detections, in pixels of the tile.
        height: H.
        width: W.
        path: of the picture.
    """
    parts = [
        part
        for tile, prediction in tiled
        for part in _split_prediction(tile, prediction, height, width)
    ]
    objects = sorted(map(_unite, _groups(parts)), key=lambda part: -part.score)
    size, points = (height, width), [o.keypoints for o in objects if o.keypoints is not None]
    scores = [o.mask_score for o in objects if o.mask_score is not None]
    first = tiled[0][1]
    rles = None
    if first.rles is not None:
        rles = [rle_of_crop(o.mask, (o.area.x1, o.area.y1), size) for o in objects]
    return replace(
        first,
        boxes=np.array([o.box for o in objects], np.float32).reshape(-1, 4),
        scores=np.array([o.score for o in objects], np.float32),
        class_ids=np.array([o.label for o in objects], np.int64),
        height=height,
        width=width,
        rles=rles,
        mask_scores=None if first.mask_scores is None else np.array(scores, np.float32),
        keypoints=np.stack(points) if points else first.keypoints,
        path=path,
        # That of a tile says nothing of the image.
        panoptic_seg=None,
        segments_info=(),
        surfaces=None,
    )


def _split_prediction(
    tile: Box, prediction: Prediction, height: int, width: int
) -> Iterator[_Part]:
    corner = np.array([tile.x1, tile.y1], np.float32)
    # Edges within the picture cut objects; those of the picture itself are far away.
    edges = np.where(
        np.array([tile.x1, tile.y1, tile.x2, tile.y2]) == [0, 0, width, height],
        [-np.inf, -np.inf, np.inf, np.inf],
        [tile.x1, tile.y1, tile.x2, tile.y2],
    )
    for row, box in enumerate(prediction.boxes + np.tile(corner, 2)):
        area, mask = _mask_of(prediction, row, tile)
        points = None
        if prediction.keypoints is not None:
            points = prediction.keypoints[row] + np.append(corner, 0).astype(np.float32)
        gaps = np.concatenate([box[:2] - edges[:2], edges[2:] - box[2:]])
        whole = bool((gaps > EDGE).all())
        score, label = float(prediction.scores[row]), int(prediction.class_ids[row])
        quality = None
        if prediction.mask_scores is not None:
            quality = float(prediction.mask_scores[row])
        yield _Part(tile, score, label, box, area, mask, points, quality, whole)


def _mask_of(prediction: Prediction, row: int, tile: Box) -> tuple[Box, np.ndarray]:
    """Return the rectangle of the picture that a detection's mask fills, and the mask in it."""
    if prediction.rles is None:
        box = prediction.boxes[row]
        (x1, y1), (x2, y2) = np.floor(box[:2]).astype(int), np.ceil(box[2:]).astype(int)
        return Box(x1, y1, x2, y2).moved(tile.x1, tile.y1), np.ones((y2 - y1, x2 - x1), bool)
    (x, y), mask = crop_mask(prediction.rles[row])
    height, width = mask.shape
    return Box(x, y, x + width, y + height).moved(tile.x1, tile.y1), mask.astype(bool)


def _groups(parts: Sequence[_Part]) -> list[list[_Part]]:
    """Return the parts of each object; of one tile at most one part belongs to an object."""
    group_of = [[part] for part in parts]
    agreeing = [
        (agreement, i, j)
        for i, j in _find_neighbours(parts)
        if (agreement := _agreement(parts[i], parts[j])) >= AGREEMENT
    ]
    for _, i, j in sorted(agreeing, key=lambda triple: -triple[0]):
        first, second = group_of[i], group_of[j]
        if first is second or {p.tile for p in first} & {p.tile for p in second}:
            continue
        first += second
        for index, group in enumerate(group_of):
            if group is second:
                group_of[index] = first
    return list({id(group): group for group in group_of}.values())


def _find_neighbours(parts: Sequence[_Part]) -> Iterator[tuple[int, int]]:
    """Yield the pairs of parts of one class in two tiles whose rectangles meet."""
    boxes = np.array([(p.area.x1, p.area.y1, p.area.x2, p.area.y2) for p in parts]).reshape(-1, 4)
    labels = np.array([p.label for p in parts])
    for i, part in enumerate(parts):
        low = np.maximum(boxes[i + 1 :, :2], boxes[i, :2])
        high = np.minimum(boxes[i + 1 :, 2:], boxes[i, 2:])
        meets = (low < high).all(axis=1) & (labels[i + 1 :] == part.label)
        yield from (
            (i, j) for j in map(int, i + 1 + np.flatnonzero(meets)) if parts[j].tile != part.tile
        )


def _agreement(first: _Part, second: _Part) -> float:
    """Return the IoU of two parts within the overlap of their tiles.

    Of a part that its tile cuts, which may be a sliver with a poor outline, what lies in the other counts.
    """
    zone = first.tile & second.tile & (first.area | second.area)
    if zone.empty:
        return 0.0
    a, b = first.within(zone), second.within(zone)
    shared, areas = int((a & b).sum()), [int(a.sum()), int(b.sum())]
    smaller = min((first, second), key=lambda part: part.mask.sum())
    total = sum(areas) - shared if smaller.whole else areas[smaller is second]
    return shared / total if total else 0.0


def _unite(group: Sequence[_Part]) -> _Part:
    best = max(group, key=lambda part: (part.whole, part.score))
    if best.whole or len(group) == 1:
        return replace(best, score=max(part.score for part in group))
    area = functools.reduce(Box.__or__, (part.area for part in group))
    mask = functools.reduce(np.logical_or, (part.within(area) for part in group))
    boxes = np.stack([part.box for part in group])
    box = np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])
    return replace(best, area=area, mask=mask, box=box)
