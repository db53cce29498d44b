"""GPS and GPSm of images that are drawn again: predicted surfaces are not kept, how they match is."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maskrcnn_repro.errors import DataError
from maskrcnn_repro.evaluation.resampling import THRESHOLDS, CategoryMatches, Matches, join_images
from maskrcnn_repro.evaluation.surface_ap import MOST, Case
from maskrcnn_repro.utils.files import other_than_file, replaced

import numpy as np

FILE = "densepose_matches.npz"
"""Beside the detections of an evaluation."""
_ALL = (0.0, 1e10)
"""Area of people of all sizes, in COCO's code."""
_FIELDS = ("images", "hits", "misses", "objects")


def match_surfaces(cases: Mapping[Any, Case], task: str) -> Matches:
    """Return the matches of detections with people of all sizes.

    Args:
        cases: by id of the image.
        task: ``gps`` or ``gpsm``.
    """
    ids = tuple(sorted(cases))
    entries = [cases[image].entry(task, _ALL, THRESHOLDS) for image in ids]
    return Matches(ids, (join_images(entries, MOST),))


def write_matches(file: Path, matches: Mapping[str, Matches]) -> None:
    """Write the matches of some tasks on the same images.

    Raises:
        OutputError: the file cannot be written.
    """
    content: dict[str, Any] = {}
    for task, of_task in matches.items():
        (people,) = of_task.categories
        content |= {f"{task}_{name}": getattr(people, name) for name in _FIELDS}
        content["image_ids"] = np.array(of_task.image_ids)
    with replaced(file) as beside:
        np.savez_compressed(beside, **content)


def read_matches(file: Path, task: str) -> Matches:
    """Return the matches of one of the tasks that :func:`write_matches` wrote.

    Raises:
        DataError: the file is missing, or cannot be read.
    """
    try:
        if kind := other_than_file(file):
            raise ValueError(f"it is {kind}")
        with np.load(file, allow_pickle=False) as content:
            people = CategoryMatches(*(content[f"{task}_{name}"] for name in _FIELDS))
            return Matches(tuple(content["image_ids"].tolist()), (people,))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(
            f"{file} cannot be read ({reason}); an evaluation writes it: run it again with --eval-only."
        ) from error
