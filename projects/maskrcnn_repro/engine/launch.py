"""Processes of a run: one, several on GPUs, several on the CPU, or those that torchrun started.

The main process is the one of global rank 0; local ranks count within a machine.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

from maskrcnn_repro.engine.contracts import naming_exits
from maskrcnn_repro.engine.parent import run_in_processes
from maskrcnn_repro.errors import AgreedError, ConfigError, UserError

import torch
import torch.distributed as dist
from detectron2.utils import comm

T = TypeVar("T")
TORCHRUN_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
LOCAL = "127.0.0.1"
TIMEOUT = timedelta(hours=2)
"""Longest wait of one process for another; NCCL's ten minutes are less than an evaluation can take."""


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
        if self.machines > 1 and self.dist_url == "auto":
            raise ConfigError(
                f"--num-machines {self.machines} needs --dist-url tcp://HOST:PORT with the address of "
                "machine 0, the same on every machine."
            )
        check_address(self.dist_url, listens=self.world_size > 1 and self.machine_rank == 0)
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
        with naming_exits():
            function(*args)
        return
    auto = processes.dist_url == "auto"
    # It listens before any process starts, so that nobody can take its port in between.
    store = _store(0, listens=True) if auto else None
    join = partial(_join, processes, store.port if store else None)
    run_in_processes(join, processes.per_machine, function, args)


def run_agreed(step: Callable[..., T], *args: Any) -> T:
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


def of_main(step: Callable[[], T]) -> T:
    """Return in every process what ``step()`` returns in the main one, which alone calls it.

    Raises:
        AgreedError: in every process, the text of a UserError.
    """
    result: Any = run_agreed(lambda: step() if comm.is_main_process() else None)
    return cast(T, comm.all_gather(result)[0])


def _join(processes: Processes, port: int | None, number: int) -> None:
    """Make this process, of that number on its machine, a member of the process group.

    Args:
        processes: of the run.
        port: of the parent's store; None: they meet at ``dist_url``.
        number: of the process.

    Raises:
        UserError: the processes cannot meet.
    """
    rank = processes.machine_rank * processes.per_machine + number
    on_gpu = processes.device.startswith("cuda")
    if on_gpu:
        torch.cuda.set_device(number)
    else:
        # Otherwise every process takes all cores and they get into each other's way.
        torch.set_num_threads(max(1, torch.get_num_threads() // processes.per_machine))
    place: dict[str, Any] = {"init_method": processes.dist_url}
    try:
        if port:
            place = {"store": _store(port, listens=False)}
        dist.init_process_group(
            "nccl" if on_gpu else "gloo",
            rank=rank,
            world_size=processes.world_size,
            timeout=TIMEOUT,
            **place,
        )
    except dist.DistError as error:
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"Process {rank} cannot meet the others at --dist-url {processes.dist_url}: {reason}"
        ) from None
    comm.create_local_process_group(processes.per_machine)


def _store(port: int, *, listens: bool) -> Any:
    """Return the store by which the processes of this machine meet."""
    make: Any = dist.TCPStore  # type: ignore[attr-defined]
    return make(LOCAL, port, is_master=listens, wait_for_workers=False)


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
    dist.init_process_group("nccl" if on_gpu else "gloo", timeout=TIMEOUT)
    comm.create_local_process_group(local_size)
    with naming_exits():
        function(*args)
    dist.destroy_process_group()


def check_address(url: str, *, listens: bool) -> None:
    """Raise ConfigError if processes cannot meet at a ``--dist-url``.

    Args:
        url: ``auto``, ``tcp://HOST:PORT``, or another one that PyTorch reads, such as ``file:///PATH``.
        listens: whether the process that listens there is on this machine.
    """
    if url == "auto":
        return
    scheme, host, port = _split_address(url)
    if scheme not in ("tcp", "file", "env") or (scheme == "tcp" and not (host and port)):
        raise ConfigError(
            f"--dist-url {url!r} is no address; write tcp://HOST:PORT, or auto on one machine."
        )
    if scheme != "tcp":
        return
    try:
        socket.getaddrinfo(host, port)
        if listens:
            socket.create_server(("", port or 0)).close()
    except socket.gaierror as error:
        raise ConfigError(f"--dist-url {url}: no machine {host!r} ({error.strerror}).") from None
    except OSError as error:
        raise ConfigError(
            f"--dist-url {url}: port {port} cannot be used ({error.strerror}); name another one, or auto on one "
            "machine."
        ) from None


def _split_address(url: str) -> tuple[str, str | None, int | None]:
    """Return scheme, host and port of an address; None for what it lacks."""
    try:
        parts = urlsplit(url)
        return parts.scheme, parts.hostname, parts.port
    except ValueError:
        return "", None, None
