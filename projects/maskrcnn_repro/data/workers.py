"""Data-loader workers outlive a signal to the whole process group, as a terminal or a scheduler sends it.

The training process then still gets the batches of the iteration after which it saves.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

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
        if self.former:
            self.former(worker)


def standing_apart(loader: L) -> L:
    """Return a loader whose workers stand apart; one without workers, or of another kind, as it is."""
    if isinstance(loader, DataLoader):
        loader.worker_init_fn = StandApart(loader.worker_init_fn)
    return loader
