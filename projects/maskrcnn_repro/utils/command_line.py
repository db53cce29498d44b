"""The exit status of a command, and the error message that its user reads."""

from __future__ import annotations

import os
from collections.abc import Callable

from maskrcnn_cli.output import run_guarded, tell
from maskrcnn_repro.errors import AgreedError, Ended, UserError


def exit_status(start: Callable[[], int | None]) -> int:
    """Run a command and return its exit status: what ``start`` returns, 0 for None; 2 if it cannot print.

    A :class:`~maskrcnn_repro.errors.UserError` is printed to stderr in one sentence and gives 2; a training
    that :class:`~maskrcnn_repro.errors.Ended` gives its own status, and an
    interruption 130.
    """
    return run_guarded(lambda: _status(start))


def _status(start: Callable[[], int | None]) -> int:
    try:
        return start() or 0
    except Ended as ended:
        return ended.code
    except KeyboardInterrupt:
        tell("Interrupted.")
        return 130
    except UserError as error:
        # All ranks raise an AgreedError: one of them prints it.
        if not isinstance(error, AgreedError) or os.environ.get("RANK", "0") == "0":
            tell(f"Error: {error}")
        return 2
