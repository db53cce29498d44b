"""The watch over a training whose processes do not get on: it tells where they stand, and ends them.

A process that hangs never reaches the end of a step, where :mod:`maskrcnn_repro.engine.step_end` decides; so
this is done by a thread of each process, with the exit status :data:`STALLED`.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from maskrcnn_repro.engine.phase_record import PhaseRecord, State
from maskrcnn_repro.engine.phases import Phase, Phases

from detectron2.utils import comm
from torch import nn

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
        """What it is doing, where it has peers: a line of JSON."""
        return Path(self.folder, f"rank{self.rank}.json")

    @property
    def stacks_file(self) -> Path:
        """Its stacks, once they were asked for."""
        return Path(self.folder, f"rank{self.rank}.stacks.txt")

    def is_stopped(self) -> bool:
        """Tell whether it is stopped (SIGSTOP, or a debugger); False where the system does not say."""
        try:
            state = Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8").rpartition(") ")[2]
        except OSError:
            return False
        return state[:1] in ("T", "t")

    def describe(self, last: State) -> str:
        """Return a line that says what it was doing last."""
        stopped = ", stopped" if self.is_stopped() else ""
        which = "after images" if last.phase == Phase.DATA else "images"
        return (
            f"Process {self.rank} (pid {self.pid}{stopped}): {last.phase.value}, iteration {last.iteration}, "
            f"{which} {', '.join(last.images) or 'none'}"
        )


Records = Mapping[Peer, PhaseRecord]


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


def allowed_seconds(states: Sequence[State], limit: float, *, stopped: bool) -> float:
    """Return for how long processes may stay in the phases that they are in.

    Args:
        states: of the processes of a machine.
        limit: seconds, of ``SOLVER.STALL_SECONDS``.
        stopped: whether one of them is stopped.

    Returns:
        Seconds; infinite in a save, an evaluation or at the start, unless a process is stopped.
    """
    if stopped:
        return limit
    if not all(state.phase.is_even for state in states):
        return float("inf")
    first = any(state.steps < SLOW_STEPS for state in states)
    return limit * SLOWER if first else limit


@contextmanager
def watch_stalls(phases: Phases, folder: Path, limit: float) -> Iterator[None]:
    """Watch a training or an evaluation within the block; called in every process.

    Args:
        phases: follows this process.
        folder: of the run's files.
        limit: seconds without a new phase in any process of this machine, after which all of them end with the
            status :data:`STALLED`; 0: no watch.
    """
    # A person in a debugger takes all the time that there is.
    if not limit or sys.gettrace():
        yield
        return
    own = Peer(comm.get_rank(), os.getpid(), str(folder / FOLDER))
    records = _records(own)
    phases.changed = lambda: records[own].write(
        State(phases.phase, phases.iteration, phases.steps, phases.images)
    )
    phases.changed()
    over = threading.Event()
    watch = threading.Thread(target=_watch, args=(own, records, limit, over), daemon=True)
    with own.stacks_file.open("w", encoding="utf-8") as stacks:
        _stacks_on_request(stacks.fileno())
        watch.start()
        try:
            yield
            # Else nobody would watch over a process that is not done yet.
            comm.synchronize()
        finally:
            phases.changed = lambda: None
            over.set()
            watch.join()
            _stacks_on_request(None)
    for file in (own.phase_file, own.stacks_file):
        with suppress(OSError):  # Windows keeps a file that a peer has mapped
            file.unlink(missing_ok=True)
    with suppress(OSError):  # a peer's files may still be there
        Path(own.folder).rmdir()


@contextmanager
def watching_evaluation(model: nn.Module, folder: Path, limit: float) -> Iterator[None]:
    """Watch an evaluation alone within the block, see :func:`watch_stalls`; a process alone has no one to wait for.

    Args:
        model: that is evaluated.
        folder: of the run's files.
        limit: seconds without progress while one of the processes is stopped.
    """
    if comm.get_world_size() == 1:
        yield
        return
    phases = Phases(model)
    phases.enter(Phase.EVALUATION)
    with watch_stalls(phases, folder, limit):
        yield


def _records(own: Peer) -> Records:
    """Return the records of the processes of this machine; a process alone needs no file for its own."""
    Path(own.folder).mkdir(parents=True, exist_ok=True)
    host = socket.gethostname()
    peers = [peer for name, peer in comm.all_gather((host, own)) if name == host]
    if len(peers) == 1:
        return {own: PhaseRecord()}
    record = PhaseRecord(own.phase_file)
    comm.synchronize()
    return {p: record if p == own else PhaseRecord.of_peer(p.phase_file) for p in peers}


def _stacks_on_request(file: int | None) -> None:
    """Write all stacks of this process to a file whenever it gets USR2, even while it runs foreign code."""
    if not hasattr(faulthandler, "register"):
        return
    faulthandler.unregister(signal.SIGUSR2)
    if file is not None:
        faulthandler.register(signal.SIGUSR2, file=file, all_threads=True)


def _watch(own: Peer, records: Records, limit: float, over: threading.Event) -> None:
    period = min(limit / 10, 5.0)
    idleness = Idleness(period)
    while not over.wait(period):
        states = [record.read() for record in records.values()]
        stopped = any(peer.is_stopped() for peer in records)
        idle = idleness.look(states, time.monotonic())
        if idle > allowed_seconds(states, limit, stopped=stopped) and not over.is_set():
            _end(own, records, idle)


def _end(own: Peer, records: Records, idle: float) -> None:
    """Tell where all processes of this machine stand, by the first that can, and leave."""
    running = [peer for peer in records if not peer.is_stopped()]
    if own == min(running, key=lambda peer: peer.rank):
        text = _report(running, records, idle)
        with suppress(OSError):
            Path(own.folder, "stalled.txt").write_text(text, encoding="utf-8")
        # Logging holds a lock that the thread that hangs may have.
        os.write(2, text.encode())
    else:
        time.sleep(2 * STACKS_WAIT)
    os._exit(STALLED)


def _report(running: Sequence[Peer], records: Records, idle: float) -> str:
    for peer in running:
        with suppress(OSError, AttributeError):
            os.kill(peer.pid, signal.SIGUSR2)
    deadline = time.monotonic() + STACKS_WAIT
    while time.monotonic() < deadline and not all(map(_stacks, running)):
        time.sleep(0.1)
    lines = [
        f"No process got on for {idle:.0f} s (SOLVER.STALL_SECONDS): ending all of them",
        f"(status {STALLED}; a training goes on from its last checkpoint with --resume)",
        *(peer.describe(record.read()) for peer, record in records.items()),
    ]
    for peer in running:
        lines += [f"Stacks of process {peer.rank}:", _stacks(peer) or "it did not write them"]
    return "\n".join(lines) + "\n"


def _stacks(peer: Peer) -> str:
    try:
        return peer.stacks_file.read_text(encoding="utf-8")
    except OSError:
        return ""
