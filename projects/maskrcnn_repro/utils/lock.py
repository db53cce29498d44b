"""Lock of an output folder: one run at a time, and no new training over an old one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from maskrcnn_repro.errors import InUseError, OutputError

import portalocker

LOCK_NAME = ".lock"
_held: set[IO[str]] = set()


def _release_in_child() -> None:
    """Close a forked child's copy of the lock files."""
    # A lock lives as long as any process has the file open: data-loader workers outlive a killed run by
    # some seconds, in which ``--resume`` would be refused.
    for file in _held:
        file.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_release_in_child)


@contextmanager
def locked(folder: Path, label: str = "OUTPUT_DIR") -> Iterator[None]:
    """Lock ``folder`` for this process within the block; the lock ends with the process, even if it is killed.

    Args:
        folder: is made where it is missing.
        label: what names the folder on the command line, for the error message.

    Raises:
        InUseError: another run holds the lock.
        OutputError: the folder cannot be written to.
    """
    path = folder / LOCK_NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Not "w": a refused run must not empty the file, which holds the id of the locking process.
        file = path.open("a+", encoding="utf-8")
    except OSError as error:  # a pipe's has no text
        raise OutputError(
            f"{label} {str(folder)!r} cannot be used: {error.strerror or error}; "
            f"choose another with {label} FOLDER."
        ) from error
    with file:
        try:
            portalocker.lock(file, portalocker.LOCK_EX | portalocker.LOCK_NB)
        except portalocker.LockException as error:
            raise InUseError(
                f"{label} {str(folder)!r} is in use by another run (process {_holder(path)}): "
                f"wait for it, or choose another folder with {label} FOLDER."
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        _held.add(file)
        try:
            yield
        finally:
            _held.discard(file)
            portalocker.unlock(file)


def refuse_used(folder: Path) -> None:
    """Refuse to start a new training where an earlier one left checkpoints or numbers.

    Raises:
        OutputError: there is a checkpoint in ``folder``, or a log of an interrupted training.
    """
    if left := traces(folder):
        raise OutputError(
            f"OUTPUT_DIR {str(folder)!r} already holds a training ({left[-1].name}): continue it with "
            "--resume, evaluate it with --eval-only --resume, or choose another folder with OUTPUT_DIR FOLDER."
        )


def traces(folder: Path) -> list[Path]:
    """Return the files that a training, also one that was interrupted, left in ``folder``."""
    log = folder / "metrics.json"
    logs = [log] if log.is_file() and log.stat().st_size > 0 else []
    checkpoints = [folder / "last_checkpoint", *sorted(folder.glob("model_*.pth"))]
    return [*logs, *(file for file in checkpoints if file.is_file())]


def _holder(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip() or "unknown"
    except OSError:  # Windows refuses to read a locked file
        return "unknown"
