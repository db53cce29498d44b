"""A command that is to run somewhere, and the job that runs it."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

CONSOLE = "console.txt"
"""File with a job's output; a resumed run appends to it."""
TAIL_BYTES = 8192
"""How much of that file is read for the last lines."""


@dataclass(frozen=True)
class Task:
    """A command to run.

    Attributes:
        name: of the job, ``r50_c4/seed1``.
        command: program and arguments.
        resumed: the same, for a job that is started again after a preemption.
        folder: gets ``console.txt``.
        environment: variables to add.
    """

    name: str
    command: Sequence[str]
    resumed: Sequence[str]
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)


class Job:
    """A running task: its output so far; subclasses say whether it still runs, and stop it.

    Args:
        folder: of the task; created if missing.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.console = folder / CONSOLE
        self._first_byte = self.console.stat().st_size if self.console.exists() else 0
        self._start_time = time.monotonic()

    def poll(self) -> int | None:
        """Return the exit status, None while it runs, or minus the number of the signal that ended it."""
        raise NotImplementedError

    def ask_to_stop(self) -> None:
        """Ask it to save and leave; a job that lives on without this process is left alone."""

    def end(self, deadline: float) -> None:
        """Wait for its end until ``deadline`` (of ``time.monotonic()``), then kill it."""

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._start_time

    def tail(self, count: int) -> list[str]:
        """Return its last ``count`` lines of output that are not empty."""
        try:
            with self.console.open("rb") as file:
                end = file.seek(0, os.SEEK_END)
                file.seek(max(self._first_byte, end - TAIL_BYTES))
                text = file.read().decode("utf-8", "replace")
        except OSError:
            return []
        return [line.rstrip() for line in text.splitlines() if line.strip()][-count:]


def plain_name(name: str) -> str:
    """Return a job's name for files and schedulers: letters, digits, ``_``, ``.`` and ``-``."""
    return re.sub(r"[^\w.-]+", "-", name)
