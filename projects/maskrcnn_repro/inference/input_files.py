"""The files that a command line names: images and videos, with names that are unique among them."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from maskrcnn_repro.checkpoint.weight_file import shipped_models
from maskrcnn_repro.data.image_file import DRAWINGS
from maskrcnn_repro.errors import DataError, OutputError
from maskrcnn_repro.inference.video import SUFFIXES as VIDEO_SUFFIXES

from PIL import Image

_NO_PICTURES = (*DRAWINGS, "BUFR", "GRIB", "HDF5")
"""Pillow's names of formats whose files are no pictures, or which it only recognises."""


@dataclass(frozen=True)
class Input:
    """A file to look at.

    Attributes:
        path: of the file, absolute.
        name: its path relative to the folder that holds all inputs, with forward slashes.
        video: whether it is read as a video.
    """

    path: Path
    name: str
    video: bool


def find_inputs(words: Sequence[str]) -> list[Input]:
    """Return the files that paths, folders and patterns name, each file once, in the order of their names.

    A folder stands for the images and videos in it and below it, without hidden ones. Links to folders are
    followed, each folder once.

    Args:
        words: paths, folders and patterns with ``*``, ``?``, ``[`` or ``**``; a path that exists is no pattern.

    Raises:
        DataError: a path does not exist, or a folder or pattern has no image or video.
    """
    places: dict[Path, None] = {}
    roots = []
    for word in words:
        files, root = _files(word)
        places |= dict.fromkeys(files)
        roots += root
    common = Path(os.path.commonpath(roots))
    return [
        Input(path, path.relative_to(common).as_posix(), path.suffix.lower() in VIDEO_SUFFIXES)
        for path in places
    ]


def _files(word: str) -> tuple[list[Path], list[Path]]:
    """Return the files of an argument, and the folders to which their names may be relative."""
    path = Path(os.path.abspath(word))
    if path.is_dir():
        files = sorted(_walk(path))
        if not files:
            raise DataError(f"Folder {word} has no images or videos in it or below it.")
        return files, [path]
    if os.path.lexists(path):
        return [path], [path.parent]
    if "://" in word:
        raise DataError(f"{word} is an address: download the file and name its path.")
    if not glob.has_magic(word):
        first = " (the model stands before the inputs)" if word in shipped_models() else ""
        raise DataError(
            f"{word} does not exist; name an image, a video, a folder or a pattern{first}."
        )
    matches = [Path(os.path.abspath(match)) for match in glob.iglob(word, recursive=True)]
    files = sorted(match for match in matches if not match.is_dir() and _is_shown(match.name))
    if not files:
        raise DataError(f"Pattern {word} fits no image or video.")
    return files, [file.parent for file in files]


def _walk(folder: Path) -> Iterator[Path]:
    been = set()
    for here, folders, names in os.walk(folder, followlinks=True):
        true = os.path.realpath(here)
        if true in been:
            folders.clear()
            continue
        been.add(true)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(here, name) for name in names if _is_shown(name))


def _is_shown(name: str) -> bool:
    """Tell whether a name is that of an image or a video, and not hidden, as a Mac's ``._`` files are."""
    suffix = os.path.splitext(name)[1].lower()
    kind = Image.registered_extensions().get(suffix)
    return not name.startswith(".") and (
        suffix in VIDEO_SUFFIXES or (kind in Image.OPEN and kind not in _NO_PICTURES)
    )


def check_output_folder(out: Path, written: Sequence[Path], words: Sequence[str]) -> None:
    """Raise OutputError unless nothing that is written can take the place of an input.

    Args:
        out: the folder of all outputs.
        written: folders in it that get files named after the inputs.
        words: as of :func:`find_inputs`.
    """
    if out.exists() and not out.is_dir():
        raise OutputError(f"--out {out} is a file; name a folder.")
    target = Path(os.path.realpath(out))
    for word in words:
        path = Path(os.path.realpath(word))
        if path.is_dir() and target.is_relative_to(path):
            raise OutputError(
                f"--out {out} is the input folder {word} or lies in it: the next run would take the overlays for "
                "images; name a folder outside of it."
            )
        below = (folder for folder in written if path.is_relative_to(os.path.realpath(folder)))
        if folder := next(below, None):
            raise OutputError(
                f"Input {word} lies in {folder}, where overlays and annotations of this name are written; name "
                "another --out."
            )
