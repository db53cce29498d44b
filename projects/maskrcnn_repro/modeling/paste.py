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

from collections.abc import Iterator
from dataclasses import dataclass

from maskrcnn_repro.modeling.paste_on_device import encode_on_device
from maskrcnn_repro.modeling.rle import RLE, RLEMasks

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
    on_cpu = zip(masks.detach().float().cpu(), boxes.detach().float().cpu(), strict=True)
    return RLEMasks(
        [_encode(_changes(mask, box, size, threshold), size) for mask, box in on_cpu], size
    )


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
    def of(start: np.float32, end: np.float32, pixels: int, side: int) -> _Axis:
        """Return the pixels from one before ``start`` to one after ``end``."""
        # numpy's float32 throughout: the same operations as Detectron2's give the same last bits.
        first = int(np.clip(np.floor(start) - 1, 0, pixels))
        stop = max(int(np.clip(np.ceil(end) + 1, 0, pixels)), first)
        centres = np.arange(first, stop, dtype=np.float32) + np.float32(0.5)
        with np.errstate(over="ignore"):  # a box of a tiny fraction of a pixel
            positions = (centres - start) / (end - start) * np.float32(2) - np.float32(1)
            cells = ((positions + np.float32(1)) * np.float32(side) - np.float32(1)) / np.float32(2)
        return _Axis(first, positions, np.clip(cells, -BORDER, side + BORDER - 1) + BORDER)

    def part(self, begin: int, count: int) -> _Axis:
        """Return up to ``count`` of these pixels, from ``begin`` on."""
        pixels = slice(begin, begin + count)
        return _Axis(self.first + begin, self.positions[pixels], self.cells[pixels])


def _changes(
    mask: torch.Tensor, box: torch.Tensor, size: tuple[int, int], threshold: float
) -> np.ndarray:
    """Return the pixels at which the object begins and ends, in turn, in column-major order as RLE has it.

    Args:
        mask: (m, m).
        box: (4,).
        size: H, W.
        threshold: see :func:`paste_to_rles`.

    Returns:
        Ascending int64, an even number of them; pixel (x, y) has number x * H + y. An end may equal the next begin.
    """
    height, width = size
    x1, y1, x2, y2 = box.numpy()
    # Negated, so that a box with NaN has no area either.
    if not (x2 > x1 > -np.inf and y2 > y1 > -np.inf):
        return np.zeros(0, np.int64)
    columns, rows = _Axis.of(x1, x2, width, len(mask)), _Axis.of(y1, y2, height, len(mask))
    # Images of 128 px are pasted pixel by pixel in a quarter of the time.
    find = _runs_of_pixels if len(columns) * len(rows) < FEW else _runs_of_strips
    blocks = [find(mask, part, rows, height, threshold) for part in _parts(columns, len(rows))]
    return np.concatenate([np.zeros(0, np.int64), *blocks])


def _parts(columns: _Axis, rows: int) -> Iterator[_Axis]:
    count = max(1, BLOCK // max(1, rows))
    return (columns.part(begin, count) for begin in range(0, len(columns), count))


def _runs_of_pixels(
    mask: torch.Tensor, columns: _Axis, rows: _Axis, height: int, threshold: float
) -> np.ndarray:
    """Return the begins and ends in each of w columns, from samples of all pixels."""
    x, y = np.repeat(columns.positions, len(rows)), np.tile(rows.positions, len(columns))
    # One more row, outside of the object: it ends every run at the end of its column.
    inside = np.zeros((len(columns), len(rows) + 1), bool)
    inside[:, :-1] = (_sample(mask, x, y) >= threshold).reshape(len(columns), len(rows))
    column, row = np.divmod(np.flatnonzero(np.diff(inside.ravel(), prepend=False)), len(rows) + 1)
    return (columns.first + column) * height + rows.first + row


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
    first_rows = np.cumsum(lengths) - lengths
    lengths[-1] = 1  # only now: the extra strip has no row of the image, but is an item

    # Items in the order of the pixels: each pixel of an unsure strip, and every other strip as a whole.
    counts = np.where(unsure, lengths, lengths > 0).ravel()
    strip_of = np.repeat(np.arange(counts.size), counts)
    first_items = np.cumsum(counts) - counts

    def positions(items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        column, strip = np.divmod(strip_of[items], ends.shape[1])
        return column, first_rows[strip] + items - first_items[strip_of[items]]

    value = np.repeat(inside.ravel(), counts)
    sampled = np.flatnonzero(np.repeat(unsure.ravel(), counts))
    x, y = positions(sampled)
    value[sampled] = _sample(mask, columns.positions[x], rows.positions[y]) >= threshold
    changed = np.flatnonzero(np.diff(value, prepend=False))
    x, y = positions(changed)
    return (columns.first + x) * height + rows.first + y


def _ends(mask: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Return the mask's values in w columns of pixels at all rows of cells, (w, m + 4)."""
    padded = np.pad(mask, BORDER).T
    left = np.minimum(cells.astype(np.int64), len(padded) - 2)
    share = (cells - left)[:, None]
    return padded[left] * (1 - share) + padded[left + 1] * share


def _sample(mask: torch.Tensor, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the mask's values at points in the units of ``grid_sample``."""
    # Detectron2's operation, so that values agree to the last bit.
    grid = torch.from_numpy(np.stack([x, y], axis=1))[None, None]
    return F.grid_sample(mask[None, None], grid, align_corners=False)[0, 0, 0].numpy()


def rle_of_crop(crop: np.ndarray, corner: tuple[int, int], size: tuple[int, int]) -> RLE:
    """Return the run-length encoding of an image's mask that is known within a rectangle and false outside.

    Args:
        crop: (h, w) bool.
        corner: x, y of its first pixel in the image.
        size: H, W of the image, which holds the rectangle.
    """
    # One more row, outside of the object: it ends every run at the end of its column.
    inside = np.zeros((crop.shape[1], crop.shape[0] + 1), bool)
    inside[:, :-1] = crop.T
    column, row = np.divmod(np.flatnonzero(np.diff(inside.ravel(), prepend=False)), inside.shape[1])
    return _encode((corner[0] + column) * size[0] + corner[1] + row, size)


def _encode(changes: np.ndarray, size: tuple[int, int]) -> RLE:
    height, width = size
    # Drop an end that equals the next begin: the object goes on from the last pixel of a column to the first
    # of the next.
    through = np.flatnonzero(changes[1:] == changes[:-1])
    changes = np.delete(changes, np.concatenate([through, through + 1]))
    pixels = height * width
    if not len(changes) or changes[-1] < pixels:
        changes = np.append(changes, pixels)
    counts = np.diff(changes, prepend=0).tolist()
    rle = coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    return {"size": [height, width], "counts": rle["counts"].decode("ascii")}
