"""Hooks that most trainings want."""

import logging
import math
import operator
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import torch
from fvcore.common.checkpoint import Checkpointer
from fvcore.common.checkpoint import PeriodicCheckpointer as _PeriodicCheckpointer
from fvcore.common.param_scheduler import ParamScheduler
from fvcore.common.timer import Timer

from detectron2._absent import module_getattr
from detectron2.evaluation.testing import flatten_results_dict
from detectron2.solver import LRMultiplier
from detectron2.solver import LRScheduler as _TorchLRScheduler
from detectron2.utils import comm
from detectron2.utils.events import EventWriter

from ._profiling import AutogradProfiler, PreciseBN, TorchMemoryStats, TorchProfiler, is_due
from .train_loop import HookBase, TrainerBase

__all__ = [
    "AutogradProfiler",
    "BestCheckpointer",
    "CallbackHook",
    "EvalHook",
    "IterationTimer",
    "LRScheduler",
    "PeriodicCheckpointer",
    "PeriodicWriter",
    "PreciseBN",
    "TorchMemoryStats",
    "TorchProfiler",
]

Callback = Callable[[TrainerBase], Any]


class CallbackHook(HookBase):
    """Calls functions, given the trainer.

    Args:
        **callbacks: by the name of the point: before_train, after_train, before_step or after_step.

    Raises:
        TypeError: any other name.
    """

    def __init__(self, **callbacks: Callback | None):
        unknown = callbacks.keys() - {"before_train", "after_train", "before_step", "after_step"}
        if unknown:
            raise TypeError(f"CallbackHook got unexpected points {sorted(unknown)}")
        for point, callback in callbacks.items():
            if callback is not None:  # hides the method that does nothing
                setattr(self, point, lambda callback=callback: callback(self.trainer))


class IterationTimer(HookBase):
    """Measures each iteration and logs the totals; register it first.

    Args:
        warmup_iter: iterations at the start that are not timed.
    """

    def __init__(self, warmup_iter: int = 3):
        self._warmup_iter = warmup_iter
        self._step_timer = Timer()
        self._steps_timer = Timer()
        self._start = time.perf_counter()

    def _restart(self) -> None:
        self._start = time.perf_counter()
        self._steps_timer.reset()

    def before_train(self) -> None:
        self._restart()
        self._steps_timer.pause()

    def before_step(self) -> None:
        self._step_timer.reset()
        self._steps_timer.resume()

    def after_step(self) -> None:
        trainer = self.trainer
        done = trainer.storage.iter + 1 - trainer.start_iter
        if done < self._warmup_iter:
            self._restart()
        else:
            trainer.storage.put_scalars(time=self._step_timer.seconds())
        self._steps_timer.pause()

    def after_train(self) -> None:
        logger = logging.getLogger(__name__)
        total = time.perf_counter() - self._start
        in_steps = self._steps_timer.seconds()
        trainer = self.trainer
        timed = trainer.storage.iter + 1 - trainer.start_iter - self._warmup_iter
        if timed > 0 and in_steps > 0:
            logger.info(
                "Overall training speed: %d iterations in %s (%.4f s / it)",
                *(timed, timedelta(seconds=int(in_steps)), in_steps / timed),
            )
        logger.info(
            "Total training time: %s (%s on hooks)",
            *(timedelta(seconds=int(total)), timedelta(seconds=int(total - in_steps))),
        )


class PeriodicWriter(HookBase):
    """Lets writers write every `period` iterations, after the last one, and at the end.

    Register it after the hooks whose metrics it writes.

    Raises:
        TypeError: something else than an `EventWriter`.
    """

    def __init__(self, writers: Sequence[EventWriter], period: int = 20):
        for writer in writers:
            if not isinstance(writer, EventWriter):
                raise TypeError(f"a writer must be an EventWriter, got {writer!r}")
        self._writers = writers
        self._period = period

    def after_step(self) -> None:
        if is_due(self.trainer, self._period):
            for writer in self._writers:
                writer.write()

    def after_train(self) -> None:
        for writer in self._writers:
            writer.write()  # what other hooks stored after the last iteration
            writer.close()


class PeriodicCheckpointer(_PeriodicCheckpointer, HookBase):
    """fvcore's `PeriodicCheckpointer`, saving every `period` iterations and after the last one."""

    def before_train(self) -> None:
        self.max_iter = self.trainer.max_iter

    def after_step(self) -> None:
        self.step(self.trainer.iter)


class BestCheckpointer(HookBase):
    """Saves the model whenever a metric is the best so far; register it after `EvalHook`.

    Args:
        eval_period: the period of the `EvalHook`.
        checkpointer: saves the model.
        val_metric: name of the metric in the storage, such as "bbox/AP50".
        mode: "max" or "min", whichever is better.
        file_prefix: file name without extension.

    Raises:
        AssertionError: unknown `mode`.
    """

    def __init__(
        self,
        eval_period: int,
        checkpointer: Checkpointer,
        val_metric: str,
        mode: str = "max",
        file_prefix: str = "model_best",
    ):
        if mode not in ("max", "min"):
            raise AssertionError(f"mode of BestCheckpointer must be 'max' or 'min', got {mode!r}")
        self._logger = logging.getLogger(__name__)
        self._period = eval_period
        self._checkpointer = checkpointer
        self._metric = val_metric
        self._is_better = operator.gt if mode == "max" else operator.lt
        self._file_prefix = file_prefix
        self.best_metric: float | None = None
        self.best_iter: int | None = None

    def _check(self) -> None:
        value, iteration = self.trainer.storage.latest().get(self._metric, (None, None))
        if value is None:
            self._logger.warning(
                "Given val metric %s was not computed; no checkpoint", self._metric
            )
            return
        best = "no earlier score"
        if self.best_metric is not None:
            best = f"best score {self.best_metric:0.5f} @ iteration {self.best_iter}"
        is_first = self.best_metric is None
        if math.isfinite(value) and (is_first or self._is_better(value, self.best_metric)):
            self.best_metric, self.best_iter = value, iteration
            self._checkpointer.save(self._file_prefix, iteration=iteration)
            self._logger.info("Saved best model: %s is %.5f; %s", self._metric, value, best)
        else:
            self._logger.info("Not saving: %s is %.5f; %s", self._metric, value, best)

    def after_step(self) -> None:
        if _is_eval_iteration(self.trainer, self._period):
            self._check()

    def after_train(self) -> None:
        if _is_finished(self.trainer):
            self._check()


class LRScheduler(HookBase):
    """Steps a schedule after every iteration and stores the learning rate.

    Args:
        optimizer: None takes the trainer's.
        scheduler: a torch scheduler, or an fvcore schedule for the factor on the initial rates; None takes the
            trainer's.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer | None = None,
        scheduler: _TorchLRScheduler | ParamScheduler | None = None,
    ):
        self._optimizer = optimizer
        self._scheduler = scheduler

    @property
    def scheduler(self) -> _TorchLRScheduler | ParamScheduler:
        """The schedule, the trainer's if none was given."""
        return self._scheduler or self.trainer.scheduler

    def before_train(self) -> None:
        self._optimizer = self._optimizer or self.trainer.optimizer
        trainer, schedule = self.trainer, self.scheduler
        if isinstance(schedule, ParamScheduler):
            self._scheduler = LRMultiplier(
                self._optimizer, schedule, trainer.max_iter, last_iter=trainer.iter - 1
            )
        self._group = self.get_best_param_group_id(self._optimizer)

    @staticmethod
    def get_best_param_group_id(optimizer: torch.optim.Optimizer) -> int:
        """Return the parameter group whose rate is shown: the largest, or one with the commonest rate."""
        groups = optimizer.param_groups
        sizes = [len(group["params"]) for group in groups]
        if max(sizes) > 1:
            return sizes.index(max(sizes))
        rates = [group["lr"] for group in groups]
        commonest, _ = Counter(rates).most_common(1)[0]
        return rates.index(commonest)

    def after_step(self) -> None:
        rate = self._optimizer.param_groups[self._group]["lr"]
        self.trainer.storage.put_scalar("lr", rate, smoothing_hint=False)
        self.scheduler.step()

    def state_dict(self) -> dict[str, Any]:
        if isinstance(self.scheduler, _TorchLRScheduler):
            return self.scheduler.state_dict()
        return {}  # a schedule of fvcore has no state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if isinstance(self.scheduler, _TorchLRScheduler):
            logging.getLogger(__name__).info("Loading scheduler from state_dict ...")
            self.scheduler.load_state_dict(state_dict)


class EvalHook(HookBase):
    """Evaluates every `eval_period` iterations and after the training; register it on all processes or none.

    Args:
        eval_period: 0 evaluates at the end alone.
        eval_function: takes nothing, returns metrics in a dict of dicts, or None where there are none.
        eval_after_train: evaluate at the end.
    """

    def __init__(
        self, eval_period: int, eval_function: Callable[[], Any], eval_after_train: bool = True
    ):
        self._period = eval_period
        self._evaluate = eval_function
        self._eval_after_train = eval_after_train

    def _do_eval(self) -> None:
        results = self._evaluate()
        if results:
            if not isinstance(results, dict):
                raise AssertionError(f"Eval function must return a dict. Got {results} instead.")
            metrics = flatten_results_dict(results)
            for name, value in metrics.items():
                try:
                    float(value)
                except (TypeError, ValueError) as error:
                    raise ValueError(
                        "[EvalHook] eval_function should return a nested dict of float. "
                        f"Got '{name}: {value}' instead."
                    ) from error
            self.trainer.storage.put_scalars(**metrics, smoothing_hint=False)
        comm.synchronize()  # evaluation takes processes differently long

    def after_step(self) -> None:
        if _is_eval_iteration(self.trainer, self._period):
            self._do_eval()

    def after_train(self) -> None:
        if self._eval_after_train and _is_finished(self.trainer):
            self._do_eval()
        del self._evaluate  # it may hold the trainer, which holds this hook


def _is_eval_iteration(trainer: TrainerBase, period: int) -> bool:
    """Whether to evaluate now; after the last iteration, `after_train` does."""
    next_iter = trainer.iter + 1
    return period > 0 and next_iter % period == 0 and next_iter != trainer.max_iter


def _is_finished(trainer: TrainerBase) -> bool:
    """Whether the training came to its end; false after a failure."""
    return trainer.iter + 1 >= trainer.max_iter


__getattr__ = module_getattr(__name__)
