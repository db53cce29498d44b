"""Annotation files for correction by hand: a record of what was written tells later what a person has changed."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from maskrcnn_repro.errors import OutputError, counted
from maskrcnn_repro.utils.files import replaced
from maskrcnn_repro.utils.hashes import sha256_of

RECORD = ".predicted.sha256"
"""Name of the record, which ``sha256sum --check`` reads: a line for each file written, the newest last."""


def write_recorded(folder: Path, path: Path, content: bytes) -> None:
    """Write a file below a folder atomically and note its digest in the folder's record.

    Raises:
        OutputError: one of them cannot be written.
    """
    with replaced(path) as beside:
        beside.write_bytes(content)
        # Before the file has its name: killed in between, a run leaves a line too many, not a line too few.
        with (folder / RECORD).open("a", encoding="utf-8", errors="surrogateescape") as record:
            record.write(_line(folder, path, sha256_of(beside)) + "\n")


def check_unchanged(folder: Path, paths: Iterable[Path]) -> None:
    """Raise OutputError if one of the files is there and is not as :func:`write_recorded` left it.

    Args:
        folder: with the record.
        paths: below it, which a command is about to write.
    """
    record = folder / RECORD
    lines: set[str] = set()
    if record.is_file():
        text = record.read_text(encoding="utf-8", errors="surrogateescape")
        lines = set(text.split("\n"))
    files = sorted(path for path in paths if path.is_file())
    changed = [path for path in files if _line(folder, path, sha256_of(path)) not in lines]
    if changed:
        raise OutputError(
            f"{changed[0]} was changed since it was predicted, or comes from elsewhere"
            + (f" ({counted(len(changed), 'such file')} in all)" if len(changed) > 1 else "")
            + "; name another --out to keep it, or give --overwrite."
        )


def _line(folder: Path, path: Path, digest: str) -> str:
    name = path.relative_to(folder).as_posix()
    return f"{digest}  {name}".replace("\n", "\\n")
