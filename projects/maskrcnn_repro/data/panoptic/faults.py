"""What can be wrong with panoptic annotations: one table, and the checks of a JSON and of its PNG files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from maskrcnn_repro.data.panoptic.files import IGNORED, VOID, Segment
from maskrcnn_repro.errors import DataError

import numpy as np
from numpy.typing import NDArray

ERRORS = {
    "category id": "category id {0!r} is no whole number from 0 on",
    "category id twice": "category id {0} is there twice",
    "category name twice": "categories {1} and {2} have the one name {0!r}",
    "isthing": "category {0} has the isthing {1!r}, which must be 0 or 1",
    "stuff": "there are {0} classes of stuff, and at most {1} semantic labels",
    "image twice": "image {0!r} has two annotations (of a name, folder and ending do not count)",
    "segment id": "image {0!r} has the segment id {1!r}, which must be a whole number from 1 to 16777215",
    "segment id twice": "image {0!r} has the segment id {1} twice",
    "segment category": "segment {1} of image {0!r} has the category {2!r}, which is not there",
    "segment area": "segment {1} of image {0!r} has the area {2!r}, which must be a number of pixels",
}
"""Code -> clause; training or evaluation would fail, or learn and measure something else."""
WARNINGS = {
    "absent in PNG": "segment {1} of image {0!r} has no pixel in its PNG; it counts as missed",
    "absent in JSON": (
        "pixels of image {0!r} have the id {1}, which no segment of the JSON has; they are not trained on, and what is "
        "predicted there counts as false (0 is for pixels that nobody labelled)"
    ),
    "other area": "segment {1} of image {0!r} has the area {2} and {3} pixels in its PNG; PQ goes by the area",
}
"""Code -> clause; that is how COCO's evaluator takes them."""


class Faults:
    """Faults of a panoptic JSON: how many of each kind, and the first."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._counts: Counter[str] = Counter()
        self._first: dict[str, tuple[Any, ...]] = {}

    def add(self, code: str, *values: Any) -> None:
        """Note a fault; ``values`` fill the table's clause."""
        self._counts[code] += 1
        self._first.setdefault(code, values)

    def warnings(self) -> list[str]:
        """Return one sentence for each kind of warning.

        Raises:
            DataError: there is an error; one sentence on the first kind.
        """
        for code, clause in ERRORS.items():
            if code in self._first:
                raise DataError(self._sentence(code, clause))
        return [self._sentence(c, clause) for c, clause in WARNINGS.items() if c in self._first]

    def _sentence(self, code: str, clause: str) -> str:
        count = self._counts[code]
        total = f" ({count} such cases)" if count > 1 else ""
        return f"{self.file}: {clause.format(*self._first[code])}{total}."


def check_categories(entries: Collection[Mapping[str, Any]], faults: Faults) -> None:
    """Note what is wrong with ``categories``."""
    names: dict[str, int] = {}
    ids: set[int] = set()
    for entry in entries:
        number, name = entry["id"], entry["name"]
        if not _is_whole(number) or number < 0:
            faults.add("category id", number)
            continue
        if entry["isthing"] not in (0, 1):
            faults.add("isthing", number, entry["isthing"])
        if number in ids:
            faults.add("category id twice", number)
        elif name in names:
            faults.add("category name twice", name, names[name], number)
        ids.add(number)
        names.setdefault(name, number)
    stuff = sum(not entry["isthing"] for entry in entries)
    if stuff >= IGNORED:
        faults.add("stuff", stuff, IGNORED - 1)


def check_segments(
    image: str, segments: Collection[Segment], categories: Collection[int], faults: Faults
) -> None:
    """Note what is wrong with ``segments_info`` of an image."""
    seen: set[int] = set()
    for segment in segments:
        number, category, area = segment["id"], segment["category_id"], segment.get("area")
        if not _is_whole(number) or not VOID < number < 1 << 24:
            faults.add("segment id", image, number)
            continue
        if number in seen:
            faults.add("segment id twice", image, number)
        seen.add(number)
        if not _is_whole(category) or category not in categories:
            faults.add("segment category", image, number, category)
        if isinstance(area, bool) or not isinstance(area, int | float) or not area >= 0:
            faults.add("segment area", image, number, area)


def check_pixels(
    image: str, segments: Collection[Segment], ids: NDArray[np.int64], faults: Faults
) -> None:
    """Note where ``segments_info`` of an image, without errors, and the ids (H, W) of its PNG differ."""
    numbers, counts = np.unique(ids, return_counts=True)
    areas = dict(zip(numbers.tolist(), counts.tolist(), strict=True))
    areas.pop(VOID, None)
    for segment in segments:
        number = segment["id"]
        if (pixels := areas.pop(number, 0)) == 0:
            faults.add("absent in PNG", image, number)
        elif pixels != segment["area"]:
            faults.add("other area", image, number, segment["area"], pixels)
    for number in areas:
        faults.add("absent in JSON", image, number)


def _is_whole(number: Any) -> bool:
    return isinstance(number, int) and not isinstance(number, bool)
