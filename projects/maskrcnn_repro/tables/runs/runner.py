"""Runs the stages of a plan: each in a process of its own, what is done never twice.

A stage may be shared by rows, tables and other runners on the same folder: whoever holds its claim runs it,
the others go on with what else there is and wait for it at the end.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Protocol

from maskrcnn_repro.errors import InUseError
from maskrcnn_repro.tables.runs.plan import Plan, describe_stale
from maskrcnn_repro.tables.runs.processes import Child, stop_all
from maskrcnn_repro.tables.runs.records import State, Status
from maskrcnn_repro.tables.runs.stage import Stage
from maskrcnn_repro.utils.lock import locked

POLL_SECONDS = 0.2
SHOWN_LINES = 12
"""Of a failed child's console."""


class Watcher(Protocol):
    """Is told what happens; see :class:`maskrcnn_repro.tables.runs.progress.Console`."""

    def started(self, stage: Stage, console: Path) -> None:
        """A child was started."""

    def finished(self, stage: Stage, status: Status, seconds: float) -> None:
        """A stage is done; ``seconds`` is 0.0 if another runner did it."""

    def failed(self, failure: Failure) -> None:
        """A stage failed, or cannot run because another one failed."""

    def waiting(self, stage: Stage, holder: str) -> None:
        """Another process has the stage; told once."""

    def tick(self, running: Sequence[tuple[Stage, Child]], left: Sequence[Stage]) -> None:
        """Time goes by; ``left`` has not been started."""


@dataclass(frozen=True)
class Failure:
    """A stage that did not get done."""

    stage: Stage
    reason: str
    console: Path | None = None
    lines: Sequence[str] = ()


@dataclass
class _Work:
    stage: Stage
    child: Child
    claim: ExitStack


@dataclass
class Runner:
    """Runs stages, at most ``jobs`` at once.

    Args:
        plan: what is wanted.
        watcher: is told what happens.
        jobs: children side by side.
        environments: variables for the child in each of the ``jobs`` places.
    """

    plan: Plan
    watcher: Watcher
    jobs: int = 1
    environments: Sequence[dict[str, str]] = ()
    failures: list[Failure] = field(default_factory=list)
    _done: set[str] = field(default_factory=set)
    _failed: set[str] = field(default_factory=set)
    _told: set[str] = field(default_factory=set)
    _places: dict[int, _Work] = field(default_factory=dict)

    def run(self) -> list[Failure]:
        """Run what is missing and return what failed.

        Raises:
            TableError: a folder holds something else than what is planned; nothing has been started.
            KeyboardInterrupt: after Ctrl-C or a request to end; all children have been stopped.
        """
        left = self.plan.missing()
        # What is not in the plan was seen to by who made it.
        inside = {stage.key for stage in left}
        self._done = {need.key for stage in left for need in stage.needs} - inside
        with _ends_as_interrupts():
            try:
                while left or self._places:
                    left = self._start(self._drop_hopeless(left))
                    time.sleep(POLL_SECONDS)
                    self._reap()
                    self.watcher.tick([(w.stage, w.child) for w in self._places.values()], left)
            except BaseException:
                stop_all([work.child for work in self._places.values()])
                raise
            finally:
                for work in self._places.values():
                    work.claim.close()
        return self.failures

    def _start(self, left: list[Stage]) -> list[Stage]:
        """Start what can start; return what could not."""
        rest = []
        for stage in left:
            ready = all(need.key in self._done for need in stage.needs)
            if len(self._places) >= self.jobs or not ready or not self._begin(stage):
                rest.append(stage)
        return [stage for stage in rest if stage.key not in self._done | self._failed]

    def _begin(self, stage: Stage) -> bool:
        """Start ``stage`` or see that it is done; False if another process has it."""
        claim = ExitStack()
        try:
            claim.enter_context(locked(stage.claim))
            # A child may outlive a runner that was killed.
            with locked(stage.folder):
                pass
        except InUseError as error:
            claim.close()
            if stage.key not in self._told:
                self._told.add(stage.key)
                self.watcher.waiting(stage, str(error))
            return False
        status = stage.status()
        if status.state is State.DONE:
            claim.close()
            self._finish(stage, status, 0.0)
            return True
        if status.state is State.STALE and not stage.replaces:
            claim.close()
            self._fail(Failure(stage, describe_stale(stage, status)))
            return True
        stage.write_note()
        place = next(i for i in range(self.jobs) if i not in self._places)
        environment = self.environments[place] if self.environments else {}
        resume = status.state is State.INTERRUPTED
        child = Child(stage.command_line(resume=resume), stage.folder, environment)
        self._places[place] = _Work(stage, child, claim)
        self.watcher.started(stage, child.console)
        return True

    def _reap(self) -> None:
        for place, work in list(self._places.items()):
            code = work.child.poll()
            if code is None:
                continue
            del self._places[place]
            status = work.stage.status()
            work.claim.close()
            if code == 0 and status.state is State.DONE:
                self._finish(work.stage, status, work.child.seconds)
                continue
            reason = _why(code) if code else f"ended, but is {status.state.value}: {status.note}"
            self._fail(
                Failure(work.stage, reason, work.child.console, work.child.tail(SHOWN_LINES))
            )

    def _finish(self, stage: Stage, status: Status, seconds: float) -> None:
        if seconds:
            stage.write_note(seconds=round(seconds, 1))
        self._done.add(stage.key)
        self.watcher.finished(stage, status, seconds)

    def _fail(self, failure: Failure) -> None:
        self._failed.add(failure.stage.key)
        self.failures.append(failure)
        self.watcher.failed(failure)

    def _drop_hopeless(self, left: list[Stage]) -> list[Stage]:
        """Fail the stages whose inputs will never be; return the others."""
        for stage in left:
            lost = [need.title for need in stage.needs if need.key in self._failed]
            if lost:
                self._fail(Failure(stage, f"needs {lost[0]}, which failed"))
        return [stage for stage in left if stage.key not in self._failed]


def _why(code: int) -> str:
    if code > 0:
        return f"exit status {code}"
    with contextlib.suppress(ValueError):
        return f"ended by {signal.Signals(-code).name}"
    return f"ended by signal {-code}"


@contextlib.contextmanager
def _ends_as_interrupts() -> Iterator[None]:
    """Let a request to end (SIGTERM, a closed terminal) stop the children as Ctrl-C does."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {
        number: signal.signal(number, interrupt)
        for number in numbers
        # nohup ignores one of them on purpose.
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
