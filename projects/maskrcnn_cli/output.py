"""Printing to what may not take it: a pipe whose reader closes it early, as ``head`` does, a full disk, a closed stream."""

import codecs
import errno
import io
import os
import select
import sys
import unicodedata
from collections.abc import Callable
from contextlib import suppress

READER_GONE = 141
"""Status of a command whose output nobody reads any longer, as a shell tells the signal PIPE."""
SPELLED = {
    "±": "+-",
    "²": "^2",
    "·": "-",
    "\N{EN DASH}": "-",
    "\N{MINUS SIGN}": "-",
    "…": "...",
    "≈": "~",
    "≥": ">=",
    "«": '"',
    "»": '"',
}
"""Signs of our texts to what stands for them where an encoding lacks them."""
_LESSER = "maskrcnn_cli.spelled"


def run_guarded(start: Callable[[], int]) -> int:
    """Run a command and return its exit status: 2, after a sentence on stderr, if its output cannot be written.

    A stream that is closed from the start, as by ``>&-``, is as if it led to ``/dev/null``.

    Args:
        start: returns the status.
    """
    _open_closed_streams()
    _spell_out()
    try:
        try:
            return start()
        finally:
            sys.stdout.flush()
    except OSError as error:
        if not is_of_stdout(error):
            raise
        drop_stdout()
        if isinstance(error, BrokenPipeError):
            return READER_GONE
        tell(f"Error: The output cannot be written: {error.strerror or error}.")
        return 2


def while_read(start: Callable[[], int | None]) -> int:
    """Run a command that prints and return its exit status; 0 if the reader closes the pipe.

    Args:
        start: returns the status, or None for 0.
    """
    try:
        status = start() or 0
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        drop_stdout()
        return 0


def tell(text: str) -> None:
    """Print a line to stderr, or nowhere if that cannot be written: it would hide what is told and its status."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        _drop(sys.stderr.fileno())


def is_of_stdout(error: BaseException | None) -> bool:
    """Tell whether an error is that of a stdout which cannot be written."""
    if not isinstance(error, OSError):
        return False
    try:
        sys.stdout.flush()
    except OSError:
        return True
    # Where it is not buffered nothing is left to flush. Files of a command name themselves.
    return error.filename is None and (
        error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or _reader_is_gone()
    )


def _reader_is_gone() -> bool:
    if not hasattr(select, "poll"):
        return False
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def drop_stdout() -> None:
    """Discard further output, and what is still in the buffer, which Python would fail to flush at exit."""
    _drop(sys.stdout.fileno())


def _drop(descriptor: int) -> None:
    with open(os.devnull, "w", encoding="utf-8") as nothing:
        os.dup2(nothing.fileno(), descriptor)


def _open_closed_streams() -> None:
    """Lead closed streams nowhere; else a data file could get their numbers, and a child's output with them."""
    for number, name in ((0, "stdin"), (1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            with suppress(OSError):
                stream = open(os.devnull, "w" if number else "r", encoding="utf-8")  # noqa: SIM115 - for good
                if stream.fileno() != number:
                    os.dup2(stream.fileno(), number)
                setattr(sys, name, stream)


def _spell_out() -> None:
    """Let streams of other encodings than UTF-8, as of a Windows console or a file, take every text."""
    codecs.register_error(_LESSER, _escape_character)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_LESSER)


def _escape_character(error: UnicodeError) -> tuple[str | bytes, int]:
    """Return what is written for a character that an encoding lacks, and where to go on."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character = error.object[error.start]
    is_byte = "\udc80" <= character <= "\udcff"  # of a file's name that is not in UTF-8
    if is_byte and "a".encode(error.encoding) == b"a":
        return bytes([ord(character) - 0xDC00]), error.start + 1
    letters = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return SPELLED.get(character) or letters or ascii(character)[1:-1], error.start + 1
