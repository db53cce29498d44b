"""Which image each data-loader worker is on: what is left of a worker that died."""

from __future__ import annotations

import os
from collections.abc import Container

from maskrcnn_repro.data.shared_memory import free_shared_memory
from maskrcnn_repro.errors import ConfigError

import torch
from torch.utils.data import get_worker_info

WIDTH = 1024
"""Bytes of a note; a longer name loses its beginning."""
LEAST = 1_000_000
"""Bytes of shared memory for each worker without which none can hand over an image."""


class WorkerNotes:
    """One line of shared memory for each worker of a loader.

    Args:
        workers: their number; 0: there is nothing to note.

    Attributes:
        workers: their number.

    Raises:
        ConfigError: ``/dev/shm`` has no room for any image.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._lines = torch.zeros(workers, WIDTH, dtype=torch.uint8)
        if workers:
            _check_room(workers)
            self._lines.share_memory_()

    def write(self, file_name: str) -> None:
        """Note the image that this worker is on; does nothing in the main process."""
        worker = get_worker_info()
        if worker is None or worker.id >= self.workers:
            return
        pid = f"{os.getpid()} ".encode()
        text = (pid + os.fsencode(file_name)[len(pid) - WIDTH :]).ljust(WIDTH, b"\0")
        self._lines[worker.id] = torch.frombuffer(bytearray(text), dtype=torch.uint8)

    def read(self, pids: Container[int]) -> list[str]:
        """Return the last images of the workers with these process ids."""
        notes = [
            bytes(line.tolist()).rstrip(b"\0").decode("utf-8", "replace") for line in self._lines
        ]
        pairs = [note.partition(" ") for note in notes if note]
        return [file_name for pid, _, file_name in pairs if int(pid) in pids]


def _check_room(workers: int) -> None:
    free = free_shared_memory()
    if free is not None and free < workers * LEAST:
        raise ConfigError(
            f"DATALOADER.NUM_WORKERS {workers} needs room in /dev/shm, of which {free / 1e6:.1f} MB are free; give "
            "the container more (docker run --shm-size), or set DATALOADER.NUM_WORKERS 0."
        )
