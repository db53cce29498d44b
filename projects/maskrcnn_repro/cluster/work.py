"""What a job of a cluster does: it runs a command as a process of its own, and has it saved before it goes.

A scheduler that wants its machine back signals this process, or takes the machine. In the first case the training gets
USR1, saves and leaves with status 75, and the job is put back into the queue; in the second it goes on from its last
checkpoint. Either way the job's next start resumes.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from maskrcnn_repro._location import SEARCH_PATH
from maskrcnn_repro.cluster.job import CONSOLE, Task
from maskrcnn_repro.errors import InUseError
from maskrcnn_repro.utils.lock import locked, traces

POLL_SECONDS = 0.2
LOCK_SECONDS = 120.0
"""How long a job that is started again waits for what is left of its earlier start."""


@dataclass
class Work:
    """A task as a cluster runs it; calling it returns the exit status of the command.

    Args:
        task: the command.
        marker: file that the first start leaves, so that the next ones resume.
        patience: seconds between a scheduler's warning and the end of its patience.
    """

    task: Task
    marker: Path
    patience: float = 100.0
    cwd: str = field(default_factory=os.getcwd)
    _process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> int:
        """Run the command to its end."""
        os.chdir(self.cwd)
        started_before = self.marker.exists()
        self.marker.touch()
        if started_before:
            self._wait_for_lock()
        resumes = started_before and bool(traces(self.task.folder))
        self._process = self._start(self.task.resumed if resumes else self.task.command)
        try:
            # Not wait(): a signal's handler could not ask for the status meanwhile.
            while (status := self._process.poll()) is None:
                time.sleep(POLL_SECONDS)
            return status
        except KeyboardInterrupt:  # Ray's way to cancel
            return self._stop(signal.SIGTERM)

    def checkpoint(self) -> Any:
        """Have the training saved and return the submission of the rest; submitit calls it before it requeues."""
        from submitit.helpers import DelayedSubmission

        self._stop(signal.SIGUSR1)
        return DelayedSubmission(Work(self.task, self.marker, self.patience, self.cwd))

    def _start(self, command: Any) -> subprocess.Popen[bytes]:
        self.task.folder.mkdir(parents=True, exist_ok=True)
        with (self.task.folder / CONSOLE).open("ab") as console:
            return subprocess.Popen(
                [*_obey_parent(), *command],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self.task.environment},
            )

    def _stop(self, number: int) -> int:
        """Signal the command and return its status, which is -9 if it did not leave in time."""
        if self._process is None:
            return 0
        deadline = time.monotonic() + self.patience
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)
        while (status := self._process.poll()) is None and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        if status is None:
            self._process.kill()
        return -signal.SIGKILL if status is None else status

    def _wait_for_lock(self) -> None:
        deadline = time.monotonic() + LOCK_SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(InUseError), locked(self.task.folder):
                return
            time.sleep(POLL_SECONDS)


def search_path() -> str:
    """Return the ``PYTHONPATH`` under which another process imports this copy of the package."""
    return os.pathsep.join(filter(None, [str(SEARCH_PATH), os.environ.get("PYTHONPATH")]))


def _obey_parent() -> list[str]:
    """Return a prefix that has a command save when this process is gone, and leave warnings to this process."""
    # SLURM signals all processes of a job; training would die of submitit's USR2.
    prefix = ["sh", "-c", 'trap "" USR2; exec "$@"', "sh"]
    return [*prefix, "setpriv", "--pdeathsig", "TERM", "--"] if shutil.which("setpriv") else prefix
