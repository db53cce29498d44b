"""Child processes, one per stage: their environment, their output in a file, their progress, and stopping them."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from maskrcnn_repro.cluster.job import Job, Task
from maskrcnn_repro.cluster.work import search_path

import torch

GRACE_SECONDS = 120.0
"""Between SIGTERM and SIGKILL: a training finishes its iteration, or its evaluation, and saves."""

# Detectron2's line of training: "eta: 0:03:57  iter: 239  total_loss: 2.912 ..."
# Detectron2's line of evaluation: "Inference done 41/1000. 0.1598 s / iter ... ETA=0:02:33"
_PROGRESS = {
    "iter": re.compile(r"\biter: (\d+)"),
    "loss": re.compile(r"\btotal_loss: (\S+)"),
    "inference": re.compile(r"\bInference done (\d+/\d+)"),
    "eta": re.compile(r"\b(?:eta: |ETA=)((?:(\d+) days?, )?(\d+):(\d+):(\d+))"),
}
_TIMESTAMP = re.compile(r"^\[[^\]]*\] ")


class Child(Job):
    """A running command in its own process group, so that signals reach all of its processes.

    Data-loader workers stand apart and end by themselves, some seconds after their training.

    Args:
        command: program and arguments.
        folder: gets ``console.txt``; created if missing.
        environment: variables to add to this process's own.
    """

    def __init__(
        self, command: Sequence[str], folder: Path, environment: Mapping[str, str]
    ) -> None:
        super().__init__(folder)
        with self.console.open("ab") as file:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
                # Keeps Ctrl-C from the child: it reaches this process alone, which then stops all children.
                start_new_session=True,
            )

    def poll(self) -> int | None:
        """Return the exit status, None while it runs, or minus the number of the signal that ended it."""
        return self._process.poll()

    def ask_to_stop(self) -> None:
        """Send SIGTERM to it and its processes."""
        self._signal(signal.SIGTERM)

    def end(self, deadline: float) -> None:
        """Wait for its end until ``deadline`` (of ``time.monotonic()``), then kill it and its processes."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(max(0.0, deadline - time.monotonic()))
        # Also if it ended by itself: its processes may still run.
        self._signal(getattr(signal, "SIGKILL", signal.SIGTERM))
        self._process.wait()

    def _signal(self, number: int) -> None:
        # Its processes may have ended meanwhile.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if hasattr(os, "killpg"):
                os.killpg(self._process.pid, number)
            else:
                self._process.send_signal(number)


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def environments(jobs: int, threads: int | None, gpus: int) -> list[dict[str, str]]:
    """Return environment variables for each of ``jobs`` children that run at the same time.

    Args:
        jobs: number of children.
        threads: CPU threads of each; None leaves that to the environment.
        gpus: processes of each child; several children get different GPUs, as far as there are enough.
    """
    common = {"PYTHONPATH": search_path()}
    if threads:
        common["OMP_NUM_THREADS"] = str(threads)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = visible.split(",") if visible else [str(i) for i in range(torch.cuda.device_count())]
    if jobs == 1 or not torch.cuda.is_available():
        return [common] * jobs
    return [
        {
            **common,
            "CUDA_VISIBLE_DEVICES": ",".join(
                devices[(place * gpus + i) % len(devices)] for i in range(gpus)
            ),
        }
        for place in range(jobs)
    ]


class LocalExecutor:
    """Starts tasks as processes of this machine.

    Args:
        environments: of each of the tasks that run at the same time.
    """

    lives_on = False
    """Whether its jobs outlive this process."""
    restarts = False
    """Whether a task that saved because of USR1 is started again."""

    def __init__(self, environments: Sequence[Mapping[str, str]] = ()) -> None:
        self._environments = environments
        self._slots: dict[int, Job] = {}

    def start(self, task: Task) -> Job:
        """Start a task in the first environment that none of the running ones has."""
        self._slots = {n: job for n, job in self._slots.items() if job.poll() is None}
        slot = next(n for n in range(len(self._slots) + 1) if n not in self._slots)
        own = self._environments[slot] if self._environments else {}
        self._slots[slot] = Child(task.command, task.folder, {**own, **task.environment})
        return self._slots[slot]


def stop_all(children: Sequence[Job]) -> None:
    """Stop all children within one common time of :data:`GRACE_SECONDS`; a second interrupt kills them.

    Raises:
        KeyboardInterrupt: the second one.
    """
    for child in children:
        child.ask_to_stop()
    deadline = time.monotonic() + GRACE_SECONDS
    try:
        for child in children:
            child.end(deadline)
    except KeyboardInterrupt:
        for child in children:
            child.end(time.monotonic())
        raise


def parse_progress(lines: Sequence[str]) -> tuple[str, float | None]:
    """Return a child's progress from its last lines of output, and the seconds left by its own estimate.

    ``("iter 239, loss 2.912, eta 0:03:57", 237.0)`` of a training. Without a line of progress: the last line, None.
    """
    for line in reversed(lines):
        matches = {k: match for k, pattern in _PROGRESS.items() if (match := pattern.search(line))}
        if "iter" in matches or "inference" in matches:
            text = ", ".join(f"{label} {match.group(1)}" for label, match in matches.items())
            return text, _seconds(matches["eta"]) if "eta" in matches else None
    return (_TIMESTAMP.sub("", lines[-1]).strip() if lines else "starting"), None


def _seconds(eta: re.Match[str]) -> float:
    days, hours, minutes, seconds = (int(eta.group(i) or 0) for i in (2, 3, 4, 5))
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
