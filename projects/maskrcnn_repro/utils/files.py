"""Files: written to a temporary name and then renamed, so that they are whole; and fetched by address."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from maskrcnn_repro.errors import OutputError, UserError
from maskrcnn_repro.utils.download import WholeDownloads

from detectron2.utils.file_io import PathManager

PathManager.register_handler(WholeDownloads(), allow_override=True)
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Errors of a full disk, a full quota and a limit on the size of files."""


@contextmanager
def room_needed() -> Iterator[None]:
    """Turn the error of a disk that fills up within the block into a sentence.

    Raises:
        OutputError: there was no room for a file.
    """
    try:
        yield
    except UserError:
        raise
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise OutputError(
            f"{error.filename or 'A file of the run'} cannot be written ({error.strerror}); checkpoints are "
            "intact: make room, then continue with --resume."
        ) from error


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to; on success the file replaces ``path`` in one step.

    A process that is killed in between leaves ``path`` as it was. Missing folders are made.

    Raises:
        OutputError: the file cannot be written, such as into a full disk or below a file.
    """
    # A fixed name, so that the next attempt overwrites what a killed process left; the suffix stays last,
    # because image libraries take the format from it.
    beside = path.with_name(f".part-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        with open(beside, "rb+") as file:
            # Without it a power cut may leave an empty file under the new name.
            os.fsync(file.fileno())
        os.replace(beside, path)
        _sync_folder(path.parent)
    except UserError:
        raise
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}.") from error
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make a renamed file's name survive a power cut, where folders can be opened."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically (see :func:`replaced`)."""
    with replaced(path) as beside:
        beside.write_text(text, encoding="utf-8")


def refuse_inputs(out: Path, inputs: Iterable[Path]) -> None:
    """Raise OutputError if ``out`` is one of the files that a command reads, also by another name."""
    for path in inputs:
        if out.exists() and path.exists() and out.samefile(path):
            raise OutputError(
                f"{out} is the file itself that is read, which stays as it is; name another."
            )


def local_copy(address: str, label: str, error: type[UserError]) -> Path:
    """Return the local copy of a file given by path or by URL, Detectron2's prefixes among them.

    Args:
        address: of the file.
        label: what it is, in the plural, which begins the error message.
        error: class of the error that is raised without such a file, or for a folder, pipe or device.
    """
    try:
        local = Path(PathManager.get_local_path(address))
    except Exception as reason:  # whatever a download raises
        raise error(f"{label} could not be fetched: {reason}") from reason
    problem = _unreadable(local)
    if problem:
        raise error(f"{label} {problem}.")
    return local


def _unreadable(path: Path) -> str:
    """Return why a path is no file that can be read to its end; empty if it is one."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return "do not exist"
    except (OSError, ValueError) as error:  # a loop of links, a name too long or with a zero byte
        return f"cannot be opened: {getattr(error, 'strerror', None) or error}"
    if stat.S_ISDIR(mode):
        return "are a folder; name a file in it"
    if not stat.S_ISREG(mode):
        return "are a pipe or a device, no file"
    return "" if os.access(path, os.R_OK) else "may not be read"
