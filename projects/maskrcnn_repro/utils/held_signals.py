"""Signals that end a run, held back while a process starts: before it has imported what heeds them, they would kill it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from types import FrameType

from maskrcnn_repro.errors import Ended

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


@contextmanager
def raise_signals() -> Iterator[None]:
    """Let TERM and HUP, where nothing handles them, raise within the block, so that it cleans up as after Ctrl-C.

    It does nothing outside of the main thread.

    Raises:
        Ended: with the status that a shell gives for the signal.
    """
    owner = os.getpid()

    def end(number: int, frame: FrameType | None) -> None:
        if os.getpid() == owner:
            raise Ended(128 + number)
        signal.signal(number, signal.SIG_DFL)  # a forked process
        os.kill(os.getpid(), number)

    taken = []
    with suppress(ValueError):  # not in the main thread
        for name in ("SIGTERM", "SIGHUP"):
            number = getattr(signal, name, signal.SIGTERM)
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, end)
                taken.append(number)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def _mask(how: str) -> None:
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(getattr(signal, how), ENDING)
