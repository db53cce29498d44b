"""Learning-rate schedules by iteration.

fvcore describes a schedule as a function of progress: 0 at the first iteration, 1 after the last.
`LRMultiplier` applies such a function to an optimizer. torch says "epoch" in its scheduler
attributes; here it always counts iterations.
"""

from typing import Any, Literal

import fvcore.common.param_scheduler as schedules
from fvcore.common.param_scheduler import ParamScheduler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from detectron2._absent import module_getattr

__all__ = ["LRMultiplier", "LRScheduler", "WarmupParamScheduler"]


class WarmupParamScheduler(schedules.CompositeParamScheduler):
    """Another schedule with its first part replaced by a warmup.

    Args:
        scheduler: the fvcore schedule to warm up.
        warmup_factor: the warmup starts at this multiple of the schedule's first value.
        warmup_length: part of the training that is warmup, from 0 to 1.
        warmup_method: "linear" climbs to the value of the schedule at the end of the warmup;
            "constant" stays at the start.
        rescale_interval: True squeezes the whole schedule into the time after the warmup; by
            default, the warmup hides its beginning.

    Raises:
        ValueError: unknown `warmup_method`.
    """

    def __init__(
        self,
        scheduler: schedules.ParamScheduler,
        warmup_factor: float,
        warmup_length: float,
        warmup_method: Literal["linear", "constant"] = "linear",
        rescale_interval: bool = False,
    ):
        first = warmup_factor * scheduler(0.0)
        if warmup_method == "linear":
            reached = scheduler(0.0 if rescale_interval else warmup_length)
            warmup = schedules.LinearParamScheduler(first, reached)
        elif warmup_method == "constant":
            warmup = schedules.ConstantParamScheduler(first)
        else:
            raise ValueError(
                f"Unknown warmup method: {warmup_method!r}; use 'linear' or 'constant'"
            )
        rest = "rescaled" if rescale_interval else "fixed"
        parts, lengths = [warmup, scheduler], [warmup_length, 1 - warmup_length]
        super().__init__(parts, lengths, ["rescaled", rest])


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
        self._schedule, self._length = multiplier, max_iter
        super().__init__(optimizer, last_iter)

    def state_dict(self) -> dict[str, Any]:
        """Return initial rates and position; the schedule itself comes from the config."""
        return {name: getattr(self, name) for name in ("base_lrs", "last_epoch")}

    def get_lr(self) -> list[float]:
        """Return the rate of each parameter group at the current iteration."""
        factor = self._schedule(self.last_epoch / self._length)
        return [factor * rate for rate in self.base_lrs]


__getattr__ = module_getattr(__name__)
