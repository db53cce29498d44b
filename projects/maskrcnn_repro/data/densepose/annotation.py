"""COCO's DensePose fields of an annotated person: points on the surface of the body, and masks of its parts.

Letters: P points. Places are relative to the person's box: 0 at its left or upper edge, :data:`SIDE` at the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from maskrcnn_repro.data.check.findings import shorten
from maskrcnn_repro.data.check.outlines import Defective, runs_of
from maskrcnn_repro.data.densepose.surface import Mirror
from maskrcnn_repro.errors import DataError
from maskrcnn_repro.utils.rle import encode_mask

import numpy as np
from numpy.typing import NDArray

COLUMNS = ("dp_x", "dp_y", "dp_I", "dp_U", "dp_V")
"""Lists of equal length: place, chart (from 1), and both coordinates in the chart, in [0, 1]."""
MASKS = "dp_masks"
"""A list with the RLE of each part, empty where a part is not seen; or one RLE of the whole person."""
FIELDS = (*COLUMNS, MASKS)
SIDE = 256
"""Side of the masks, and of a box in which places are told."""
PARTS = 14
"""Entries of COCO's list of masks."""


@dataclass(frozen=True)
class SurfacePoints:
    """The annotated surface of a person."""

    points: NDArray[np.float64]
    """(P, 5): x, y, chart, u, v."""
    parts: NDArray[np.uint8] | None
    """(SIDE, SIDE): number of the part that is seen in each cell of the box, 0 where none is; None if not annotated."""

    @classmethod
    def read(cls, annotation: Mapping[str, Any], *, painted: bool = True) -> SurfacePoints | None:
        """Return the surface of an annotation, None if it has none.

        Args:
            annotation: of a COCO file.
            painted: False: masks are checked, and ``parts`` is None.

        Raises:
            DataError: a field is missing or has a value that it cannot have.
        """
        if "dp_x" not in annotation:
            return None
        place = f"Annotation {annotation.get('id', '')} of image {annotation.get('image_id', '?')}"
        try:
            columns = [np.asarray(annotation[name], dtype=np.float64) for name in COLUMNS]
            masks = annotation.get(MASKS)
            runs = [] if masks is None else list(_runs(masks))
        except KeyError as error:
            raise DataError(f"{place} has dp_x, but no {error.args[0]}.") from error
        except (TypeError, ValueError, OverflowError) as error:
            raise DataError(f"{place}: DensePose fields cannot be read: {error}.") from error
        if len({column.shape for column in columns}) > 1 or columns[0].ndim != 1:
            lengths = ", ".join(f"{n} {c.size}" for n, c in zip(COLUMNS, columns, strict=True))
            raise DataError(f"{place}: lists of DensePose have different lengths: {lengths}.")
        for name, column, most in zip(COLUMNS, columns, (SIDE, SIDE, 255, 1, 1), strict=True):
            if wrong := column[~((column >= 0) & (column <= most))].tolist():
                raise DataError(f"{place}: {name} {wrong[0]} is not in [0, {most}].")
        charts = columns[COLUMNS.index("dp_I")]
        if fractions := charts[charts % 1 != 0].tolist():
            raise DataError(f"{place}: dp_I {fractions[0]} is no number of a chart.")
        parts = None if masks is None or not painted else _paint(runs)
        return cls(np.stack(columns, axis=1), parts)

    def fields(self) -> dict[str, Any]:
        """Return the fields of a COCO annotation, with all :data:`PARTS` masks."""
        columns = zip(COLUMNS, self.points.T, strict=True)
        rounded: dict[str, Any] = {name: np.round(c, 4).tolist() for name, c in columns}
        rounded["dp_I"] = [int(chart) for chart in rounded["dp_I"]]
        if self.parts is not None:
            rounded[MASKS] = write_parts(self.parts)
        return rounded

    def mirrored(self, mirror: Mirror) -> SurfacePoints:
        """Return the surface as it is annotated in the mirrored image."""
        x, y, chart, u, v = self.points.T
        moved = np.stack([SIDE - x, y, *mirror.points(chart.astype(np.int64), u, v)], axis=1)
        parts = self.parts if self.parts is None else mirror.parts[self.parts[:, ::-1]]
        return SurfacePoints(moved, parts)


def _paint(masks: Iterable[tuple[int, NDArray[np.int64]]]) -> NDArray[np.uint8]:
    """Return the part of each cell, (SIDE, SIDE); where masks overlap it is the later one."""
    # An RLE goes down the columns.
    parts = np.zeros(SIDE * SIDE, np.uint8)
    for number, runs in masks:
        parts[np.repeat(np.arange(len(runs)) % 2 == 1, runs)] = number
    return parts.reshape(SIDE, SIDE, order="F")


def _runs(
    masks: Sequence[Mapping[str, Any]] | Mapping[str, Any],
) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Yield the number of each mask that is not empty, and the lengths of its runs, background first."""
    for number, rle in enumerate([masks] if isinstance(masks, Mapping) else masks, start=1):
        if not rle:
            continue
        mask = f"mask {number} of {MASKS}"
        if not isinstance(rle, Mapping) or not {"size", "counts"} <= rle.keys():
            raise ValueError(f"{mask} is no RLE with size and counts")
        if rle["size"] not in ([SIDE, SIDE], (SIDE, SIDE)):
            raise ValueError(f"{mask} has the size {shorten(rle['size'])}, not {[SIDE, SIDE]}")
        if number > 255:
            raise ValueError(f"{mask} is one of more than 255")
        try:
            runs = runs_of(rle["counts"])
        except Defective as error:
            raise ValueError(error.says(mask)) from error
        if (total := int(runs.sum())) != SIDE * SIDE:
            raise ValueError(f"{mask} has counts of {total} pixels, not {SIDE * SIDE}")
        yield number, runs


def write_parts(parts: NDArray[np.uint8]) -> list[Any]:
    """Return :data:`PARTS` masks of a map of parts (SIDE, SIDE), an empty list for a part that is not seen."""
    return [encode_mask(parts == n) if (parts == n).any() else [] for n in range(1, PARTS + 1)]
