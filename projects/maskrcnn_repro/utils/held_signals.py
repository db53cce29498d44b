"""Signals that end a run, held back while a process starts: before it has imported what heeds them, they would kill it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker

ENDING = tuple(
    getattr(signal, name)
    for name in ("SIGTERM", "SIGINT", "SIGUSR1", "SIGHUP")
    if hasattr(signal, name)
)
"""Signals that end a training."""


@contextmanager
def held_back() -> Iterator[None]:
    """Hold signals back, here and in processes that are started within the block, until these let them in.

    Before a process has imported what handles them, an interrupt would print a traceback.
    """
    # It would let INT and TERM in if it were started within the block.
    resource_tracker.ensure_running()
    _mask("SIG_BLOCK")
    try:
        yield
    finally:
        let_in()


def let_in() -> None:
    """Let signals in, those that were held back first."""
    _mask("SIG_UNBLOCK")


def forget_held_back() -> None:
    """Drop the signals that were held back, and let later ones in."""
    # Ignoring a signal discards one that is pending.
    former = {number: signal.signal(number, signal.SIG_IGN) for number in ENDING}
    let_in()
    for number, handler in former.items():
        signal.signal(number, handler)


def _mask(how: str) -> None:
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(getattr(signal, how), ENDING)
