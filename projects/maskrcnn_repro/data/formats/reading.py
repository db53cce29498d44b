"""Files of labelling tools as trees, with one sentence for whatever is wrong with them."""

from __future__ import annotations

import codecs
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from maskrcnn_repro.data.check.findings import shorten
from maskrcnn_repro.data.check.json_file import read_json
from maskrcnn_repro.data.check.records import LARGEST
from maskrcnn_repro.errors import DataError
from maskrcnn_repro.utils.files import other_than_file

Number = (int, float)
MOST_FILES = 1_000_000
"""Files that are looked through in a folder."""
LARGEST_TEXT = 1 << 30
"""Bytes of a CSV or XML file, or of a list of names."""
PARTS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
"""Word in the name of a file or folder -> part of a data set."""
_NONE = object()


class Trees:
    """Reads JSON files and keeps the last, which is recognised first and read then."""

    def __init__(self) -> None:
        self._last: tuple[Path | None, Any] = (None, None)

    def read(self, path: Path) -> Any:
        """Return what a JSON file holds.

        Raises:
            DataError: it cannot be read or is no JSON.
        """
        if self._last[0] != path:
            self._last = (path, _parse(path))
        return self._last[1]


def _parse(path: Path) -> Any:
    check_file(path)
    try:
        return read_json(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        tree = _with_byte_order_mark(path)
        if tree is None:
            raise DataError(f"{path} is no JSON: {error}; export it again, as UTF-8.") from error
        return tree


def _with_byte_order_mark(path: Path) -> Any:
    """Return what a JSON file holds that begins with a byte order mark, as Windows writes it; None for any other."""
    text = path.read_bytes()
    encodings = {
        codecs.BOM_UTF8: "utf-8-sig",
        codecs.BOM_UTF16_LE: "utf-16",
        codecs.BOM_UTF16_BE: "utf-16",
    }
    encoding = next((name for mark, name in encodings.items() if text.startswith(mark)), None)
    try:
        return json.loads(text.decode(encoding)) if encoding else None
    except (ValueError, RecursionError):
        return None


def check_file(path: Path) -> None:
    """Raise DataError for a folder, a pipe or a device, and where nothing stands."""
    if kind := other_than_file(path):
        raise DataError(f"{path} cannot be read: it is {kind}.")
    if not path.exists():
        raise DataError(f"{path} does not exist.")


def first_text(path: Path, characters: int) -> str:
    """Return the beginning of a text file, whatever its encoding is.

    Raises:
        DataError: it cannot be read.
    """
    check_file(path)
    try:
        with open(path, encoding="utf-8-sig", errors="replace") as stream:
            return stream.read(characters)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error


def read_text(path: Path) -> str:
    """Return a text file in UTF-8, with or without a byte order mark.

    Raises:
        DataError: it cannot be read, is too large, or is no text.
    """
    check_file(path)
    try:
        if (size := path.stat().st_size) > LARGEST_TEXT:
            raise DataError(f"{path} has {size} bytes, more than {LARGEST_TEXT}; split it.")
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise DataError(f"{path} is no text in UTF-8: {error}.") from error


def get(record: Any, name: str, kinds: Any, place: str, default: Any = _NONE) -> Any:
    """Return a field of a record if it is of one of the types.

    Args:
        record: from a file, which should be an object.
        name: of the field.
        kinds: a type or a tuple of them; True and False are of the type bool alone, and no numbers.
        place: of the record, which begins the error message.
        default: where the field is absent or null; without one that is an error.

    Raises:
        DataError: the record is no object, or the field is absent or of another type.
    """
    if not isinstance(record, dict):
        raise DataError(f"{place} is {shorten(record)}, not an object.")
    value = record.get(name)
    if value is None:
        if default is _NONE:
            raise DataError(f"{place} has no {name!r}; export the file again.")
        return default
    types = kinds if isinstance(kinds, tuple) else (kinds,)
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        names = " or ".join(each.__name__ for each in types)
        raise DataError(f"{place}: {name!r} is {shorten(value)}, not of type {names}.")
    if isinstance(value, int | float) and not abs(value) <= LARGEST:
        raise DataError(f"{place}: {name!r} is {shorten(value)}, not a finite number below 2**53.")
    return value


def points_of(value: Any, place: str) -> list[tuple[float, float]]:
    """Return a list of pairs of numbers as points.

    Raises:
        DataError: it is something else.
    """
    if not isinstance(value, list):
        raise DataError(f"{place}: its points are {shorten(value)}, not a list.")
    for point in value:
        numbers = isinstance(point, list | tuple) and len(point) == 2
        if not numbers or not all(type(v) in Number for v in point):
            raise DataError(f"{place}: {shorten(point)} is no point of two numbers.")
        if any(abs(value) > LARGEST for value in point):
            raise DataError(f"{place}: {shorten(point)} lies beyond 2**53.")
    return [(point[0], point[1]) for point in value]


def files_below(folder: Path, suffixes: frozenset[str]) -> Iterator[Path]:
    """Yield files below a folder with one of the suffixes (in lower case), in the order of their names.

    Hidden files and folders are left out, and links to folders are not followed.

    Raises:
        DataError: there are more than :data:`MOST_FILES` files.
    """
    count = 0
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        count += len(names)
        if count > MOST_FILES:
            raise DataError(f"{folder} has more than {MOST_FILES} files; name a folder with fewer.")
        for name in sorted(names):
            path = Path(parent, name)
            if path.suffix.lower() in suffixes and not name.startswith("."):
                yield path


def part_of(name: str) -> str:
    """Return the part of a data set, ``train``, ``val`` or ``test``, that a word of a name tells; else empty."""
    words = re.split(r"[^a-z]+", name.lower())
    return next((PARTS[word] for word in words if word in PARTS), "")


def names_beside(file: Path, name: str) -> list[str]:
    """Return names of an image to try: from the folder of the file that names it, and as it is."""
    return [str(file.parent.absolute() / name.replace("\\", "/")), name]
