"""The files that a command line names: images and videos, with names that are unique among them."""

from __future__ import annotations

import fnmatch
import glob
import itertools
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from maskrcnn_repro.checkpoint.weight_file import shipped_models
from maskrcnn_repro.errors import DataError, OutputError
from maskrcnn_repro.inference.picture_files import files_below, is_hidden, is_picture
from maskrcnn_repro.inference.video import SUFFIXES as VIDEO_SUFFIXES


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
        files = sorted(file for file in files_below(path) if _is_shown(file.name))
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
    shown = (match for match in matches if _is_shown(match.name) and not is_hidden(match.name))
    files = sorted(match for match in shown if not match.is_dir())
    if not files:
        raise DataError(f"Pattern {word} fits no image or video.")
    return files, [file.parent for file in files]


def _is_shown(name: str) -> bool:
    """Tell whether a name is that of an image or a video."""
    return is_picture(name) or os.path.splitext(name)[1].lower() in VIDEO_SUFFIXES


def check_output_folder(
    out: Path, written: Sequence[Path], words: Sequence[str], inputs: Iterable[Input]
) -> None:
    """Raise OutputError unless nothing that is written can take the place of an input, now or in the next run.

    Args:
        out: the folder of all outputs.
        written: folders in it that get files named after the inputs.
        words: as of :func:`find_inputs`.
        inputs: what it returned for them.
    """
    if out.exists() and not out.is_dir():
        raise OutputError(f"--out {out} is a file; name a folder.")
    folders = {folder: Path(os.path.realpath(folder)) for folder in written}
    target = Path(os.path.realpath(out))
    for word in words:
        if os.path.isdir(word) and target.is_relative_to(os.path.realpath(word)):
            raise OutputError(
                f"--out {out} is the input folder {word} or lies in it: the next run would take the overlays for "
                "images; name a folder outside of it."
            )
        if not os.path.lexists(word) and any(_may_fit_in(word, true) for true in folders.values()):
            raise OutputError(
                f"--out {out} gets files that the pattern {word} may fit: the next run would take the overlays for "
                "images; name another --out."
            )
    for item in inputs:
        path = Path(os.path.realpath(item.path))
        below = (folder for folder, true in folders.items() if path.is_relative_to(true))
        if folder := next(below, None):
            raise OutputError(
                f"Input {item.path} lies in {folder}, where overlays and annotations of this name are written; name "
                "another --out."
            )


def _may_fit_in(pattern: str, folder: Path) -> bool:
    """Tell whether a pattern may fit files that are yet to be written below a folder, a path without links."""
    parts = Path(pattern).parts
    fixed = list(itertools.takewhile(lambda part: not glob.has_magic(part), parts))
    base = os.path.realpath(os.path.join(os.curdir, *fixed))
    if not folder.is_relative_to(base):
        return False
    steps = folder.relative_to(base).parts
    for number, part in enumerate(parts[len(fixed) :]):
        if part == "**" or number == len(steps):
            return True
        if not fnmatch.fnmatch(steps[number], part):
            return False
    return False
