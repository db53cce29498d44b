"""Pasting of predicted masks into the image, as run-length encodings without a bitmap (Sec. 3.1, inference).

The pixels are those of Detectron2's ``paste_masks_in_image``: the value of mask cell i lies at (i + 0.5) / m
of the box, that of pixel j at j + 0.5; in between, values are interpolated bilinearly, and outside of the
outer cells they fall to 0. Few pixels have to be interpolated: within a column of pixels and between two
rows of cells (a strip), values lie between those at the two ends. If both ends are on one side of the
threshold, so is the whole strip; only the pixels of the other strips are sampled.

Shape legend: R masks, m side of a mask in cells, H, W height and width of the image in pixels; of one box, w
columns and h rows of pixels, S = m + 3 strips between two rows of cells (the mask is padded with two rows of
zeros on either side).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from maskrcnn_repro.modeling.paste_on_device import encode_on_device
from maskrcnn_repro.modeling.rle import RLEMasks
from maskrcnn_repro.utils.rle import RLE

import numpy as np
import torch
import torch.nn.functional as F
from pycocotools import mask as coco_mask

BORDER = 2
"""Rows and columns of zeros around a mask, in cells."""
MARGIN = 1e-3
"""Strips whose ends are this close to the threshold are sampled; rounding errors are about 1e-6 times m."""
FEW = 1 << 16
"""Boxes with fewer pixels have all of them sampled, which is faster there."""
GROUP = 32
"""Masks whose columns and rows are laid out at once."""
BLOCK = 1 << 18
"""Pixels of a box that are processed at once; a mask of 0.5 everywhere takes 50 bytes for each."""


def paste_to_rles(
    masks: torch.Tensor, boxes: torch.Tensor, image_size: tuple[int, int], threshold: float = 0.5
) -> RLEMasks:
    """Return each mask pasted into its box as a run-length encoding of the whole image.

    Computed in float32, and no bitmap of the image is allocated: on the CPU mask by mask, on a GPU by
    :func:`~maskrcnn_repro.modeling.paste_on_device.encode_on_device`.

    Args:
        masks: (R, m, m), float in [0, 1].
        boxes: (R, 4), xyxy in pixels of the image; a box without an area, or that begins at minus infinity,
            has an empty mask, as in Detectron2's bitmap.
        image_size: H, W.
        threshold: in (0, 1); a pixel of at least this value belongs to the object.

    Returns:
        The R masks.
    """
    if masks.device.type == "cuda":
        return encode_on_device(masks, boxes, image_size, threshold)
    size = (int(image_size[0]), int(image_size[1]))
    # Sampled at sub-pixel positions, as in Detectron2, where the paper resizes a mask to whole pixels: about 0.5 mask
    # AP more by Detectron2's notes (DEVIATIONS.md).
    groups = zip(
        masks.detach().float().cpu().split(GROUP),
        boxes.detach().float().cpu().split(GROUP),
        strict=True,
    )
    return RLEMasks([rle for group in groups for rle in _paste(*group, size, threshold)], size)


def _paste(
    masks: torch.Tensor, boxes: torch.Tensor, size: tuple[int, int], threshold: float
) -> list[RLE]:
    side = masks.shape[-1]
    x1, y1, x2, y2 = boxes.numpy().T
    # What no comparison with NaN holds for has no area either.
    exists = (x2 > x1) & (x1 > -np.inf) & (y2 > y1) & (y1 > -np.inf)
    columns = _Axis.of(x1, x2, exists, size[1], side)
    rows = _Axis.of(y1, y2, exists, size[0], side)
    changes = [
        _changes(*mask, size[0], threshold) for mask in zip(masks, columns, rows, strict=True)
    ]
    return _encode(changes, size)


@dataclass(frozen=True)
class _Axis:
    """The pixels along one axis of the image that a mask in a box can reach."""

    first: int
    positions: np.ndarray
    """Of the pixels' centres, float32, in the units of ``grid_sample``: -1 at the box's start, 1 at its end."""
    cells: np.ndarray
    """The same in cells of the padded mask, float32: cell i has its value at i."""

    def __len__(self) -> int:
        return len(self.positions)

    @staticmethod
    def of(
        start: np.ndarray, end: np.ndarray, exists: np.ndarray, pixels: int, side: int
    ) -> list[_Axis]:
        """Return for each of R boxes the pixels from one before ``start`` to one after ``end``.

        Args:
            start: (R,) float32.
            end: (R,) float32.
            exists: (R,) bool; other boxes get no pixel.
            pixels: of the image along the axis.
            side: m.
        """
        start, end = np.where(exists, (start, end), np.float32(0))
        first = np.clip(np.floor(start) - 1, 0, pixels).astype(np.int64)
        counts = np.clip(np.ceil(end) + 1, 0, pixels).astype(np.int64) - first
        counts = np.where(exists, counts.clip(min=0), 0)
        stops = counts.cumsum()
        box = np.repeat(np.arange(len(counts)), counts)
        # numpy's float32 throughout: the same operations as Detectron2's give the same last bits.
        pixel = np.arange(len(box)) - (stops - counts - first)[box]
        centres = pixel.astype(np.float32) + np.float32(0.5)
        with np.errstate(over="ignore"):  # a box of a tiny fraction of a pixel
            positions = (centres - start[box]) / (end - start)[box] * np.float32(2) - np.float32(1)
            cells = ((positions + np.float32(1)) * np.float32(side) - np.float32(1)) / np.float32(2)
        cells = np.clip(cells, -BORDER, side + BORDER - 1) + BORDER
        parts = (np.split(numbers, stops)[:-1] for numbers in (positions, cells))
        return [_Axis(*axis) for axis in zip(first.tolist(), *parts, strict=True)]

    def part(self, begin: int, count: int) -> _Axis:
        """Return up to ``count`` of these pixels, from ``begin`` on."""
        pixels = slice(begin, begin + count)
        return _Axis(self.first + begin, self.positions[pixels], self.cells[pixels])


def _changes(
    mask: torch.Tensor, columns: _Axis, rows: _Axis, height: int, threshold: float
) -> np.ndarray:
    """Return the pixels at which the object begins and ends, in turn, in column-major order as RLE has it.

    Args:
        mask: (m, m).
        columns: of pixels that the mask can reach.
        rows: of them.
        height: H.
        threshold: see :func:`paste_to_rles`.

    Returns:
        Ascending int64, an even number of them; pixel (x, y) has number x * H + y. An end may equal the next begin.
    """
    # Images of 128 px are pasted pixel by pixel in a quarter of the time.
    find = _runs_of_pixels if len(columns) * len(rows) < FEW else _runs_of_strips
    blocks = [
        find(mask, part, rows, height, threshold) for part in _split_pixels(columns, len(rows))
    ]
    return np.concatenate([np.zeros(0, np.int64), *blocks])


def _split_pixels(columns: _Axis, rows: int) -> Iterator[_Axis]:
    count = max(1, BLOCK // max(1, rows))
    return (columns.part(begin, count) for begin in range(0, len(columns), count))


def _runs_of_pixels(
    mask: torch.Tensor, columns: _Axis, rows: _Axis, height: int, threshold: float
) -> np.ndarray:
    """Return the begins and ends in each of w columns, from samples of all pixels."""
    points = np.empty((len(columns), len(rows), 2), np.float32)
    points[..., 0], points[..., 1] = columns.positions[:, None], rows.positions
    return _runs(_sample(mask, points) >= threshold, (columns.first, rows.first), height)


def _runs(inside: np.ndarray, corner: tuple[int, int], height: int) -> np.ndarray:
    """Return the begins and ends of a rectangle, (w, h) bool, whose first pixel in the image is x, y."""
    columns, rows = inside.shape
    # One more row, outside of the object: it ends every run at the end of its column.
    values = np.zeros((columns, rows + 1), bool)
    values[:, :-1] = inside
    column, row = np.divmod(_change(values.ravel()), rows + 1)
    return (corner[0] + column) * height + corner[1] + row


def _change(values: np.ndarray) -> np.ndarray:
    """Return the indices of bools that differ from the one before, which is False for the first."""
    padded = np.zeros(len(values) + 1, bool)
    padded[1:] = values
    return np.flatnonzero(padded[1:] != padded[:-1])


def _runs_of_strips(
    mask: torch.Tensor, columns: _Axis, rows: _Axis, height: int, threshold: float
) -> np.ndarray:
    """Return the same as :func:`_runs_of_pixels`, but sample only strips that may cross the threshold."""
    ends = _ends(mask.numpy(), columns.cells)
    # (w, S + 1): one more strip, outside of the object, ends every run at the end of its column.
    inside, unsure = np.zeros((2, *ends.shape), bool)
    lower, upper = np.minimum(ends[:, :-1], ends[:, 1:]), np.maximum(ends[:, :-1], ends[:, 1:])
    inside[:, :-1] = lower >= threshold + MARGIN
    # Negated, so that NaN is sampled, too.
    unsure[:, :-1] = ~inside[:, :-1] & ~(upper < threshold - MARGIN)
    strips = np.minimum(rows.cells.astype(np.int64), ends.shape[1] - 2)
    lengths = np.bincount(strips, minlength=ends.shape[1])
    first_rows = (np.cumsum(lengths) - lengths).astype(np.int32)
    lengths[-1] = 1  # only now: the extra strip has no row of the image, but is an item

    # Items in the order of the pixels: each pixel of an unsure strip, and every other strip as a whole.
    counts = np.where(unsure, lengths, lengths > 0).ravel()
    strip_of = np.repeat(np.arange(counts.size, dtype=np.int32), counts)
    first_items = np.cumsum(counts, dtype=np.int32) - counts.astype(np.int32)

    def positions(items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        strip = strip_of[items]
        column, row = np.divmod(strip, np.int32(ends.shape[1]))
        return column, first_rows[row] + items - first_items[strip]

    value = np.repeat(inside.ravel(), counts)
    sampled = np.flatnonzero(np.repeat(unsure.ravel(), counts))
    x, y = positions(sampled)
    points = np.empty((1, len(sampled), 2), np.float32)
    points[..., 0], points[..., 1] = columns.positions[x], rows.positions[y]
    value[sampled] = _sample(mask, points)[0] >= threshold
    x, y = positions(_change(value))
    return (columns.first + x.astype(np.int64)) * height + rows.first + y


def _ends(mask: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Return the mask's values in w columns of pixels at all rows of cells, (w, m + 4)."""
    padded = np.zeros((len(mask) + 2 * BORDER, len(mask) + 2 * BORDER), np.float32)
    padded[BORDER:-BORDER, BORDER:-BORDER] = mask.T
    left = np.minimum(cells.astype(np.int64), len(padded) - 2)
    share = (cells - left)[:, None]
    return padded[left] * (1 - share) + padded[left + 1] * share


def _sample(mask: torch.Tensor, points: np.ndarray) -> np.ndarray:
    """Return the mask's values, (a, b), at points, (a, b, 2), in the units of ``grid_sample``."""
    # Detectron2's operation, so that values agree to the last bit.
    grid = torch.from_numpy(points)[None]
    return F.grid_sample(mask[None, None], grid, align_corners=False)[0, 0].numpy()


def rle_of_crop(crop: np.ndarray, corner: tuple[int, int], size: tuple[int, int]) -> RLE:
    """Return the run-length encoding of an image's mask that is known within a rectangle and false outside.

    Args:
        crop: (h, w) bool.
        corner: x, y of its first pixel in the image.
        size: H, W of the image, which holds the rectangle.
    """
    return _encode([_runs(crop.T, corner, size[0])], size)[0]


def _encode(changes: Sequence[np.ndarray], size: tuple[int, int]) -> list[RLE]:
    """Return the encodings of masks of an image, H x W, from what :func:`_changes` gives for each."""
    height, width = size
    runs = [{"size": [height, width], "counts": _counts(ends, height * width)} for ends in changes]
    return [
        {"size": [height, width], "counts": rle["counts"].decode("ascii")}
        for rle in (coco_mask.frPyObjects(runs, height, width) if runs else [])
    ]


def _counts(changes: np.ndarray, pixels: int) -> np.ndarray:
    # Drop an end that equals the next begin: the object goes on from the last pixel of a column to the first
    # of the next.
    through = changes[1:] == changes[:-1]
    kept = np.ones(len(changes), bool)
    kept[1:][through] = kept[:-1][through] = False
    ends = np.concatenate([[0], changes[kept], [pixels]])
    counts = ends[1:] - ends[:-1]
    return counts if len(counts) == 1 or counts[-1] else counts[:-1]
