"""The training loop, its hooks, and the trainers that fill it."""

import functools
import logging
import operator
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DataParallel

from detectron2._absent import module_getattr
from detectron2.utils import comm
from detectron2.utils.events import EventStorage, get_event_storage

__all__ = ["AMPTrainer", "HookBase", "SimpleTrainer", "TrainerBase"]

_logger = logging.getLogger(__name__)


class HookBase:
    """What may be done at five points of the training; every method does nothing by default.

    A trainer calls its hooks in the order of their registration: `before_train` once; then, for
    each iteration, `before_step`, `after_backward` (between backward pass and update) and
    `after_step`; at last `after_train`, also when the training failed. Work that takes time belongs
    into `after_step`, because timers run from `before_step` on.

    Attributes:
        trainer: weak reference to the trainer, set at registration.
    """

    trainer: Any = None

    def before_train(self) -> None:
        """Called before the first iteration."""

    def after_train(self) -> None:
        """Called at the end; ``trainer.iter`` is ``trainer.max_iter`` if the training succeeded."""

    def before_step(self) -> None:
        """Called at the beginning of each iteration."""

    def after_backward(self) -> None:
        """Called when the gradients of an iteration are there."""

    def after_step(self) -> None:
        """Called at the end of each iteration."""

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint must hold; needs ``load_state_dict`` if it is anything."""
        return {}


def _calls_hooks(point: str, moves_storage: bool = False) -> Callable[["TrainerBase"], None]:
    """Make the trainer's method that calls the method `point` of every hook.

    Args:
        point: one of the five points.
        moves_storage: tell the storage first which iteration it is.
    """

    def call(self: "TrainerBase") -> None:
        if moves_storage:
            self.storage.iter = self.iter
        for hook in self._hooks:
            getattr(hook, point)()

    return call


class TrainerBase:
    """A loop with hooks. A subclass says in `run_step` what an iteration does.

    Attributes:
        iter: current iteration, from 0.
        start_iter: first iteration.
        max_iter: the training ends before this iteration.
        storage: collects the metrics during `train`.
    """

    _stateful: tuple[str, ...] = ()
    """Attributes whose states belong to the trainer's."""

    def __init__(self) -> None:
        self._hooks: list[HookBase] = []
        self.iter = self.start_iter = 0

    before_train = _calls_hooks("before_train")
    before_step = _calls_hooks("before_step", moves_storage=True)
    after_backward = _calls_hooks("after_backward")  # `run_step` has to call it
    after_step = _calls_hooks("after_step")
    after_train = _calls_hooks("after_train", moves_storage=True)

    def register_hooks(self, hooks: Iterable[HookBase | None]) -> None:
        """Append hooks; None is skipped."""
        for hook in hooks:
            if hook is not None:
                hook.trainer = weakref.proxy(self)  # the trainer owns the hook, not the reverse
                self._hooks.append(hook)

    def train(self, start_iter: int, max_iter: int) -> None:
        """Run iterations `start_iter` to ``max_iter - 1``."""
        _logger.info("Starting training from iteration %d", start_iter)
        self.iter, self.start_iter, self.max_iter = start_iter, start_iter, max_iter
        with EventStorage(start_iter) as self.storage:
            try:
                self.before_train()
                while self.iter < max_iter:
                    self.before_step()
                    self.run_step()
                    self.after_step()
                    self.iter += 1
            except Exception:
                _logger.exception("Exception during training:")
                raise
            finally:
                self.after_train()

    def run_step(self) -> None:
        """Do one iteration."""
        raise NotImplementedError(f"{type(self).__name__} does not say what an iteration does")

    def state_dict(self) -> dict[str, Any]:
        """Return the iteration, states of hooks by class name, and those of the trainer's parts.

        Of two hooks of one class the first counts.
        """
        states = {
            type(hook).__qualname__: state
            for hook in reversed(self._hooks)
            if (state := hook.state_dict())
        }
        parts = {name: getattr(self, name).state_dict() for name in self._stateful}
        return {"iteration": self.iter} | ({"hooks": states} if states else {}) | parts

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned; states of hooks that are gone are skipped."""
        self.iter = state_dict["iteration"]
        hooks = {type(hook).__qualname__: hook for hook in reversed(self._hooks)}
        for name, state in state_dict.get("hooks", {}).items():
            if name in hooks:
                hooks[name].load_state_dict(state)
            else:
                _logger.warning("The checkpoint has a state for %s, which is no hook here", name)
        for name in self._stateful:
            getattr(self, name).load_state_dict(state_dict[name])


class SimpleTrainer(TrainerBase):
    """One model, one optimizer, one source of data; the model returns its losses.

    Args:
        model: maps an item of `data_loader` to a dict of scalar losses, or to one; set to training
            mode.
        data_loader: yields a batch per iteration.
        optimizer: updates the model.
        gather_metric_period: collect the losses of all processes every so many iterations.
        zero_grad_before_forward: clear the gradients before the forward instead of before the
            backward pass.
        async_write_metrics: write the metrics in another thread, so that the loop need not wait for
            the device. A loss that is not finite is then logged and does not end the training.
    """

    _stateful = ("optimizer",)

    def __init__(
        self,
        model: nn.Module,
        data_loader: Iterable[Any],
        optimizer: torch.optim.Optimizer,
        gather_metric_period: int = 1,
        zero_grad_before_forward: bool = False,
        async_write_metrics: bool = False,
    ):
        super().__init__()
        self.model, self.data_loader, self.optimizer = model.train(), data_loader, optimizer
        self.gather_metric_period = gather_metric_period
        self.zero_grad_before_forward = zero_grad_before_forward
        # One worker, so that the iterations stay in order.
        self.concurrent_executor = ThreadPoolExecutor(max_workers=1)
        self.async_write_metrics = async_write_metrics
        # Full precision: these two do nothing.
        self._autocast: AbstractContextManager = nullcontext()
        self.grad_scaler = torch.amp.GradScaler(enabled=False)

    def run_step(self) -> None:
        """Load a batch, compute losses and gradients, update.

        Raises:
            AssertionError: the model is in evaluation mode.
        """
        if not self.model.training:
            raise AssertionError(f"[{type(self).__name__}] the model is in eval mode")
        waiting_since = time.perf_counter()
        batch = next(self._data_loader_iter)
        waited = time.perf_counter() - waiting_since

        clears_early, clear = self.zero_grad_before_forward, self.optimizer.zero_grad
        if clears_early:
            clear()
        with self._autocast:
            losses = self.model(batch)
            if isinstance(losses, torch.Tensor):
                losses = {"total_loss": losses}
            total = sum(losses.values())
        if not clears_early:
            clear()
        self.grad_scaler.scale(total).backward()
        self.after_backward()
        run = self.concurrent_executor.submit if self.async_write_metrics else operator.call
        run(self._write_metrics, losses, waited, iter=self.iter)
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()

    @functools.cached_property  # it starts the loader's processes, so as late as possible
    def _data_loader_iter(self) -> Iterator[Any]:
        return iter(self.data_loader)

    def reset_data_loader(self, data_loader_builder: Callable[[], Iterable[Any]]) -> None:
        """Drop the loader, then build another; never are there two at once."""
        self.data_loader = None
        vars(self).pop("_data_loader_iter", None)
        self.data_loader = data_loader_builder()

    def _write_metrics(self, loss_dict, data_time, prefix="", iter=None) -> None:
        iteration = self.iter if iter is None else iter
        if (iteration + 1) % self.gather_metric_period:
            return
        try:
            self.write_metrics(loss_dict, data_time, iteration, prefix)
        except Exception:  # in another thread, nobody else would tell
            _logger.exception("Exception in writing metrics: ")
            raise

    @staticmethod
    def write_metrics(
        loss_dict: Mapping[str, torch.Tensor], data_time: float, cur_iter: int, prefix: str = ""
    ) -> None:
        """Store the mean of each loss over all processes, their sum, and the longest wait for data.

        Args:
            loss_dict: scalar losses.
            data_time: seconds that this process waited for its batch.
            cur_iter: iteration that they belong to.
            prefix: put before "total_loss".

        Raises:
            FloatingPointError: the sum is not finite.
        """
        put = functools.partial(get_event_storage().put_scalars, cur_iter=cur_iter)
        put(rank_data_time=data_time)
        mine = {name: loss.detach().cpu().item() for name, loss in loss_dict.items()}
        gathered = comm.gather((mine, data_time))
        if not gathered:  # another process has them
            return
        means = {name: np.mean([losses[name] for losses, _ in gathered]) for name in mine}
        total = sum(means.values())
        put(data_time=np.max([waited for _, waited in gathered]))  # all wait for the slowest
        if not np.isfinite(total):
            raise FloatingPointError(f"The loss of iteration={cur_iter} is not finite: {means}")
        put(**({f"{prefix}total_loss": total} | (means if len(means) > 1 else {})))

    def after_train(self) -> None:
        """Call the hooks, then wait for metrics that are still being written."""
        super().after_train()
        self.concurrent_executor.shutdown()


class AMPTrainer(SimpleTrainer):
    """`SimpleTrainer` with automatic mixed precision on CUDA.

    Args:
        model: as in `SimpleTrainer`, on one device.
        data_loader: as in `SimpleTrainer`.
        optimizer: as in `SimpleTrainer`.
        gather_metric_period: as in `SimpleTrainer`.
        zero_grad_before_forward: as in `SimpleTrainer`.
        grad_scaler: scales the loss against underflow; a new one by default.
        precision: lower type of autocast.
        log_grad_scaler: store the scale as "[metric]grad_scaler".
        async_write_metrics: as in `SimpleTrainer`.

    Raises:
        AssertionError: `model` runs on several devices of one process.
    """

    _stateful = ("optimizer", "grad_scaler")

    def __init__(
        self,
        model: nn.Module,
        data_loader: Iterable[Any],
        optimizer: torch.optim.Optimizer,
        gather_metric_period: int = 1,
        zero_grad_before_forward: bool = False,
        grad_scaler: torch.amp.GradScaler | None = None,
        precision: torch.dtype = torch.float16,
        log_grad_scaler: bool = False,
        async_write_metrics: bool = False,
    ):
        devices = getattr(model, "device_ids", None) or ()
        if isinstance(model, DataParallel) or len(devices) > 1:
            raise AssertionError("AMPTrainer does not support several devices in one process")
        options = gather_metric_period, zero_grad_before_forward, async_write_metrics
        super().__init__(model, data_loader, optimizer, *options)
        self._autocast = torch.autocast("cuda", dtype=precision)
        self.grad_scaler = grad_scaler or torch.amp.GradScaler("cuda")
        self.precision, self.log_grad_scaler = precision, log_grad_scaler

    def run_step(self) -> None:
        """Do an iteration in mixed precision.

        Raises:
            AssertionError: there is no CUDA, or the model is in evaluation mode.
        """
        if not torch.cuda.is_available():
            raise AssertionError("[AMPTrainer] CUDA is required for mixed precision")
        if self.log_grad_scaler:
            get_event_storage().put_scalar("[metric]grad_scaler", self.grad_scaler.get_scale())
        super().run_step()


__getattr__ = module_getattr(__name__)
