"""Atomic writing of files: to a temporary name in the same folder, then renamed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to; on success the file replaces ``path`` in one step.

    A process that is killed in between leaves ``path`` as it was.
    """
    # A fixed name, so that the next attempt overwrites what a killed process left; the suffix stays last,
    # because image libraries take the format from it.
    beside = path.with_name(f".part-{path.name}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield beside
        with open(beside, "rb+") as file:
            # Without it a power cut may leave an empty file under the new name.
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically (see :func:`replaced`)."""
    with replaced(path) as beside:
        beside.write_text(text, encoding="utf-8")
