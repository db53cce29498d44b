"""One child process per stage: its console in a file, its last words, its end."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from maskrcnn_repro._location import SEARCH_PATH

import torch

CONSOLE = "console.txt"
"""What a child prints, appended over resumptions."""
TAIL_BYTES = 8192
GRACE_SECONDS = 10.0
"""Between the request to stop and the end by force."""

# Detectron2's line of training: "eta: 0:03:57  iter: 239  total_loss: 2.912 ..."
_ITER = re.compile(r"\biter: (\d+)")
_LOSS = re.compile(r"\btotal_loss: (\S+)")
_ETA = re.compile(r"\b(?:eta: |ETA=)((?:(\d+) days?, )?(\d+):(\d+):(\d+))")
# Of an evaluation: "Inference done 41/1000. 0.1598 s / iter ... ETA=0:02:33"
_TEST = re.compile(r"\bInference done (\d+/\d+)")
_WORDS = ("iter", "loss", "inference", "eta")
_STAMP = re.compile(r"^\[[^\]]*\] ")


class Child:
    """A running command, in a process group of its own, so that its workers end with it.

    Args:
        command: program and arguments.
        folder: gets ``console.txt``; made if missing.
        environment: variables beyond this process's own.
    """

    def __init__(
        self, command: Sequence[str], folder: Path, environment: Mapping[str, str]
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.console = folder / CONSOLE
        self.began = time.monotonic()
        with self.console.open("ab") as file:
            self._first_byte = file.tell()
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
                # A Ctrl-C reaches this process alone, which then stops its children in order.
                start_new_session=True,
            )

    def poll(self) -> int | None:
        """Return the exit status, or None while it runs; negative: the signal that ended it."""
        return self._process.poll()

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self.began

    def tail(self, count: int) -> list[str]:
        """Return the last ``count`` lines that it printed that are not empty."""
        try:
            with self.console.open("rb") as file:
                end = file.seek(0, os.SEEK_END)
                file.seek(max(self._first_byte, end - TAIL_BYTES))
                text = file.read().decode("utf-8", "replace")
        except OSError:
            return []
        return [line.rstrip() for line in text.splitlines() if line.strip()][-count:]

    def ask_to_stop(self) -> None:
        """Send it and its workers a request to end."""
        self._signal(signal.SIGTERM)

    def end(self, deadline: float) -> None:
        """Wait for its end until ``deadline`` (``time.monotonic()``), then end it by force."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(max(0.0, deadline - time.monotonic()))
        # Also after a willing end: its workers may live on.
        self._signal(getattr(signal, "SIGKILL", signal.SIGTERM))
        self._process.wait()

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if hasattr(os, "killpg"):
                os.killpg(self._process.pid, number)
            else:
                self._process.send_signal(number)


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def environments(jobs: int, threads: int | None, gpus: int) -> list[dict[str, str]]:
    """Return variables for the child in each of ``jobs`` places.

    Args:
        jobs: children side by side.
        threads: CPU threads of each; None: as this process has it.
        gpus: processes of each child; with several places, each is given GPUs of its own in turn.
    """
    package = str(SEARCH_PATH)
    common = {"PYTHONPATH": os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))}
    if threads:
        common["OMP_NUM_THREADS"] = str(threads)
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = given.split(",") if given else [str(i) for i in range(torch.cuda.device_count())]
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


def stop_all(children: Sequence[Child]) -> None:
    """End all ``children``, which share one time of grace."""
    for child in children:
        child.ask_to_stop()
    deadline = time.monotonic() + GRACE_SECONDS
    for child in children:
        child.end(deadline)


def last_words(lines: Sequence[str]) -> tuple[str, float | None]:
    """Return what a child is at, in short, and the seconds that it says it still needs."""
    for line in reversed(lines):
        step, loss, test, eta = (one.search(line) for one in (_ITER, _LOSS, _TEST, _ETA))
        if not (step or test):
            continue
        parts = [
            f"{word} {found.group(1)}"
            for word, found in zip(_WORDS, (step, loss, test, eta), strict=True)
            if found
        ]
        return ", ".join(parts), _seconds(eta) if eta else None
    return (_STAMP.sub("", lines[-1]).strip() if lines else "starting"), None


def _seconds(eta: re.Match[str]) -> float:
    days, hours, minutes, seconds = (int(eta.group(i) or 0) for i in (2, 3, 4, 5))
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
