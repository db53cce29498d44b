"""The watch over a training whose processes do not get on: it tells where they stand, and ends them.

A process that hangs never reaches the end of a step, where :mod:`maskrcnn_repro.engine.step_end` decides; so
this is done by a thread of each process, with the exit status :data:`STALLED`.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskrcnn_repro.engine.phases import Phase, Phases

from detectron2.engine import TrainerBase
from detectron2.utils import comm

STALLED = 4
"""Exit status of processes that did not get on."""
FOLDER = "processes"
"""Below OUTPUT_DIR: the phase of each process and, if it stalled, its stacks."""
SLOW_STEPS = 5
"""The first iterations, in which caches are filled and kernels chosen, may take :data:`SLOWER` times as long."""
SLOWER = 10
STACKS_WAIT = 3.0
"""Seconds in which a process that runs writes its stacks."""


@dataclass(frozen=True)
class Peer:
    """A process of the training on this machine."""

    rank: int
    pid: int
    folder: str

    @property
    def phase_file(self) -> Path:
        """What it was doing last: a line of JSON."""
        return Path(self.folder, f"rank{self.rank}.json")

    @property
    def stacks_file(self) -> Path:
        """Its stacks, once they were asked for."""
        return Path(self.folder, f"rank{self.rank}.stacks.txt")

    def read(self) -> dict[str, Any]:
        """Return what it was doing last; the start, if that cannot be read."""
        try:
            return dict(json.loads(self.phase_file.read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return {"phase": Phase.START.value, "iteration": 0, "images": [], "steps": 0}

    def is_stopped(self) -> bool:
        """Tell whether it is stopped (SIGSTOP, or a debugger); False where the system does not say."""
        try:
            state = Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8").rpartition(") ")[2]
        except OSError:
            return False
        return state[:1] in ("T", "t")

    def describe(self) -> str:
        """Return a line that says what it was doing last."""
        last = self.read()
        stopped = ", stopped" if self.is_stopped() else ""
        which = "after images" if last["phase"] == Phase.DATA else "images"
        return (
            f"Process {self.rank} (pid {self.pid}{stopped}): {last['phase']}, iteration {last['iteration']}, "
            f"{which} {', '.join(last['images']) or 'none'}"
        )


class Idleness:
    """Seconds for which nothing changed, as seen by a thread that looks every so many seconds.

    Time in which the thread itself did not run, the computer asleep or all processes stopped, is not counted.

    Args:
        period: seconds between two looks.
    """

    def __init__(self, period: float) -> None:
        self.period = period
        self.seconds = 0.0
        self._seen: object = None
        self._looked: float | None = None

    def look(self, state: object, now: float) -> float:
        """Return the seconds for which the state was this one.

        Args:
            state: of what is watched.
            now: a clock's seconds.
        """
        passed = 0.0 if self._looked is None else min(now - self._looked, 2 * self.period)
        self.seconds = self.seconds + passed if state == self._seen else 0.0
        self._seen, self._looked = state, now
        return self.seconds


def allowed_seconds(states: Sequence[dict[str, Any]], limit: float, *, stopped: bool) -> float:
    """Return for how long processes may stay in the phases that they are in.

    Args:
        states: of the processes of a machine, as :meth:`Peer.read` returns them.
        limit: seconds, of ``SOLVER.STALL_SECONDS``.
        stopped: whether one of them is stopped.

    Returns:
        Seconds; infinite in a save, an evaluation or at the start, unless a process is stopped.
    """
    if stopped:
        return limit
    if not all(Phase(state["phase"]).is_even for state in states):
        return float("inf")
    first = any(state["steps"] < SLOW_STEPS for state in states)
    return limit * SLOWER if first else limit


@contextmanager
def watching(trainer: TrainerBase, phases: Phases, folder: Path, limit: float) -> Iterator[None]:
    """Watch a training within the block; called in every process.

    Args:
        trainer: counts the iterations.
        phases: follows the training of this process.
        folder: OUTPUT_DIR.
        limit: seconds without a new phase in any process of this machine, after which all of them end with the
            status :data:`STALLED`; 0: no watch.
    """
    # A person in a debugger takes all the time that there is.
    if not limit or sys.gettrace():
        yield
        return
    own = Peer(comm.get_rank(), os.getpid(), str(folder / FOLDER))
    peers = _of_this_machine(own)
    Path(own.folder).mkdir(parents=True, exist_ok=True)
    phases.changed = lambda: _note(own, trainer, phases)
    phases.changed()
    over = threading.Event()
    watch = threading.Thread(target=_watch, args=(own, peers, limit, over), daemon=True)
    with own.stacks_file.open("w", encoding="utf-8") as stacks:
        _stacks_on_request(stacks.fileno())
        watch.start()
        try:
            yield
        finally:
            phases.changed = lambda: None
            over.set()
            watch.join()
            _stacks_on_request(None)
    for file in (own.phase_file, own.stacks_file):
        file.unlink(missing_ok=True)
    with suppress(OSError):  # a peer's files may still be there
        Path(own.folder).rmdir()


def _of_this_machine(own: Peer) -> list[Peer]:
    host = socket.gethostname()
    return [peer for name, peer in comm.all_gather((host, own)) if name == host]


def _note(own: Peer, trainer: TrainerBase, phases: Phases) -> None:
    state = {
        "phase": phases.phase.value,
        "iteration": getattr(trainer, "iter", 0),
        "images": phases.images,
        "steps": phases.steps,
    }
    # A disk that is full for a moment is no reason to end a training.
    with suppress(OSError):
        own.phase_file.write_text(json.dumps(state), encoding="utf-8")


def _stacks_on_request(file: int | None) -> None:
    """Write all stacks of this process to a file whenever it gets USR2, even while it runs foreign code."""
    if not hasattr(faulthandler, "register"):
        return
    faulthandler.unregister(signal.SIGUSR2)
    if file is not None:
        faulthandler.register(signal.SIGUSR2, file=file, all_threads=True)


def _watch(own: Peer, peers: Sequence[Peer], limit: float, over: threading.Event) -> None:
    period = min(limit / 10, 5.0)
    idleness = Idleness(period)
    while not over.wait(period):
        states = [peer.read() for peer in peers]
        stopped = any(peer.is_stopped() for peer in peers)
        idle = idleness.look(states, time.monotonic())
        if idle > allowed_seconds(states, limit, stopped=stopped) and not over.is_set():
            _end(own, peers, idle)


def _end(own: Peer, peers: Sequence[Peer], idle: float) -> None:
    """Tell where all processes of this machine stand, by the first that can, and leave."""
    running = [peer for peer in peers if not peer.is_stopped()]
    if own == min(running, key=lambda peer: peer.rank):
        text = _report(running, peers, idle)
        with suppress(OSError):
            Path(own.folder, "stalled.txt").write_text(text, encoding="utf-8")
        # Logging holds a lock that the thread that hangs may have.
        os.write(2, text.encode())
    else:
        time.sleep(2 * STACKS_WAIT)
    os._exit(STALLED)


def _report(running: Sequence[Peer], peers: Sequence[Peer], idle: float) -> str:
    for peer in running:
        with suppress(OSError, AttributeError):
            os.kill(peer.pid, signal.SIGUSR2)
    deadline = time.monotonic() + STACKS_WAIT
    while time.monotonic() < deadline and not all(map(_stacks, running)):
        time.sleep(0.1)
    lines = [
        f"No process got on for {idle:.0f} s (SOLVER.STALL_SECONDS): ending all of them without a checkpoint",
        f"(status {STALLED}; --resume goes on from the last one)",
        *(peer.describe() for peer in peers),
    ]
    for peer in running:
        lines += [f"Stacks of process {peer.rank}:", _stacks(peer) or "it did not write them"]
    return "\n".join(lines) + "\n"


def _stacks(peer: Peer) -> str:
    try:
        return peer.stacks_file.read_text(encoding="utf-8")
    except OSError:
        return ""
