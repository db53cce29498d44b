"""The parent of a run's processes on this machine: it starts them, passes signals on, waits, and ends them all."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NoReturn

from maskrcnn_repro.engine.contracts import naming_exits
from maskrcnn_repro.engine.signals import STATUSES, handling, leave, passing_on, quiet_where
from maskrcnn_repro.engine.stall import STALLED
from maskrcnn_repro.errors import Ended, UserError
from maskrcnn_repro.utils.held_signals import held_back, let_in

import torch.distributed as dist
from detectron2.utils import comm
from torch.multiprocessing.spawn import ProcessRaisedException, start_processes

GRACE = 30.0
"""Seconds that processes have for their end after another one failed."""


@dataclass(frozen=True)
class Notes:
    """What processes leave for their parent, one file for each kind of news; the first of a kind counts."""

    folder: Path

    def write(self, kind: str, text: str = "") -> None:
        """Leave a note, unless there is one of that kind."""
        with suppress(FileExistsError), (self.folder / kind).open("x", encoding="utf-8") as file:
            file.write(text)

    def are_there(self, kind: str, count: int) -> bool:
        """Tell whether each of ``count`` processes has left its note of a kind."""
        return all((self.folder / f"{kind}{number}").exists() for number in range(count))

    def read(self, kind: str) -> str | None:
        """Return the text of a note; None if there is none."""
        file = self.folder / kind
        return file.read_text(encoding="utf-8") if file.exists() else None


def run_in_processes(
    join: Callable[[int], None], count: int, function: Callable[..., None], args: tuple[Any, ...]
) -> None:
    """Run ``function(*args)`` in new processes and return when all are done; none outlives the call.

    Args:
        join: takes a process's number on this machine and makes it a member of the process group.
        count: processes on this machine.
        function: importable by name, as ``join``.
        args: of ``function``.

    Raises:
        UserError: the one of the first process that met one, or a process was killed.
        Ended: the training ended before its last iteration, or a process left with a documented status.
        ProcessRaisedException: with the traceback of a process's error.
    """
    with ExitStack() as stack:
        notes = Notes(Path(stack.enter_context(tempfile.TemporaryDirectory())))
        signals = stack.enter_context(passing_on(partial(notes.are_there, "joined", count)))
        with held_back():
            context = start_processes(
                _process, args=(notes, join, function, args), nprocs=count, join=False
            )
        processes = context.processes
        failed = None
        try:
            failed = _first_failure(processes, notes)
        finally:
            # Those that stalled have said what they can; a stopped one heeds nothing but KILL.
            stalled = failed is not None and processes[failed].exitcode == STALLED
            saves = notes.are_there("joined", count) and not stalled
            end_all(processes, GRACE if saves else 0.0)
        if failed is not None:
            raise _error(failed, processes[failed], notes, signals)
        if (status := notes.read("ended")) is not None:
            raise Ended(int(status))


def end_all(processes: Sequence[BaseProcess], grace: float) -> None:
    """End the processes that still run: TERM, and KILL for those that run on after ``grace`` seconds."""
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + grace
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
    for process in processes:
        process.kill()
        process.join()


def _process(
    number: int,
    notes: Notes,
    join: Callable[[int], None],
    function: Callable[..., None],
    args: tuple[Any, ...],
) -> None:
    try:
        # The parent ends the peers of such a process, which need not say so.
        quiet_where(lambda: notes.read("sentence") is not None)
        with handling(leave):
            let_in()
            join(number)
            notes.write(f"joined{number}")
            with naming_exits():
                function(*args)
    except UserError as error:
        notes.write("sentence", str(error))
        _leave(2)
    except Ended as ended:
        if not dist.is_initialized():
            raise
        # A status of the process itself would make the parent end the others, in the middle of what they do.
        if comm.is_main_process():
            notes.write("ended", str(ended.code))
    except Exception:  # noqa: BLE001 (the parent tells it)
        notes.write("traceback", traceback.format_exc())
        _leave(1)
    dist.destroy_process_group()
    notes.write(f"done{number}")


def _leave(status: int) -> NoReturn:
    # Not SystemExit: gloo's threads would wait at the end for processes that wait for this one.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _first_failure(processes: Sequence[BaseProcess], notes: Notes) -> int | None:
    """Wait until a process fails, and return its number; None if all are done without."""
    running = dict(enumerate(processes))
    while running:
        connection.wait([process.sentinel for process in running.values()])
        ended = {n: process for n, process in running.items() if process.exitcode is not None}
        failed = [n for n in ended if ended[n].exitcode or notes.read(f"done{n}") is None]
        if failed:
            # A signal's before those of its peers, whose connections it broke.
            return min(failed, key=lambda n: int(ended[n].exitcode or 0))
        running = {n: process for n, process in running.items() if n not in ended}
    return None


def _error(
    number: int, process: BaseProcess, notes: Notes, signals: Sequence[int]
) -> BaseException:
    """Return what a failed process is to be told by."""
    status = int(process.exitcode or 0)
    if text := notes.read("sentence"):
        return UserError(text)
    if -status in STATUSES:
        return Ended(STATUSES[-status])
    if status == STALLED or status in STATUSES.values():
        return Ended(status)
    if signals:
        return Ended(STATUSES[signals[0]])
    name = f"Process {number} on this machine (pid {process.pid})"
    if status < 0:
        return UserError(
            f"{name} was ended by {signal.Signals(-status).name}; look for a lack of memory in the system's log "
            "(dmesg), or for the crash of an extension, and continue with --resume."
        )
    if status and (text := notes.read("traceback")):
        return ProcessRaisedException(f"{name}:\n{text}", number, process.pid or 0)
    return UserError(f"{name} left with status {status} before the run was done.")
