"""Processes of a run: one, several on GPUs, several on the CPU, or those that torchrun started.

The main process is the one of global rank 0; local ranks count within a machine.
"""

from __future__ import annotations

import os
import re
import socket
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from maskrcnn_repro.engine.signals import STATUSES, passing_on
from maskrcnn_repro.errors import AgreedError, ConfigError, Ended, UserError

import torch
import torch.distributed as dist
from detectron2.engine import launch as launch_on_gpus
from detectron2.utils import comm
from torch.multiprocessing.spawn import (
    ProcessExitedException,
    ProcessRaisedException,
    start_processes,
)

T = TypeVar("T")
DIST_URL = r"tcp://\S+:\d{1,5}|file:///.+|env://"
"""Addresses at which PyTorch lets processes meet."""
TORCHRUN_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
ENDED = "ended.txt"
"""Name of the note that holds the status of a training that ended early."""


@dataclass(frozen=True)
class Processes:
    """How a run is spread, as given on the command line."""

    device: str
    """``cpu``, ``cuda`` or ``cuda:N``."""
    per_machine: int = 1
    machines: int = 1
    machine_rank: int = 0
    dist_url: str = "auto"

    @property
    def world_size(self) -> int:
        """Processes on all machines."""
        return self.per_machine * self.machines

    def check(self) -> None:
        """Raise ConfigError if these processes cannot be started."""
        if self.per_machine < 1 or self.machines < 1:
            raise ConfigError(
                f"--num-gpus {self.per_machine} and --num-machines {self.machines}: both must be at "
                "least 1 (on the CPU, --num-gpus is the number of processes; for the CPU itself give "
                "MODEL.DEVICE cpu)."
            )
        if not 0 <= self.machine_rank < self.machines:
            raise ConfigError(
                f"--machine-rank {self.machine_rank} must lie between 0 and {self.machines - 1} "
                f"for --num-machines {self.machines}."
            )
        if self.dist_url != "auto" and not re.fullmatch(DIST_URL, self.dist_url):
            raise ConfigError(
                f"--dist-url {self.dist_url!r} is no address; write tcp://HOST:PORT, or auto on one machine."
            )
        if self.machines > 1 and self.dist_url == "auto":
            raise ConfigError(
                f"--num-machines {self.machines} needs --dist-url tcp://HOST:PORT with the address of "
                "machine 0, the same on every machine."
            )
        if self.device.startswith("cuda"):
            if self.per_machine > (count := torch.cuda.device_count()):
                raise ConfigError(f"--num-gpus {self.per_machine}, but this machine has {count}.")
            if self.world_size > 1 and self.device != "cuda":
                raise ConfigError(
                    f"MODEL.DEVICE {self.device} is one GPU, but {self.world_size} processes were asked "
                    "for; write MODEL.DEVICE cuda, or choose GPUs with CUDA_VISIBLE_DEVICES."
                )


def under_torchrun(environ: Mapping[str, str] = os.environ) -> bool:
    """Tell whether torchrun (or another starter with its variables) started this process."""
    return all(name in environ for name in TORCHRUN_VARIABLES)


def launch(function: Callable[..., None], processes: Processes, args: tuple[Any, ...]) -> None:
    """Run ``function(*args)`` in every process and return when all are done.

    Raises:
        UserError: the one of the first process that met one; the others are ended.
        Ended: the training ended before its last iteration, in all processes.
    """
    if under_torchrun():
        _run_under_torchrun(function, processes, args)
        return
    processes.check()
    if processes.world_size == 1:
        function(*args)
        return
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        note = Path(folder) / "error.txt"
        signals = stack.enter_context(passing_on())
        try:
            if processes.device.startswith("cuda"):
                launch_on_gpus(
                    _noting_errors,
                    processes.per_machine,
                    num_machines=processes.machines,
                    machine_rank=processes.machine_rank,
                    dist_url=processes.dist_url,
                    args=(note, function, args),
                )
            else:
                _spawn_on_cpu(processes, note, function, args)
        except (ProcessExitedException, ProcessRaisedException) as error:
            # A process that failed takes its peers' connections down: theirs are no news.
            if note.is_file():
                raise UserError(note.read_text(encoding="utf-8")) from None
            status = getattr(error, "exit_code", None)
            if signals or status in STATUSES.values():  # it left at once, with nothing to save
                raise Ended(STATUSES[signals[0]] if signals else status) from None
            raise
        if (ended := note.with_name(ENDED)).is_file():
            raise Ended(int(ended.read_text(encoding="utf-8")))


def agreed(step: Callable[..., T], *args: Any) -> T:
    """Return ``step(*args)`` where it succeeds in every process; else raise in every process.

    Without it one process would stop with a user's error and the others wait for it.

    Raises:
        AgreedError: the text of the first process's UserError.
    """
    result: Any = None
    text = None
    try:
        result = step(*args)
    except UserError as error:
        text = str(error)
    texts = [other for other in comm.all_gather(text) if other is not None]
    if texts:
        raise AgreedError(texts[0])
    return result


def _noting_errors(note: Path, function: Callable[..., None], args: tuple[Any, ...]) -> None:
    try:
        function(*args)
    except UserError as error:
        beside = note.with_name(f"{os.getpid()}.txt")
        beside.write_text(str(error), encoding="utf-8")
        os.replace(beside, note)
        sys.stdout.flush()
        # Not SystemExit: gloo's threads would wait at the end for processes that wait for this one.
        os._exit(2)
    except Ended as ended:
        # A status of the process itself would make the parent end the others, in the middle of what they do.
        if comm.is_main_process():
            note.with_name(ENDED).write_text(str(ended.code), encoding="utf-8")
    dist.destroy_process_group()


def _spawn_on_cpu(
    processes: Processes, note: Path, function: Callable[..., None], args: tuple[Any, ...]
) -> None:
    """Do what Detectron2's launch does on GPUs; its own needs CUDA."""
    url = f"tcp://127.0.0.1:{free_port()}" if processes.dist_url == "auto" else processes.dist_url
    start_processes(
        _cpu_process, nprocs=processes.per_machine, args=(processes, url, note, function, args)
    )


def _cpu_process(
    local_rank: int,
    processes: Processes,
    url: str,
    note: Path,
    function: Callable[..., None],
    args: tuple[Any, ...],
) -> None:
    rank = processes.machine_rank * processes.per_machine + local_rank
    # Otherwise every process takes all cores and they get into each other's way.
    torch.set_num_threads(max(1, torch.get_num_threads() // processes.per_machine))
    dist.init_process_group("gloo", init_method=url, world_size=processes.world_size, rank=rank)
    comm.create_local_process_group(processes.per_machine)
    _noting_errors(note, function, args)


def _run_under_torchrun(
    function: Callable[..., None], processes: Processes, args: tuple[Any, ...]
) -> None:
    local_size = int(os.environ.get("LOCAL_WORLD_SIZE", os.environ["WORLD_SIZE"]))
    if processes.per_machine not in (1, local_size) or processes.machines != 1:
        raise AgreedError(
            f"torchrun started {local_size} processes here; leave --num-gpus, --num-machines and "
            "--machine-rank to it."
        )
    on_gpu = processes.device.startswith("cuda")
    if on_gpu:
        if local_size > (count := torch.cuda.device_count()):
            raise AgreedError(
                f"torchrun started {local_size} processes, but this machine has {count} GPUs."
            )
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if on_gpu else "gloo")
    comm.create_local_process_group(local_size)
    function(*args)
    dist.destroy_process_group()


def free_port() -> int:
    """Return a TCP port of this machine that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
