"""Files that are either whole or not there: written beside their place, then renamed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Yield a path to write to; on success that file takes the place of ``path`` in one step.

    A process killed in between leaves ``path`` as it was. The leftover has a fixed name, so that the
    next attempt overwrites it. The suffix stays last, because image libraries read the format off it.
    """
    beside = path.with_name(f".part-{path.name}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield beside
        with open(beside, "rb+") as file:
            # Without it a power cut may leave the new name with no content.
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file in one step."""
    with replaced(path) as beside:
        beside.write_text(text, encoding="utf-8")
