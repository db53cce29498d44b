"""Data-loader workers outlive a signal to the whole process group, as a terminal or a scheduler sends it.

The training process then still gets the batches of the iteration after which it saves.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.context import SpawnContext, SpawnProcess
from multiprocessing.queues import Queue
from typing import Any, TypeVar

from maskrcnn_repro.utils.freed_memory import UNUSED, keep_freed_memory
from maskrcnn_repro.utils.held_signals import forget_held_back, held_back

from torch.utils.data import DataLoader

L = TypeVar("L")


@dataclass(frozen=True)
class StandApart:
    """What a worker does first: it enters a process group of its own, then does what it was to do."""

    former: Callable[[int], None] | None

    def __call__(self, worker: int) -> None:
        """Prepare the worker of this number."""
        # Windows has no such groups.
        if hasattr(os, "setpgid"):
            os.setpgid(0, 0)
        forget_held_back()
        keep_freed_memory(UNUSED)
        # By default the queue prints a traceback, and the training waits for the batch for ever.
        Queue._on_queue_feeder_error = staticmethod(_leave)  # type: ignore[attr-defined]
        if self.former:
            self.former(worker)


class HeldBackProcess(SpawnProcess):
    """A worker that signals do not reach before it stands apart; spawned, it first imports for seconds."""

    def start(self) -> None:
        """Start it."""
        with held_back():
            super().start()


class HeldBackContext(SpawnContext):
    """Spawns workers of :class:`HeldBackProcess`."""

    Process = HeldBackProcess


def standing_apart(loader: L) -> L:
    """Return a loader whose workers stand apart; one without workers, or of another kind, as it is."""
    if isinstance(loader, DataLoader):
        loader.worker_init_fn = StandApart(loader.worker_init_fn)
        if loader.num_workers and multiprocessing.get_start_method() == "spawn":
            loader.multiprocessing_context = HeldBackContext()
    return loader


def _leave(error: Exception, batch: Any) -> None:
    print(
        f"What the mapper returns cannot be handed over to the training ({error}): give tensors, arrays and plain "
        "values alone, or set DATALOADER.NUM_WORKERS 0.",
        file=sys.stderr,
        flush=True,
    )
    os._exit(1)
