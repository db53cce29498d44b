"""Hooks that every training has: the clock and the seeds of its steps."""

from __future__ import annotations

import time

from maskrcnn_repro.utils.randomness import Purpose, seed_everything

from detectron2.engine import HookBase
from detectron2.utils import comm

WRITE_PERIOD = 20
"""Iterations between two lines on the console, in metrics.json and in TensorBoard."""


class Clock(HookBase):
    """Seconds spent in iterations (data and step), over all resumptions; evaluation is not counted."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def before_step(self) -> None:
        """Start."""
        self._begin = time.perf_counter()

    def after_step(self) -> None:
        """Stop."""
        self.seconds += time.perf_counter() - self._begin

    def state_dict(self) -> dict[str, float]:
        """Return what a checkpoint keeps."""
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        """Carry on where a checkpoint stopped."""
        self.seconds = state_dict["seconds"]


class StepSeed(HookBase):
    """Seeds each iteration by itself, so that a resumed run goes on with the numbers of the unbroken one.

    Args:
        seed: of the training, 0 or more.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def before_step(self) -> None:
        """Seed this iteration; its images are seeded one by one in the loader."""
        self.seed_part(0)

    def seed_part(self, part: int) -> None:
        """Seed a part of this iteration's batch (SOLVER.ACCUMULATE), as the process that it stands for."""
        rank = comm.get_rank() + part * comm.get_world_size()
        seed_everything(self.seed, Purpose.STEP, self.trainer.iter, rank)
