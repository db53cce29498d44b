"""Files: written to a temporary name and then renamed, so that they are whole; and fetched by address."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from maskrcnn_repro.errors import OutputError, UserError
from maskrcnn_repro.utils.download import HubDownloads, WholeDownloads
from maskrcnn_repro.utils.held_signals import raise_signals

from detectron2.utils.file_io import PathManager

# In place of iopath's own handler, which Detectron2 has registered for the same addresses.
PathManager.register_handler(WholeDownloads(), allow_override=True)
PathManager.register_handler(HubDownloads(), allow_override=True)
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

    A process that is killed in between leaves ``path`` as it was, and nothing beside it if the signal can be
    caught. Missing folders are made.

    Raises:
        OutputError: the file cannot be written, such as into a full disk or below a file, or ``path`` is a
            folder, a pipe or a device.
    """
    _refuse_other_than_file(path)
    # A fixed name, so that the next attempt overwrites what a killed process left; the suffix stays last,
    # because image libraries take the format from it.
    beside = path.with_name(f".part-{path.name}")
    try:
        with raise_signals():
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


def _refuse_other_than_file(path: Path) -> None:
    # A renamed file would take the place of a device, such as /dev/null, for all programs of the machine.
    if kind := "a name that is empty" if not path.name else other_than_file(path):
        raise OutputError(f"{path} cannot be written: it is {kind}; name a file.")


def check_writable(path: Path) -> None:
    """Raise OutputError unless a file can be written at a path, before the work for it begins.

    Missing folders are made; a file that stands there stays as it is.
    """
    _refuse_other_than_file(path)
    beside = path.with_name(f".part-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.touch()
        beside.unlink()
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}.") from error


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


def check_output(label: str, path: Path, ending: str, others: Iterable[Path]) -> None:
    """Raise OutputError unless a file may be written where a command reads and writes others.

    Args:
        label: what names the file on the command line, such as ``--fix``.
        path: of the file.
        ending: which its name must have, such as ``.json``, so that no picture or archive is overwritten.
        others: files that the command reads or writes as well.
    """
    if path.suffix.lower() != ending:
        raise OutputError(f"{label} {str(path)!r}: let its name end in {ending}.")
    same = (other for other in others if _same_file(path, other))
    if (other := next(same, None)) is not None:
        raise OutputError(
            f"{label} {str(path)!r} is the file itself that is read or written as {str(other)!r}; name another."
        )


def _same_file(first: Path, second: Path) -> bool:
    with suppress(OSError):
        return first.samefile(second)
    return os.path.realpath(first) == os.path.realpath(second)


def local_copy(address: str, label: str, error: type[UserError]) -> Path:
    """Return the local copy of a file given by path or by URL, ``detectron2://`` and ``hf://`` among them.

    Args:
        address: of the file.
        label: what it is, in the plural, which begins the error message.
        error: class of the error that is raised without such a file, or for a folder, pipe or device.
    """
    try:
        local = Path(PathManager.get_local_path(address))
    except Exception as reason:  # whatever a download raises
        # urllib wraps what the system says.
        cause = getattr(reason, "reason", reason)
        told = str(getattr(cause, "strerror", None) or cause).rstrip(".")
        raise error(
            f"{label} could not be fetched: {told}; check the address and the network, or download the file and "
            "name its path."
        ) from reason
    problem = _why_unreadable(local)
    if problem:
        raise error(f"{label} {problem}.")
    return local


def _why_unreadable(path: Path) -> str:
    """Return why a path is no file that can be read to its end; empty if it is one."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return "do not exist"
    except (OSError, ValueError) as error:  # a loop of links, a name too long or with a zero byte
        return f"cannot be opened: {getattr(error, 'strerror', None) or error}"
    if kind := _kind(mode):
        return f"are {kind}; name a file"
    return "" if os.access(path, os.R_OK) else "may not be read"


def other_than_file(path: str | Path) -> str:
    """Return what stands at a path that is no regular file; empty for a file, and where nothing stands.

    Reading a pipe may wait for ever, and reading a device may never end.
    """
    try:
        return _kind(os.stat(path).st_mode)
    except (OSError, ValueError):  # ValueError: a zero byte
        return ""


def _kind(mode: int) -> str:
    if stat.S_ISREG(mode):
        return ""
    return "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
