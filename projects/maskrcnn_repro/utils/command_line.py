"""The end of a command: its exit status, and what a user reads of a mistake."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from maskrcnn_repro.errors import AgreedError, UserError


def exit_status(start: Callable[[], int | None]) -> int:
    """Return the status of a command line: what ``start`` returns, 0 for None.

    A user's error is told in one sentence on stderr and gives 2.
    """
    try:
        return start() or 0
    except UserError as error:
        if not isinstance(error, AgreedError) or os.environ.get("RANK", "0") == "0":
            print(f"Error: {error}", file=sys.stderr, flush=True)
        return 2


def status_while_read(start: Callable[[], int | None]) -> int:
    """Return :func:`exit_status` of a command that prints; a reader that leaves early, as `head` does, is no failure."""
    try:
        return exit_status(start)
    except BrokenPipeError:
        drop_stdout()
        return 0


def drop_stdout() -> None:
    """Send to nowhere what is printed from now on and what is still in the buffer, which would fail at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
