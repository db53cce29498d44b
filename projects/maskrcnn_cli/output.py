"""Printing to a pipe whose reader may close it early, as ``head`` does."""

import os
import sys
from collections.abc import Callable


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


def drop_stdout() -> None:
    """Discard further output, and what is still in the buffer, which Python would fail to flush at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
