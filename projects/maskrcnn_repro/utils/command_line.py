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
