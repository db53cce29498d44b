"""Learning-rate schedules by iteration.

fvcore describes a schedule as a function of progress: 0 at the first iteration, 1 after the last. `LRMultiplier`
applies such a function to an optimizer. torch says "epoch" in its scheduler attributes; here it always counts
iterations.
"""

import logging
import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any

from fvcore.common.param_scheduler import (
    CompositeParamScheduler,
    ConstantParamScheduler,
    LinearParamScheduler,
    ParamScheduler,
)
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from detectron2._absent import module_getattr

WARMUP_METHODS = ("constant", "linear")


def _check_warmup_method(method: str) -> None:
    if method not in WARMUP_METHODS:
        raise ValueError(f"Unknown warmup method: {method!r}; choose one of {WARMUP_METHODS}")


class WarmupParamScheduler(CompositeParamScheduler):
    """Another schedule with its first part replaced by a warmup.

    Args:
        scheduler: the schedule to warm up.
        warmup_factor: the warmup starts at this multiple of the schedule's first value.
        warmup_length: part of the training that is warmup, from 0 to 1.
        warmup_method: "linear" climbs to the value of the schedule at the end of the warmup; "constant" stays
            at the start.
        rescale_interval: squeeze the whole schedule into the time after the warmup; by default the warmup
            hides its beginning.

    Raises:
        ValueError: unknown `warmup_method`.
    """

    def __init__(
        self,
        scheduler: ParamScheduler,
        warmup_factor: float,
        warmup_length: float,
        warmup_method: str = "linear",
        rescale_interval: bool = False,
    ):
        _check_warmup_method(warmup_method)
        start = warmup_factor * scheduler(0.0)
        if warmup_method == "constant":
            warmup = ConstantParamScheduler(start)
        else:
            reached = 0.0 if rescale_interval else warmup_length
            warmup = LinearParamScheduler(start, scheduler(reached))
        super().__init__(
            schedulers=[warmup, scheduler],
            lengths=[warmup_length, 1 - warmup_length],
            interval_scaling=["rescaled", "rescaled" if rescale_interval else "fixed"],
        )


class LRMultiplier(LRScheduler):
    """Multiplies the initial rate of every parameter group by one schedule.

    Groups may have different rates; their ratios stay fixed during the training.

    Args:
        optimizer: its current rates are the initial ones.
        multiplier: maps progress, from 0 to 1, to the factor on the initial rates.
        max_iter: iterations of the whole training.
        last_iter: the iteration that was finished last; -1 at the start.

    Raises:
        ValueError: `multiplier` is not a fvcore schedule.
    """

    def __init__(
        self, optimizer: Optimizer, multiplier: ParamScheduler, max_iter: int, last_iter: int = -1
    ):
        if not isinstance(multiplier, ParamScheduler):
            raise ValueError(  # noqa: TRY004 (Detectron2's type)
                f"multiplier must be an fvcore ParamScheduler, got {multiplier!r}"
            )
        self._multiplier = multiplier
        self._max_iter = max_iter
        super().__init__(optimizer, last_epoch=last_iter)

    def state_dict(self) -> dict[str, Any]:
        """Return initial rates and position; the schedule itself comes from the config."""
        return {name: getattr(self, name) for name in ("base_lrs", "last_epoch")}

    def get_lr(self) -> list[float]:
        """Return the rate of each parameter group at the current iteration."""
        factor = self._multiplier(self.last_epoch / self._max_iter)
        return [factor * base_lr for base_lr in self.base_lrs]


class _WarmedUp(ParamScheduler):
    """(warmup factor) x (decay), each a function of the iteration."""

    def __init__(self, decay: Callable[[int], float], factor: float, length: int, method: str):
        _check_warmup_method(method)
        self.decay, self.factor, self.length, self.method = decay, factor, length, method

    def __call__(self, where: float) -> float:
        if where >= self.length:
            return self.decay(where)
        done = where / self.length if self.method == "linear" else 0.0
        return self.decay(where) * (self.factor * (1 - done) + done)


class _IterationLR(LRMultiplier):
    """`LRMultiplier` that gives its schedule the iteration itself."""

    def __init__(self, optimizer: Optimizer, schedule: ParamScheduler, last_epoch: int):
        logging.getLogger(__name__).warning(
            "%s is deprecated; use LRMultiplier with an fvcore ParamScheduler", type(self).__name__
        )
        super().__init__(optimizer, schedule, max_iter=1, last_iter=last_epoch)


class WarmupMultiStepLR(_IterationLR):
    """Warmup, then the rate falls by `gamma` at each milestone.

    Raises:
        ValueError: `milestones`, in iterations, do not increase.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        milestones: Sequence[int],
        gamma: float = 0.1,
        warmup_factor: float = 0.001,
        warmup_iters: int = 1000,
        warmup_method: str = "linear",
        last_epoch: int = -1,
    ):
        if sorted(milestones) != list(milestones):
            raise ValueError(f"milestones must increase, got {milestones}")

        def decay(iteration: int) -> float:
            return gamma ** bisect_right(milestones, iteration)

        schedule = _WarmedUp(decay, warmup_factor, warmup_iters, warmup_method)
        super().__init__(optimizer, schedule, last_epoch)


class WarmupCosineLR(_IterationLR):
    """Warmup times half a cosine; the cosine starts at iteration 0, not after the warmup."""

    def __init__(
        self,
        optimizer: Optimizer,
        max_iters: int,
        warmup_factor: float = 0.001,
        warmup_iters: int = 1000,
        warmup_method: str = "linear",
        last_epoch: int = -1,
    ):
        def decay(iteration: int) -> float:
            return (1.0 + math.cos(math.pi * iteration / max_iters)) / 2

        schedule = _WarmedUp(decay, warmup_factor, warmup_iters, warmup_method)
        super().__init__(optimizer, schedule, last_epoch)


__getattr__ = module_getattr(__name__)
