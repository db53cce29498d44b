"""Runs the missing stages of a plan, each in a process of its own, on this machine or as a job of a cluster.

Several runners may share a folder, and with it stages: the one that holds a stage's lock runs it; the others go on
with other stages and wait for it at the end.
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

from maskrcnn_repro.cluster.job import Job, Task
from maskrcnn_repro.engine.signals import STATUSES
from maskrcnn_repro.errors import InUseError
from maskrcnn_repro.tables.runs.plan import Plan, describe_stale
from maskrcnn_repro.tables.runs.processes import LocalExecutor, stop_all
from maskrcnn_repro.tables.runs.records import State, Status
from maskrcnn_repro.tables.runs.stage import Stage
from maskrcnn_repro.utils.lock import locked

POLL_SECONDS = 0.2
_STOPPED = {status: signal.Signals(number).name for number, status in STATUSES.items()}
SHOWN_LINES = 12
"""Last lines of a failed child's output that are shown."""


class Watcher(Protocol):
    """Receives the events of a runner; see :class:`maskrcnn_repro.tables.runs.progress.Console`."""

    def started(self, stage: Stage, console: Path) -> None:
        """A stage's process was started; its output goes to the file ``console``."""

    def finished(self, stage: Stage, status: Status, seconds: float) -> None:
        """A stage is done; ``seconds`` is 0.0 if another runner did it."""

    def failed(self, failure: Failure) -> None:
        """A stage failed, or cannot run because another one failed."""

    def waiting(self, stage: Stage, holder: str) -> None:
        """Another process runs the stage; called once. ``holder`` is a sentence about that process."""

    def tick(self, running: Sequence[tuple[Stage, Job]], left: Sequence[Stage]) -> None:
        """Called every :data:`POLL_SECONDS`; the stages ``left`` have not been started."""


class Executor(Protocol):
    """Starts stages somewhere."""

    lives_on: bool
    """Whether its jobs outlive this process."""
    restarts: bool
    """Whether a task that saved because of USR1 is started again."""

    def start(self, task: Task) -> Job:
        """Start a task; its inputs are there."""


@dataclass(frozen=True)
class Failure:
    """A stage that failed or could not be started."""

    stage: Stage
    reason: str
    console: Path | None = None
    """File with its output, if it was started."""
    lines: Sequence[str] = ()
    """The last ones of that file."""


@dataclass
class _Running:
    """A running stage, with the lock that keeps it from other runners."""

    stage: Stage
    child: Job
    lock: ExitStack


@dataclass
class Runner:
    """Runs the missing stages of a plan, at most ``jobs`` at the same time.

    Args:
        plan: the stages.
        watcher: receives the events.
        jobs: processes that run at the same time.
        executor: starts them; by default on this machine.
    """

    plan: Plan
    watcher: Watcher
    jobs: int = 1
    executor: Executor = field(default_factory=LocalExecutor)
    failures: list[Failure] = field(default_factory=list)
    _done: set[str] = field(default_factory=set)
    _failed: set[str] = field(default_factory=set)
    _reported: set[str] = field(default_factory=set)
    _running: list[_Running] = field(default_factory=list)

    def run(self) -> list[Failure]:
        """Run the missing stages and return those that failed.

        Raises:
            TableError: the folder of a stage holds another run; nothing has been started.
            KeyboardInterrupt: after Ctrl-C, SIGTERM, SIGHUP or SIGUSR1; jobs that do not outlive this process have
                been stopped.
        """
        left = self.plan.missing()
        # Dependencies outside the plan count as done.
        planned = {stage.key for stage in left}
        self._done = {need.key for stage in left for need in stage.needs} - planned
        with _interrupt_on_signals():
            try:
                while left or self._running:
                    left = self._start(self._fail_dependents(left))
                    time.sleep(POLL_SECONDS)
                    self._reap()
                    self.watcher.tick([(job.stage, job.child) for job in self._running], left)
            except BaseException:
                if not self.executor.lives_on:
                    stop_all([job.child for job in self._running])
                raise
            finally:
                for job in self._running:
                    job.lock.close()
        return self.failures

    def _start(self, left: list[Stage]) -> list[Stage]:
        """Start the stages that can start; return the others."""
        waiting = []
        for stage in left:
            ready = all(need.key in self._done for need in stage.needs)
            if len(self._running) >= self.jobs or not ready or not self._begin(stage):
                waiting.append(stage)
        return [stage for stage in waiting if stage.key not in self._done | self._failed]

    def _begin(self, stage: Stage) -> bool:
        """Start ``stage``, or note that it is done or stale; return False if another process runs it."""
        with ExitStack() as lock:
            try:
                lock.enter_context(locked(stage.lock_folder))
                # Processes lock their folder, too, and may outlive a runner that was killed.
                with locked(stage.folder):
                    pass
            except InUseError as error:
                if stage.key not in self._reported:
                    self._reported.add(stage.key)
                    self.watcher.waiting(stage, str(error))
                return False
            status = stage.status()
            if status.state is State.DONE:
                self._finish(stage, status, 0.0)
            elif status.state is State.STALE and not stage.overwrites:
                self._fail(Failure(stage, describe_stale(stage, status)))
            else:
                self._launch(stage, status.state is State.INTERRUPTED, lock)
        return True

    def _launch(self, stage: Stage, resume: bool, lock: ExitStack) -> None:
        """Start the process of a stage, which takes over ``lock``."""
        stage.write_note()
        resumed = stage.command_line(resume=True)
        command = resumed if resume else stage.command_line()
        child = self.executor.start(Task(stage.key, command, resumed, stage.folder))
        self._running.append(_Running(stage, child, lock.pop_all()))
        self.watcher.started(stage, child.console)

    def _reap(self) -> None:
        for job in list(self._running):
            code = job.child.poll()
            if code is None:
                continue
            self._running.remove(job)
            if self.executor.restarts and code == STATUSES.get(getattr(signal, "SIGUSR1", 0)):
                self._launch(job.stage, True, job.lock)
                continue
            # Asked while the lock is held: once it is free another runner may begin the stage.
            status = job.stage.status()
            job.lock.close()
            if code == 0 and status.state is State.DONE:
                self._finish(job.stage, status, job.child.seconds)
                continue
            reason = (
                _describe_exit(code)
                if code
                else f"ended, but is {status.state.value}: {status.note}"
            )
            self._fail(Failure(job.stage, reason, job.child.console, job.child.tail(SHOWN_LINES)))

    def _finish(self, stage: Stage, status: Status, seconds: float) -> None:
        if seconds:
            stage.write_note(seconds=round(seconds, 1))
        self._done.add(stage.key)
        self.watcher.finished(stage, status, seconds)

    def _fail(self, failure: Failure) -> None:
        self._failed.add(failure.stage.key)
        self.failures.append(failure)
        self.watcher.failed(failure)

    def _fail_dependents(self, left: list[Stage]) -> list[Stage]:
        """Fail the stages that need a failed one; return the others."""
        for stage in left:
            failed = [need.title for need in stage.needs if need.key in self._failed]
            if failed:
                self._fail(Failure(stage, f"needs {failed[0]}, which failed"))
        return [stage for stage in left if stage.key not in self._failed]


def _describe_exit(code: int) -> str:
    if name := _STOPPED.get(code):
        return f"saved and stopped by {name}; the next call goes on with it"
    if code > 0:
        return f"exit status {code}"
    with contextlib.suppress(ValueError):
        return f"ended by {signal.Signals(-code).name}"
    return f"ended by signal {-code}"


@contextlib.contextmanager
def _interrupt_on_signals() -> Iterator[None]:
    """Raise KeyboardInterrupt on SIGTERM, SIGHUP (a closed terminal) and SIGUSR1 too: the children save."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    numbers = [number for number in STATUSES if number != signal.SIGINT]
    before = {
        number: signal.signal(number, interrupt)
        for number in numbers
        # nohup ignores SIGHUP on purpose; a handler would undo that.
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
