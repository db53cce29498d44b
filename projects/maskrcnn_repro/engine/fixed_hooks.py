"""Hooks that every training has: the clock, the seeds of its steps, and its evaluations."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from maskrcnn_repro.utils.randomness import Purpose, seed_everything

from detectron2.engine import HookBase, hooks
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


class Evaluations(hooks.EvalHook):
    """Evaluates every so many iterations and once at the end of a complete training, also of one that ends early.

    After a last iteration that failed Detectron2's hook evaluates, too, and waits for processes that do not come.

    Args:
        period: iterations between two evaluations; 0 evaluates at the end alone.
        evaluate: returns the metrics by task; called in every process.
    """

    def __init__(self, period: int, evaluate: Callable[[], dict[str, Any]]) -> None:
        def evaluate_once() -> dict[str, Any]:
            self._evaluated = self.trainer.done
            return evaluate()

        super().__init__(period, evaluate_once)
        self._evaluated = -1

    def after_train(self) -> None:
        """Evaluate the last weights, unless that was just done: patience ends a training behind an evaluation."""
        if self.trainer.is_complete and self._evaluated != self.trainer.done:
            super().after_train()
