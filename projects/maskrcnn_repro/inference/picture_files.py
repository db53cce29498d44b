"""Which files of a folder are pictures: one rule for the command line and the predictor."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from maskrcnn_repro.data.image_file import DRAWINGS

from PIL import Image

_NO_PICTURES = (*DRAWINGS, "BUFR", "GRIB", "HDF5", "MPEG")
"""Pillow's names of formats whose files are no pictures, or which it only recognises."""


def is_picture(name: str) -> bool:
    """Tell whether Pillow reads pictures from files of this name's ending."""
    kind = Image.registered_extensions().get(os.path.splitext(name)[1].lower())
    return kind in Image.OPEN and kind not in _NO_PICTURES


def is_hidden(name: str) -> bool:
    """Tell whether a name is that of a hidden file or folder, as a Mac's ``._`` files are."""
    return name.startswith(".")


def files_below(folder: str | Path) -> Iterator[Path]:
    """Yield the files in a folder and below it, without hidden ones and those in hidden folders.

    Links to folders are followed, each folder once.
    """
    been = set()
    for here, folders, names in os.walk(folder, followlinks=True):
        true = os.path.realpath(here)
        if true in been:
            folders.clear()
            continue
        been.add(true)
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        yield from (Path(here, name) for name in names if not is_hidden(name))
