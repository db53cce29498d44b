"""Hooks that most trainings want."""

import itertools
import logging
import math
import operator
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import Any

from fvcore.common.checkpoint import Checkpointer
from fvcore.common.checkpoint import PeriodicCheckpointer as _PeriodicCheckpointer
from fvcore.common.param_scheduler import ParamScheduler
from fvcore.nn.precise_bn import get_bn_modules, update_bn_stats
from torch import nn
from torch.optim import Optimizer

from detectron2._absent import module_getattr
from detectron2.evaluation.testing import flatten_results_dict
from detectron2.solver import LRMultiplier
from detectron2.solver import LRScheduler as _TorchLRScheduler
from detectron2.utils import comm
from detectron2.utils.events import EventStorage, EventWriter

from .train_loop import HookBase, TrainerBase

__all__ = [
    "BestCheckpointer",
    "EvalHook",
    "IterationTimer",
    "LRScheduler",
    "PeriodicCheckpointer",
    "PeriodicWriter",
    "PreciseBN",
]

_logger = logging.getLogger(__name__)


def _ends_period(trainer: TrainerBase, period: int) -> bool:
    return period > 0 and (trainer.iter + 1) % period == 0


def _is_last(trainer: TrainerBase) -> bool:
    """Whether no iteration comes after this one; true after the training, too."""
    return trainer.iter + 1 >= trainer.max_iter


class _EvaluationHook(HookBase):
    """Acts every `_period` iterations and, instead of after the last one, after the training."""

    def __init__(self, period: int):
        self._period = period

    def _act(self) -> None:
        raise NotImplementedError

    def after_step(self) -> None:
        if _ends_period(self.trainer, self._period) and not _is_last(self.trainer):
            self._act()

    def after_train(self) -> None:
        if _is_last(self.trainer):  # else it failed
            self._act()


class IterationTimer(HookBase):
    """Measures each iteration and logs the totals; register it first.

    Args:
        warmup_iter: iterations at the start that are not timed.
    """

    def __init__(self, warmup_iter: int = 3):
        self._untimed = warmup_iter
        self.before_train()

    def before_train(self) -> None:
        self._begin = self._step_begin = time.perf_counter()
        self._steps: list[float] = []

    def before_step(self) -> None:
        self._step_begin = time.perf_counter()

    def after_step(self) -> None:
        now, trainer = time.perf_counter(), self.trainer
        if trainer.iter + 1 - trainer.start_iter < self._untimed:
            self._begin = now
        else:
            self._steps.append(now - self._step_begin)
            trainer.storage.put_scalars(time=self._steps[-1])

    def after_train(self) -> None:
        total, in_steps = time.perf_counter() - self._begin, sum(self._steps)
        spans = (in_steps, total, total - in_steps)
        stepping, training, on_hooks = (timedelta(seconds=int(span)) for span in spans)
        count = len(self._steps)
        if count:
            _logger.info(
                "Overall training speed: %d iterations in %s (%.4f s / it)",
                *(count, stepping, in_steps / count),
            )
        _logger.info("Total training time: %s (%s on hooks)", training, on_hooks)


class PeriodicWriter(HookBase):
    """Lets writers write every `period` iterations, after the last one, and at the end.

    Register it after the hooks whose metrics it writes.
    """

    def __init__(self, writers: Sequence[EventWriter], period: int = 20):
        self._writers, self._every = writers, period

    def _write(self) -> None:
        for each in self._writers:
            each.write()

    def after_step(self) -> None:
        if _ends_period(self.trainer, self._every) or _is_last(self.trainer):
            self._write()

    def after_train(self) -> None:
        self._write()  # what other hooks stored after the last iteration
        for each in self._writers:
            each.close()


class PeriodicCheckpointer(_PeriodicCheckpointer, HookBase):
    """fvcore's `PeriodicCheckpointer`, saving every `period` iterations and after the last one."""

    def after_step(self) -> None:
        self.max_iter = self.trainer.max_iter
        self.step(self.trainer.iter)


class BestCheckpointer(_EvaluationHook):
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
        super().__init__(eval_period)
        if mode not in ("max", "min"):
            raise AssertionError(f"mode of BestCheckpointer must be 'max' or 'min', got {mode!r}")
        self._is_better = operator.gt if mode == "max" else operator.lt
        self._saver, self._metric, self._name = checkpointer, val_metric, file_prefix
        self.best_metric = self.best_iter = None

    def _act(self) -> None:
        value, iteration = self.trainer.storage.latest().get(self._metric, (math.nan, None))
        earlier, earlier_iter = self.best_metric, self.best_iter
        saves = math.isfinite(value) and (earlier is None or self._is_better(value, earlier))
        if saves:
            self.best_metric, self.best_iter = value, iteration
            self._saver.save(self._name, iteration=iteration)
        _logger.log(
            logging.WARNING if iteration is None else logging.INFO,
            "%s best model: %s is %s; best so far: %s @ iteration %s",
            *("Saved" if saves else "Not the", self._metric, value, earlier, earlier_iter),
        )


class LRScheduler(HookBase):
    """Steps a schedule after every iteration and stores the learning rate.

    Args:
        optimizer: None takes the trainer's.
        scheduler: a torch scheduler, or an fvcore schedule for the factor on the initial rates;
            None takes the trainer's.
    """

    def __init__(
        self,
        optimizer: Optimizer | None = None,
        scheduler: _TorchLRScheduler | ParamScheduler | None = None,
    ):
        self._optimizer, self._scheduler = optimizer, scheduler

    @property
    def scheduler(self) -> _TorchLRScheduler | ParamScheduler:
        """The schedule, the trainer's if none was given."""
        return self.trainer.scheduler if self._scheduler is None else self._scheduler

    def before_train(self) -> None:
        trainer, schedule = self.trainer, self.scheduler
        if self._optimizer is None:
            self._optimizer = trainer.optimizer
        if isinstance(schedule, ParamScheduler):
            position = trainer.max_iter, trainer.iter - 1
            self._scheduler = LRMultiplier(self._optimizer, schedule, *position)
        self._shown = self.get_best_param_group_id(self._optimizer)

    @staticmethod
    def get_best_param_group_id(optimizer: Optimizer) -> int:
        """Return the group whose rate is shown: the largest, or one with the commonest rate."""
        sizes = [len(group["params"]) for group in optimizer.param_groups]
        if max(sizes) > 1:
            return sizes.index(max(sizes))
        rates = [group["lr"] for group in optimizer.param_groups]
        return rates.index(statistics.mode(rates))

    def after_step(self) -> None:
        rate = self._optimizer.param_groups[self._shown]["lr"]
        self.trainer.storage.put_scalar("lr", rate, smoothing_hint=False)
        self.scheduler.step()

    def state_dict(self) -> dict[str, Any]:
        return getattr(self.scheduler, "state_dict", dict)()  # fvcore's schedules have none

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if not isinstance(self.scheduler, ParamScheduler):
            self.scheduler.load_state_dict(state_dict)


class EvalHook(_EvaluationHook):
    """Evaluates every `eval_period` iterations and at the end; for all processes or none.

    Args:
        eval_period: 0 evaluates at the end alone.
        eval_function: takes nothing, returns metrics in a dict of dicts, or None where there are
            none.
        eval_after_train: evaluate at the end.

    Raises:
        ValueError: in the loop, if a result is no number.
    """

    def __init__(
        self, eval_period: int, eval_function: Callable[[], Any], eval_after_train: bool = True
    ):
        super().__init__(eval_period)
        self._evaluate, self._at_end = eval_function, eval_after_train

    def _act(self) -> None:
        for name, value in flatten_results_dict(self._evaluate() or {}).items():
            try:
                number = float(value)
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f"eval_function must return a nested dict of numbers; got {name}: {value}"
                ) from error
            self.trainer.storage.put_scalar(name, number, smoothing_hint=False)
        comm.synchronize()  # evaluation takes processes differently long

    def after_train(self) -> None:
        if self._at_end:
            super().after_train()
        del self._evaluate  # it may hold the trainer, which holds this hook


class PreciseBN(HookBase):
    """Replaces the moving averages of batch norm by averages over `num_iter` batches.

    Args:
        period: run every so many iterations; 0 runs after the last one only.
        model: its batch norms in training mode are updated.
        data_loader: yields what the model takes; each run goes on with the batches that follow.
        num_iter: batches to average over.
    """

    def __init__(self, period: int, model: nn.Module, data_loader: Iterable[Any], num_iter: int):
        self._every, self._model, self._num_iter = period, model, num_iter
        # Asks for the loader's iterator, which starts processes, in the first run and not again.
        self._batches = itertools.chain.from_iterable([data_loader])

    def after_step(self) -> None:
        if _ends_period(self.trainer, self._every) or _is_last(self.trainer):
            self.update_stats()

    def update_stats(self) -> None:
        """Recompute the statistics now."""
        if not get_bn_modules(self._model):
            _logger.info("PreciseBN is disabled: no batch norm is in training mode")
            return
        _logger.info("Recomputing batch norm over %d batches", self._num_iter)
        with EventStorage():  # takes what the model stores in these forward passes
            update_bn_stats(self._model, self._batches, self._num_iter)


__getattr__ = module_getattr(__name__)
