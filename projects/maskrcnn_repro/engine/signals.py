"""Signals that end a training: TERM, INT, USR1 and HUP save first; a second INT leaves at once.

The exit statuses are those that a shell gives for the signal, and 75 ("temporary failure") for USR1, with which
cluster schedulers announce that a job is to be started again.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

from maskrcnn_repro.engine.step_end import Action, Request, StepEnd
from maskrcnn_repro.errors import Ended
from maskrcnn_repro.utils.held_signals import ENDING

from detectron2.engine import HookBase
from detectron2.utils import comm

logger = logging.getLogger(__name__)
# The order is that of ENDING, which lacks the last two on Windows.
STATUSES = dict(zip(ENDING, (143, 130, 75, 129), strict=False))
"""Signal to the status of a process that it ended."""
Handler = Callable[[int], None]
_told: list[Callable[[], bool]] = []


class SignalRequests(HookBase):
    """Asks, while a training is in its loop, for a checkpoint and the end; register it first.

    A process whose launcher was killed asks too: the interrupt that PyTorch sends it then is lost where
    interrupts are ignored, as in a job that a script started in the background.
    """

    def __init__(self, step_end: StepEnd) -> None:
        self.step_end = step_end
        self._received: list[int] = []
        launched = multiprocessing.parent_process() or "TORCHELASTIC_RUN_ID" in os.environ
        self._launcher = os.getppid() if launched else None

    def before_train(self) -> None:
        """Take over the signals."""
        self._context = handling(self._ask)
        self._context.__enter__()

    def before_step(self) -> None:
        """Ask for the end if the launcher is gone."""
        if self._launcher is not None and os.getppid() != self._launcher:
            self._launcher = None
            _say("The launching process is gone: saving after this iteration")
            status = STATUSES[signal.SIGTERM]
            self.step_end.ask(Request(Action.STOP, status, "the launching process is gone"))

    def after_train(self) -> None:
        """Give the signals back; leave if one came after the last decision: all is saved."""
        self._context.__exit__(None, None, None)
        if self._received and self.trainer.done >= self.trainer.max_iter:
            leave(self._received[0])

    def _ask(self, number: int) -> None:
        # Several processes get an interrupt from the terminal and from their parent; it counts them.
        again = number == signal.SIGINT and number in self._received
        if again and comm.get_world_size() == 1:
            _say(f"Interrupted twice: leaving at once (status {STATUSES[number]})")
            _exit(STATUSES[number])
        name = signal.Signals(number).name
        if number not in self._received:
            _say(f"{name}: saving after this iteration")
        self._received.append(number)
        self.step_end.ask(Request(Action.STOP, STATUSES[number], name))
        # An evaluation may take longer than a scheduler waits. Alone, the step's state is whole all the while.
        if self.trainer.evaluates and comm.get_world_size() == 1:
            self.step_end.decide()


@contextmanager
def handling(handler: Handler) -> Iterator[None]:
    """Call ``handler`` with the number of each signal of :data:`STATUSES` within the block.

    It does nothing outside of the main thread and in forked processes, and leaves alone what is ignored on purpose
    (``nohup``).
    """
    owner = os.getpid()

    def handle(number: int, frame: FrameType | None) -> None:
        if os.getpid() == owner:
            handler(number)

    before = {}
    with suppress(ValueError):  # not in the main thread
        for number in STATUSES:
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, handle)
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)


def leave(number: int) -> None:
    """End this process because of a signal, with its status; nothing of a training is lost.

    Raises:
        Ended: where there are no other processes, which would wait for this one.
    """
    status = STATUSES[number]
    _say(f"Ended by {signal.Signals(number).name}, with nothing left to save (status {status})")
    if comm.get_world_size() > 1:
        _exit(status)
    raise Ended(status)


def _exit(status: int) -> NoReturn:
    """Leave at once, with the data-loader workers, which would notice it after seconds."""
    if hasattr(signal, "SIGCHLD"):  # PyTorch's handler raises an error for a worker that was killed
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for child in multiprocessing.active_children():
        child.kill()
    os._exit(status)


@contextmanager
def passing_on(have_begun: Callable[[], bool] = lambda: True) -> Iterator[list[int]]:
    """Pass signals on to the child processes within the block; a second INT kills them and leaves at once.

    Args:
        have_begun: tells whether the children can have anything to save.

    Yields:
        The signals that came.

    Raises:
        Ended: a signal came before they have begun; the children are still there.
    """
    received: list[int] = []

    def pass_on(number: int) -> None:
        if not have_begun():
            leave(number)
        again = number == signal.SIGINT and number in received
        received.append(number)
        for child in multiprocessing.active_children():
            with suppress(ProcessLookupError):
                child.kill() if again else os.kill(child.pid or 0, number)
        if again:
            _say(f"Interrupted twice: leaving at once (status {STATUSES[number]})")
            os._exit(STATUSES[number])

    with handling(pass_on):
        yield received


def quiet_where(told: Callable[[], bool]) -> None:
    """Let this process say nothing of signals where ``told()`` is true: another one has said what went wrong."""
    _told.append(told)


def _say(text: str) -> None:
    """Write a line to stderr; logging holds a lock that the interrupted code may have."""
    if any(told() for told in _told):
        return
    with suppress(OSError):
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, f"{text}\n".encode())
