"""Printing to a reader that may leave early, as ``head`` does."""

import os
import sys
from collections.abc import Callable


def while_read(start: Callable[[], int | None]) -> int:
    """Return the status of a command that prints: what ``start`` returns, 0 for None or if its reader leaves."""
    try:
        status = start() or 0
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        drop_stdout()
        return 0


def drop_stdout() -> None:
    """Send what is printed from now on, and what is still in the buffer, to nowhere: it would fail at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
