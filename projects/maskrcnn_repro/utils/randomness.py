"""Seeds that depend on the purpose of the random numbers, not on what was drawn before.

A run resumed at iteration i therefore draws the same numbers as an uninterrupted one, and an image is
augmented in the same way by any number of data-loader workers and processes.
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
    """What random numbers are used for; their seed is made of SEED, the purpose and further numbers."""

    ORDER = 0
    """Choices made once for the whole training, such as a subset of the data."""
    SAMPLE = 1
    """Augmentation of one image; its number is the position in the order that all processes share."""
    STEP = 2
    """One iteration of one process, such as the sampling of RoIs; its numbers are iteration and rank."""
    SUBSTITUTE = 3
    """The image in place of a broken one; its numbers are the position of that one and the attempt."""


def seed_everything(seed: int, purpose: Purpose, *numbers: int) -> None:
    """Seed all random generators of this process, those of its GPUs included.

    Args:
        seed: of the training (SEED), 0 or more.
        purpose: use of the random numbers.
        *numbers: see :class:`Purpose`; each 0 or more.
    """
    _seed(seed, purpose, numbers, torch.manual_seed)


@contextmanager
def seeded(seed: int, purpose: Purpose, *numbers: int) -> Iterator[None]:
    """Seed Python's, NumPy's and PyTorch's CPU generator within the block, then restore them.

    Args:
        seed: of the training (SEED), 0 or more.
        purpose: use of the random numbers.
        *numbers: see :class:`Purpose`; each 0 or more.
    """
    python, array = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=()):
        # Not torch.manual_seed, which would seed the GPUs' generators as well.
        _seed(seed, purpose, numbers, torch.default_generator.manual_seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(array)


def _seed(seed: int, purpose: Purpose, numbers: tuple[int, ...], seed_torch: Any) -> None:
    # SeedSequence mixes the numbers: neighbouring iterations get unrelated seeds.
    words = np.random.SeedSequence((seed, purpose, *numbers)).generate_state(4)
    random.seed(words.tobytes())
    np.random.seed(words)
    seed_torch(int(words[0]) << 32 | int(words[1]))
