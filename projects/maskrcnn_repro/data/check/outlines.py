"""Outlines of objects, checked without the C code that trusts them: polygons and run-length encodings.

Detectron2 and COCO's evaluation hand them to pycocotools, which takes memory by their coordinates and sizes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from maskrcnn_repro.data.check.findings import shorten
from maskrcnn_repro.data.check.records import LARGEST
from maskrcnn_repro.data.check.table import defects

import numpy as np

MAX_PIXELS = 178_956_970
"""Of an image or a mask; Pillow refuses larger images as decompression bombs."""
MAX_LENGTH = MAX_PIXELS // 16
"""Of an outline in pixels, each edge by the larger of its width and height.

pycocotools takes 80 bytes for each of them (5 points of 16 bytes), hence at most 5 bytes for each of MAX_PIXELS, and
does not look whether it was given the memory.
"""
ENLARGED_SIDE = 1333
"""Pixels of the longer side to which training enlarges a smaller image (Detectron2's default): an outline grows with it."""
NUMBERS = frozenset({int, float})
# In image sides: what reaches further out is no slip at the border.
_FAR = 1.0
_LONGEST_COUNT = 7
"""Characters of a number in COCO's string, 5 bits each: more than any image's pixels need."""

Bounds = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels."""


class Defective(Exception):
    """An outline has the defect ``code`` of the table, with ``values`` for its sentence."""

    def __init__(self, code: str, **values: Any) -> None:
        super().__init__(code)
        self.code = code
        self.values = values

    def says(self, name: str) -> str:
        """Return the sentence of the table, without a full stop, of an outline that is called ``name``."""
        says = defects()[self.code].says.replace("annotation {id}", "{id}")
        return says.format_map({"id": name, **self.values})


def are_finite(numbers: Sequence[float]) -> bool:
    """Whether no number is NaN or lies beyond :data:`LARGEST`, where sums and arrays of large integers fail."""
    # A comparison with NaN is false: `min` and `max` return it if it is the first, else they leave it out.
    within = not numbers or (-LARGEST <= min(numbers) and max(numbers) <= LARGEST)
    return within and math.isfinite(sum(numbers))


def bounds_of(outline: Any, width: int, height: int) -> Bounds | None:
    """Return the bounds of an outline, after a check; None for an RLE without pixels to bound.

    Args:
        outline: ``segmentation`` of an annotation, not empty.
        width: of the image in pixels.
        height: of the image in pixels.

    Raises:
        Defective: it is no outline that Detectron2 and COCO's evaluation can read.
    """
    if isinstance(outline, list):
        return _polygon_bounds(outline, width, height)
    if isinstance(outline, dict):
        return _rle_bounds(outline, width, height)
    raise Defective("outline-type", type=type(outline).__name__)


def _polygon_bounds(polygons: list[Any], width: int, height: int) -> Bounds:
    if not set(map(type, polygons)) <= {list}:
        flat = set(map(type, polygons)) <= NUMBERS
        wrong = next(p for p in polygons if not isinstance(p, list))
        raise Defective("outline-flat" if flat else "outline-no-list", type=type(wrong).__name__)
    left = top = math.inf
    right = bottom = -math.inf
    for polygon in polygons:
        _check_numbers(polygon)
        xs, ys = polygon[0::2], polygon[1::2]
        left, right = min(left, min(xs)), max(right, max(xs))
        top, bottom = min(top, min(ys)), max(bottom, max(ys))
    _check_reach((left, top, right, bottom), width, height)
    limit = int(MAX_LENGTH * min(1.0, max(width, height) / ENLARGED_SIDE))
    _check_length(polygons, max(right - left, bottom - top), limit)
    if left == right or top == bottom or all(map(_is_thin, polygons)):
        raise Defective("outline-no-area")
    return left, top, right, bottom


def _is_thin(polygon: list[float]) -> bool:
    """Whether the points of a triangle or quadrangle enclose no area; False for more points."""
    if len(polygon) > 8:
        return False
    xs, ys = polygon[0::2], polygon[1::2]
    pairs = range(-1, len(xs) - 1)
    return abs(sum(xs[i] * ys[i + 1] - xs[i + 1] * ys[i] for i in pairs)) < 1e-9


def _check_numbers(polygon: list[Any]) -> None:
    """Check that a polygon is three or more finite points."""
    kinds = set(map(type, polygon))
    if not kinds <= NUMBERS:
        if kinds == {list}:
            raise Defective("outline-pairs")
        wrong = next(value for value in polygon if type(value) not in NUMBERS)
        raise Defective("outline-no-numbers", value=shorten(wrong))
    if not are_finite(polygon):
        raise Defective("outline-not-finite", value=shorten(max(polygon, key=_strangeness)))
    if len(polygon) == 4:
        raise Defective("outline-box", value=shorten(polygon))
    if len(polygon) % 2:
        raise Defective("outline-odd", value=len(polygon))
    if len(polygon) < 6:
        raise Defective("outline-few-points")


def _strangeness(value: float) -> tuple[bool, float]:
    return str(value) == "nan", abs(value)


def _check_reach(bounds: Bounds, width: int, height: int) -> None:
    left, top, right, bottom = bounds
    reach = _FAR * max(width, height)
    if left < -reach or top < -reach or right > width + reach or bottom > height + reach:
        farthest = max(bounds, key=abs)
        raise Defective("outline-far", value=f"{farthest:.6g}", size=f"{width} x {height}")


def _check_length(polygons: list[list[float]], extent: float, limit: int) -> None:
    """Check that the edges of finite polygons, none longer than ``extent``, add up to no more than ``limit`` pixels."""
    if sum(map(len, polygons)) / 2 * extent <= limit:
        return
    length = sum(map(_length, polygons))
    if length > limit:
        raise Defective("outline-too-long", value=f"{length:.0f}", limit=limit)


def _length(polygon: list[float]) -> float:
    points = np.array(polygon, dtype=np.float64).reshape(-1, 2)
    return float(np.abs(points - np.roll(points, 1, axis=0)).max(axis=1).sum())


def _rle_bounds(rle: dict[str, Any], width: int, height: int) -> Bounds | None:
    for field in ("size", "counts"):
        if field not in rle:
            raise Defective("rle-keys", field=field)
    _check_size(rle["size"], width, height)
    runs = runs_of(rle["counts"])
    total = int(runs.sum())
    if total != width * height:
        raise Defective("rle-counts-sum", value=total, pixels=width * height)
    return run_bounds(runs, height)


def _check_size(size: Any, width: int, height: int) -> None:
    numbers = isinstance(size, list) and len(size) == 2 and set(map(type, size)) == {int}
    if not numbers or min(size) < 1:
        raise Defective("rle-size-invalid", value=shorten(size))
    if size == [height, width]:
        return
    if size[0] * size[1] > MAX_PIXELS:
        raise Defective("rle-too-large", value=shorten(size), limit=MAX_PIXELS)
    code = "rle-size-swapped" if size == [width, height] else "rle-size-wrong"
    raise Defective(code, value=shorten(size), size=f"{width} x {height}")


def runs_of(counts: Any) -> np.ndarray:
    """Return the lengths of the runs as (N,) int64, background first."""
    if not isinstance(counts, str | list):
        raise Defective("rle-counts-type", type=type(counts).__name__)
    if not counts:
        raise Defective("rle-counts-empty")
    runs = _decode(counts) if isinstance(counts, str) else _list_counts(counts)
    if runs.min() < 0:
        raise Defective("rle-counts-negative", value=int(runs.min()))
    return runs


def _list_counts(counts: list[Any]) -> np.ndarray:
    if set(map(type, counts)) != {int}:
        wrong = next(value for value in counts if type(value) is not int)
        raise Defective("rle-counts-negative", value=shorten(wrong))
    low, high = min(counts), max(counts)
    # Beyond 32 bits the C code wraps around.
    if low < 0 or high >= 2**32:
        raise Defective("rle-counts-negative", value=shorten(low if low < 0 else high))
    return np.array(counts, dtype=np.int64)


def _decode(counts: str) -> np.ndarray:
    """Decode COCO's string of an RLE: numbers in 5-bit pieces, from the third on as differences.

    A piece is a character from ``0``; bit 5 says that another piece follows, bit 4 of the last is the sign.
    """
    if not counts.isascii():
        raise Defective("rle-counts-invalid", value="it has characters beyond ASCII")
    pieces = np.frombuffer(counts.encode("ascii"), dtype=np.uint8).astype(np.int64) - 48
    if pieces.min() < 0 or pieces.max() > 63:
        raise Defective("rle-counts-invalid", value="it has characters beyond 0 to o")
    last = np.flatnonzero(pieces & 32 == 0)
    if not last.size or last[-1] != len(pieces) - 1:
        raise Defective("rle-counts-invalid", value="its last number is cut off")
    first = np.concatenate(([0], last[:-1] + 1))
    lengths = last - first + 1
    if lengths.max() > _LONGEST_COUNT:
        raise Defective("rle-counts-invalid", value="a number is too long")
    shifts = 5 * (np.arange(len(pieces)) - np.repeat(first, lengths))
    numbers = np.add.reduceat((pieces & 31) << shifts, first)
    numbers -= ((pieces[last] & 16) > 0) * (np.int64(1) << (5 * lengths))
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers


def run_bounds(runs: Sequence[int] | np.ndarray, height: int) -> Bounds | None:
    """Return the bounds of runs down the columns of a mask of this height; None if it is empty."""
    ends = np.cumsum(runs)
    starts, stops = ends[0:-1:2], ends[1::2]
    filled = stops > starts
    if not filled.any():
        return None
    starts, stops = starts[filled], stops[filled] - 1
    # A run over the end of a column touches its last and the next one's first row.
    wraps = starts // height != stops // height
    top = 0 if wraps.any() else int((starts % height).min())
    bottom = height if wraps.any() else int((stops % height).max()) + 1
    return (float(starts[0] // height), float(top), float(stops[-1] // height + 1), float(bottom))
