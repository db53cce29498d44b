"""Starting a function in several processes that form one process group."""

import socket
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from detectron2._absent import module_getattr
from detectron2.utils import comm

__all__ = ["DEFAULT_TIMEOUT", "launch"]

DEFAULT_TIMEOUT = timedelta(minutes=30)


def launch(
    main_func: Callable[..., Any],
    num_gpus_per_machine: int,
    num_machines: int = 1,
    machine_rank: int = 0,
    dist_url: str | None = None,
    args: tuple = (),
    timeout: timedelta = DEFAULT_TIMEOUT,
) -> None:
    """Run ``main_func(*args)``, in this process or in several new ones on each machine.

    Call it on every machine of the job.

    Args:
        main_func: importable by name, since each process imports it anew.
        num_gpus_per_machine: processes on each machine, each with one GPU if there are any.
        num_machines: machines of the job.
        machine_rank: number of this machine, from 0.
        dist_url: where the processes meet, e.g. ``tcp://127.0.0.1:29500``; "auto" takes a free port
            of this machine.
        args: for `main_func`.
        timeout: of operations between the processes.

    Raises:
        ValueError: `dist_url` is missing, or is "auto" for more than one machine.
    """
    world_size = num_gpus_per_machine * num_machines
    if world_size == 1:
        main_func(*args)
        return
    if not dist_url or (dist_url == "auto" and num_machines > 1):
        raise ValueError(
            f"processes on {num_machines} machine(s) cannot meet at dist_url={dist_url!r}; "
            'give an address such as "tcp://127.0.0.1:29500", or on one machine "auto"'
        )
    if dist_url == "auto":
        dist_url = f"tcp://127.0.0.1:{_free_port()}"
    first = machine_rank * num_gpus_per_machine
    group = {"init_method": dist_url, "world_size": world_size, "timeout": timeout}
    job = first, num_gpus_per_machine, group, main_func, args
    # No daemons: workers start data-loading processes of their own.
    mp.spawn(_run_worker, args=job, nprocs=num_gpus_per_machine)


def _free_port() -> int:
    with socket.socket() as probe:  # another process may still take the port before we do
        probe.bind(("", 0))
        return probe.getsockname()[1]


def _run_worker(
    local_rank: int, first: int, workers: int, group: dict, main_func: Callable, args: tuple
) -> None:
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    if backend == "nccl":
        if workers > torch.cuda.device_count():
            raise ValueError(f"{workers} processes, but only {torch.cuda.device_count()} GPUs here")
        torch.cuda.set_device(local_rank)
    dist.init_process_group(backend, rank=first + local_rank, **group)
    comm.create_local_process_group(workers)
    comm.synchronize()  # nobody times out on a worker that is still starting
    main_func(*args)


__getattr__ = module_getattr(__name__)
