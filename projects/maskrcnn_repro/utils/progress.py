"""How far long work is: on a terminal one line that renews itself, elsewhere a line now and then."""

from __future__ import annotations

import sys
import time
from typing import TextIO

TERMINAL_S, ELSEWHERE_S = 0.2, 15.0
"""Seconds between two lines."""


class Progress:
    """Counts what is done and tells it with the rate and the time that is left.

    Args:
        what: is counted, in the plural, such as ``images``.
        total: number of them; None if nobody knows.
        stream: to write to.
    """

    def __init__(self, what: str, total: int | None = None, stream: TextIO | None = None) -> None:
        self.what, self.total = what, total
        self.stream = stream or sys.stderr
        self.terminal = self.stream.isatty()
        self.done = 0
        self.start = self.told = time.monotonic()
        self.width = 0

    @property
    def seconds(self) -> float:
        """Since the start."""
        return max(time.monotonic() - self.start, 1e-9)

    @property
    def rate(self) -> float:
        """Number done per second since the start."""
        return self.done / self.seconds

    def step(self, count: int = 1) -> None:
        """Count what was done; tell it if the last line is old enough."""
        self.done += count
        now = time.monotonic()
        if now - self.told >= (TERMINAL_S if self.terminal else ELSEWHERE_S):
            self.told = now
            self._write(self.line())

    def line(self) -> str:
        """Return the counts, the rate and the time that is left."""
        of = f" of {self.total}" if self.total else ""
        line = f"{self.done}{of} {self.what}, {self.rate:.3g} {self.what}/s"
        if self.total and self.done:
            line += f", {clock(max(self.total - self.done, 0) / self.rate)} left"
        return line

    def say(self, text: str) -> None:
        """Write a line that stays."""
        self.clear()
        print(text, file=self.stream, flush=True)

    def clear(self) -> None:
        """Remove the line that renews itself."""
        if self.width:
            self._write("")
            self.stream.write("\r")
            self.width = 0

    def _write(self, text: str) -> None:
        if self.terminal:
            self.stream.write("\r" + text.ljust(self.width))
            self.width = len(text)
        else:
            self.stream.write(text + "\n")
        self.stream.flush()


def clock(seconds: float) -> str:
    """Return a duration as minutes and seconds, from an hour on with hours in front."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
