"""Random numbers that follow from what they are for, not from what was drawn before.

So a run that is resumed at iteration i draws what the unbroken one would, and an image is augmented the
same way by any number of data-loader workers and processes.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Any

import numpy as np
import torch


class Purpose(IntEnum):
    """What random numbers are for; with SEED and a number of its own it makes their seed."""

    ORDER = 0
    """Choices made once for the whole training, such as a subset of the data."""
    SAMPLE = 1
    """Augmentation of one image; numbered by its place in the order that all processes share."""
    STEP = 2
    """One iteration of one process, such as the choice of RoIs; numbered by iteration and rank."""


def seed_everything(seed: int, purpose: Purpose, *numbers: int) -> None:
    """Seed all generators of this process, those of its GPUs included.

    Args:
        seed: of the training (SEED), 0 or more.
        purpose: what for.
        *numbers: which of its kind, 0 or more each.
    """
    _seed(seed, purpose, numbers, torch.manual_seed)


@contextmanager
def seeded(seed: int, purpose: Purpose, *numbers: int) -> Iterator[None]:
    """Seed Python's, NumPy's and PyTorch's CPU generator within the block; then they are as before.

    Args:
        seed: of the training (SEED), 0 or more.
        purpose: what for.
        *numbers: which of its kind, 0 or more each.
    """
    python, array = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=()):
        _seed(seed, purpose, numbers, torch.default_generator.manual_seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(array)


def _seed(seed: int, purpose: Purpose, numbers: tuple[int, ...], of_torch: Any) -> None:
    words = np.random.SeedSequence((seed, purpose, *numbers)).generate_state(4)
    random.seed(words.tobytes())
    np.random.seed(words)
    of_torch(int(words[0]) << 32 | int(words[1]))
