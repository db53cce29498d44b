"""COCO's panoptic format: a PNG of segment ids for each image, and a JSON of what each segment is.

H, W = height and width of an image in pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskrcnn_repro.data.image_file import stored_values
from maskrcnn_repro.errors import DataError
from maskrcnn_repro.utils.files import replaced

import numpy as np
from numpy.typing import NDArray
from PIL import Image

VOID = 0
"""Segment id of pixels that nobody labelled."""
IGNORED = 255
"""Semantic label of such pixels."""
THINGS = 0
"""Semantic label of all things together; stuff counts from 1."""

Segment = dict[str, Any]
"""``id``, ``category_id``, ``iscrowd``, ``area``, ``bbox``, as in the JSON."""


def write_ids(path: Path, ids: NDArray[np.integer[Any]]) -> None:
    """Write segment ids (H, W), below 2 ** 24, as an RGB image: red + 256 green + 65536 blue.

    Raises:
        OutputError: the file cannot be written; what was there stays whole.
    """
    channels = [ids >> shift & 255 for shift in (0, 8, 16)]
    # Level 1 is several times faster than the default, and such files are small.
    image = Image.fromarray(np.stack(channels, axis=2).astype(np.uint8))
    with replaced(path) as beside:
        image.save(beside, "PNG", compress_level=1)


def read_ids(path: Path) -> NDArray[np.int64]:
    """Return the segment ids (H, W) of a file.

    Raises:
        DataError: it cannot be read, or is no RGB image.
    """
    pixels = stored_values(path)
    if pixels.ndim != 3 or pixels.shape[2] < 3:
        raise DataError(
            f"{path} is no image of panoptic segments: they are numbers in red, green and blue, and it has shape "
            f"{pixels.shape}."
        )
    return pixels[..., :3].astype(np.int64) @ np.array([1, 256, 65536])


@dataclass(frozen=True)
class Categories:
    """Things and stuff of a data set, each by ascending category id."""

    things: Mapping[int, str]
    """Category id -> name."""
    stuff: Mapping[int, str]

    @classmethod
    def of(cls, entries: Iterable[Mapping[str, Any]]) -> Categories:
        """Return those of ``categories`` of a panoptic JSON; an ``isthing`` of 1 tells things from stuff."""
        by_id = sorted(entries, key=lambda entry: entry["id"])
        parts = (
            {e["id"]: e["name"] for e in by_id if bool(e["isthing"]) is k} for k in (True, False)
        )
        return cls(*parts)

    def metadata(self) -> dict[str, Any]:
        """Return what Detectron2's metadata say of stuff; its first class is "things"."""
        return {
            "stuff_classes": ["things", *self.stuff.values()],
            "stuff_dataset_id_to_contiguous_id": self.labels(),
            "ignore_label": IGNORED,
        }

    def labels(self) -> dict[int, int]:
        """Return category id of stuff -> semantic label, 1 and so on."""
        return {category: label for label, category in enumerate(self.stuff, start=1)}

    def semantic(
        self, ids: NDArray[np.integer[Any]], segments: Iterable[Segment]
    ) -> NDArray[np.uint8]:
        """Return semantic labels (H, W): :data:`THINGS`, stuff from 1, :data:`IGNORED` where nothing is labelled."""
        labels = np.full(ids.shape, IGNORED, dtype=np.uint8)
        own = self.labels()
        for segment in segments:
            labels[ids == segment["id"]] = own.get(segment["category_id"], THINGS)
        return labels
