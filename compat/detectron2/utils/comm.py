"""Communication between the processes of a run; a single process is a world, too."""

import functools
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from detectron2._absent import module_getattr

_LOCAL_PROCESS_GROUP = None
"""The processes of this machine; set by :func:`create_local_process_group`."""


def _is_distributed() -> bool:
    return dist.is_available() and dist.is_initialized()


def get_world_size() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if _is_distributed() else 1


def get_rank() -> int:
    """Return the number of this process, from 0."""
    return dist.get_rank() if _is_distributed() else 0


@functools.cache
def create_local_process_group(num_workers_per_machine: int) -> None:
    """Split the world into one group per machine, so that the ``local`` functions below work.

    ``launch`` does so; whoever starts processes in another way calls it in all of them, after
    ``init_process_group``. Machines must have equally many processes, with consecutive ranks.
    """
    global _LOCAL_PROCESS_GROUP
    assert _LOCAL_PROCESS_GROUP is None, "the local process group exists already"
    _LOCAL_PROCESS_GROUP, _ = dist.new_subgroups(num_workers_per_machine)


def get_local_process_group() -> Any:
    """Return the group of the processes on this machine."""
    assert _LOCAL_PROCESS_GROUP is not None, "comm.create_local_process_group() comes first"
    return _LOCAL_PROCESS_GROUP


def get_local_rank() -> int:
    """Return the number of this process among those on its machine."""
    return dist.get_rank(group=get_local_process_group()) if _is_distributed() else 0


def get_local_size() -> int:
    """Return the number of processes on this machine."""
    return dist.get_world_size(group=get_local_process_group()) if _is_distributed() else 1


def is_main_process() -> bool:
    """Tell whether this is the process that writes files."""
    return get_rank() == 0


def synchronize() -> None:
    """Wait until all processes are here."""
    if get_world_size() > 1:
        on_gpu = dist.get_backend() == "nccl"  # which would guess the device, and warn
        dist.barrier(device_ids=[torch.cuda.current_device()] if on_gpu else None)


@functools.cache
def _cpu_group() -> Any:
    """Return a group of all processes that can send objects without GPU memory."""
    return dist.new_group(backend="gloo") if dist.get_backend() == "nccl" else dist.group.WORLD


def all_gather(data: Any, group: Any = None) -> list[Any]:
    """Return the ``data`` of all processes, by rank.

    Args:
        data: anything that can be pickled.
        group: who takes part; by default all processes, over gloo.
    """
    if get_world_size() == 1:
        return [data]
    group = group or _cpu_group()
    collected = [None] * dist.get_world_size(group)
    dist.all_gather_object(collected, data, group=group)
    return collected


def gather(data: Any, dst: int = 0, group: Any = None) -> list[Any]:
    """Return the ``data`` of all processes on process ``dst``, and an empty list on the others.

    Args:
        data: anything that can be pickled.
        dst: the receiving rank.
        group: who takes part; by default all processes, over gloo.
    """
    if get_world_size() == 1:
        return [data]
    group = group or _cpu_group()
    receives = dist.get_rank(group=group) == dst
    collected = [None] * dist.get_world_size(group) if receives else None
    dist.gather_object(data, collected, dst=dst, group=group)
    return collected if receives else []


def shared_random_seed() -> int:
    """Return the same number on every process, from NumPy's generator on rank 0; all must call."""
    return all_gather(np.random.randint(2**31))[0]


def reduce_dict(input_dict: dict[str, Tensor], average: bool = True) -> dict[str, Tensor]:
    """Sum scalars over processes; only rank 0 gets the result.

    Args:
        input_dict: the same keys on every process, each a scalar on the device of the backend.
        average: divide by the number of processes.
    """
    world_size = get_world_size()
    if world_size < 2:
        return input_dict
    names = sorted(input_dict)  # processes may have filled their dicts in different orders
    totals = torch.stack([input_dict[name].detach() for name in names])
    dist.reduce(totals, dst=0)
    if average and get_rank() == 0:
        totals /= world_size
    return dict(zip(names, totals, strict=True))


__getattr__ = module_getattr(__name__)
