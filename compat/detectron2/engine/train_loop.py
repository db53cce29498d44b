"""The training loop and its hooks."""

import logging
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from detectron2._absent import module_getattr
from detectron2.utils import comm
from detectron2.utils.events import EventStorage, get_event_storage

__all__ = ["AMPTrainer", "HookBase", "SimpleTrainer", "TrainerBase"]


class HookBase:
    """What may be done at five points of the training; every method does nothing by default.

    A trainer calls its hooks in the order of their registration: `before_train` once; then, for each
    iteration, `before_step`, `after_backward` (between backward pass and update) and `after_step`; at last
    `after_train`, also when the training failed. Work that takes time belongs into `after_step`, because timers
    run from `before_step` on.

    Attributes:
        trainer: weak reference to the trainer, set at registration.
    """

    trainer: "TrainerBase" = None

    def before_train(self) -> None:
        """Called before the first iteration."""

    def after_train(self) -> None:
        """Called after the last iteration or a failure; ``trainer.iter == trainer.max_iter`` on success."""

    def before_step(self) -> None:
        """Called at the beginning of each iteration."""

    def after_backward(self) -> None:
        """Called when the gradients of an iteration are there."""

    def after_step(self) -> None:
        """Called at the end of each iteration."""

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint must hold; a hook that returns anything also has ``load_state_dict``."""
        return {}


class TrainerBase:
    """A loop with hooks. A subclass says in `run_step` what an iteration does.

    Attributes:
        iter: current iteration, from 0.
        start_iter: first iteration.
        max_iter: the training ends before this iteration.
        storage: collects the metrics during `train`.
    """

    def __init__(self) -> None:
        self._hooks: list[HookBase] = []
        self.iter = 0
        self.start_iter = 0
        self.max_iter: int
        self.storage: EventStorage

    def register_hooks(self, hooks: Iterable[HookBase | None]) -> None:
        """Append hooks; None is skipped.

        Raises:
            TypeError: something else than a hook.
        """
        for hook in filter(lambda hook: hook is not None, hooks):
            if not isinstance(hook, HookBase):
                raise TypeError(f"a hook must be a HookBase, got {hook!r}")
            hook.trainer = weakref.proxy(self)  # the trainer owns the hook, not the reverse
            self._hooks.append(hook)

    def train(self, start_iter: int, max_iter: int) -> None:
        """Run iterations `start_iter` to ``max_iter - 1``."""
        logger = logging.getLogger(__name__)
        logger.info("Starting training from iteration %d", start_iter)
        self.iter, self.start_iter, self.max_iter = start_iter, start_iter, max_iter
        with EventStorage(start_iter) as storage:
            self.storage = storage
            try:
                self._run_iterations()
            except Exception:
                logger.exception("Exception during training:")
                raise
            finally:
                self.after_train()

    def _run_iterations(self) -> None:
        self.before_train()
        for number in range(self.start_iter, self.max_iter):
            self.iter = number
            self.before_step()
            self.run_step()
            self.after_step()
        self.iter = max(self.start_iter, self.max_iter)

    def _call_hooks(self, point: str) -> None:
        for hook in self._hooks:
            getattr(hook, point)()

    def before_train(self) -> None:
        """Call the hooks before the first iteration."""
        self._call_hooks("before_train")

    def after_train(self) -> None:
        """Call the hooks after the training."""
        self.storage.iter = self.iter
        self._call_hooks("after_train")

    def before_step(self) -> None:
        """Call the hooks at the beginning of an iteration, the storage being at that iteration."""
        self.storage.iter = self.iter
        self._call_hooks("before_step")

    def after_backward(self) -> None:
        """Call the hooks between backward pass and update; `run_step` has to do this."""
        self._call_hooks("after_backward")

    def after_step(self) -> None:
        """Call the hooks at the end of an iteration."""
        self._call_hooks("after_step")

    def run_step(self) -> None:
        """Do one iteration."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """Return the iteration and the states of the hooks by class name; of two alike the first counts."""
        states: dict[str, Any] = {}
        for hook in self._hooks:
            state = hook.state_dict()
            if state:
                states.setdefault(type(hook).__qualname__, state)
        return {"iteration": self.iter} | ({"hooks": states} if states else {})

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned; states of hooks that are not registered are skipped."""
        self.iter = state_dict["iteration"]
        by_name = {type(hook).__qualname__: hook for hook in reversed(self._hooks)}
        for name, state in state_dict.get("hooks", {}).items():
            if name in by_name:
                by_name[name].load_state_dict(state)
            else:
                logging.getLogger(__name__).warning(
                    "Cannot find the hook '%s', its state_dict is ignored.", name
                )


class SimpleTrainer(TrainerBase):
    """One model, one optimizer, one source of data; the model returns its losses.

    Args:
        model: maps an item of `data_loader` to a dict of scalar losses, or to one; set to training mode.
        data_loader: yields a batch per iteration.
        optimizer: updates the model.
        gather_metric_period: collect the losses of all processes every so many iterations.
        zero_grad_before_forward: clear the gradients before the forward instead of before the backward pass.
        async_write_metrics: write the metrics in another thread, so that the loop need not wait for the
            device. A loss that is not finite is then logged and does not end the training.
    """

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
        model.train()
        self.model = model
        self.data_loader = data_loader
        self._data_loader_iter_obj: Iterator[Any] | None = None
        self.optimizer = optimizer
        self.gather_metric_period = gather_metric_period
        self.zero_grad_before_forward = zero_grad_before_forward
        self.async_write_metrics = async_write_metrics
        # One worker, so that the iterations stay in order.
        self.concurrent_executor = ThreadPoolExecutor(max_workers=1)

    def run_step(self) -> None:
        """Load a batch, compute losses and gradients, update."""
        if not self.model.training:
            raise AssertionError(f"[{type(self).__name__}] model was changed to eval mode!")
        batch, data_time = self._next_batch()
        if self.zero_grad_before_forward:
            self.optimizer.zero_grad()
        with self._precision():
            losses = self.model(batch)
            if isinstance(losses, torch.Tensor):
                losses = {"total_loss": losses}
            total = sum(losses.values())
        if not self.zero_grad_before_forward:
            self.optimizer.zero_grad()
        self._backward(total)
        self.after_backward()

        if self.async_write_metrics:
            self.concurrent_executor.submit(self._write_metrics, losses, data_time, iter=self.iter)
        else:
            self._write_metrics(losses, data_time)
        self._update()

    def _next_batch(self) -> tuple[Any, float]:
        """Return a batch and the seconds waited for it."""
        start = time.perf_counter()
        return next(self._data_loader_iter), time.perf_counter() - start

    def _precision(self) -> Any:
        return nullcontext()

    def _backward(self, loss: torch.Tensor) -> None:
        loss.backward()

    def _update(self) -> None:
        self.optimizer.step()

    @property
    def _data_loader_iter(self) -> Iterator[Any]:
        if (
            self._data_loader_iter_obj is None
        ):  # starts the loader's processes, so as late as possible
            self._data_loader_iter_obj = iter(self.data_loader)
        return self._data_loader_iter_obj

    def reset_data_loader(self, data_loader_builder: Callable[[], Iterable[Any]]) -> None:
        """Drop the loader, then build another; never are there two at once."""
        del self.data_loader
        self._data_loader_iter_obj = None
        self.data_loader = data_loader_builder()

    def _write_metrics(
        self,
        loss_dict: Mapping[str, torch.Tensor],
        data_time: float,
        prefix: str = "",
        iter: int | None = None,
    ) -> None:
        iteration = self.iter if iter is None else iter
        if (iteration + 1) % self.gather_metric_period:
            return
        try:
            self.write_metrics(loss_dict, data_time, iteration, prefix)
        except Exception:
            logging.getLogger(__name__).exception("Exception in writing metrics: ")
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
        storage = get_event_storage()
        storage.put_scalar("rank_data_time", data_time, cur_iter=cur_iter)
        mine = {name: loss.detach().cpu().item() for name, loss in loss_dict.items()}
        gathered = comm.gather((mine, data_time))
        if not comm.is_main_process():
            return
        # All processes wait for the slowest.
        slowest = np.max([seconds for _, seconds in gathered])
        storage.put_scalar("data_time", slowest, cur_iter=cur_iter)
        means = {name: np.mean([losses[name] for losses, _ in gathered]) for name in mine}
        total = sum(means.values())
        if not np.isfinite(total):
            raise FloatingPointError(
                f"Loss became infinite or NaN at iteration={cur_iter}!\nloss_dict = {means}"
            )
        storage.put_scalar(f"{prefix}total_loss", total, cur_iter=cur_iter)
        if len(means) > 1:
            storage.put_scalars(cur_iter=cur_iter, **means)

    def after_train(self) -> None:
        """Call the hooks, then wait for metrics that are still being written."""
        super().after_train()
        self.concurrent_executor.shutdown()

    def state_dict(self) -> dict[str, Any]:
        """Return the state of loop, hooks and optimizer."""
        return super().state_dict() | {"optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        super().load_state_dict(state_dict)
        self.optimizer.load_state_dict(state_dict["optimizer"])


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
        several_devices = isinstance(model, DataParallel) or (
            isinstance(model, DistributedDataParallel) and len(model.device_ids or ()) > 1
        )
        if several_devices:
            raise AssertionError("AMPTrainer does not support several devices in one process")
        super().__init__(
            model,
            data_loader,
            optimizer,
            gather_metric_period,
            zero_grad_before_forward,
            async_write_metrics,
        )
        self.grad_scaler = grad_scaler or torch.amp.GradScaler("cuda")
        self.precision = precision
        self.log_grad_scaler = log_grad_scaler

    def run_step(self) -> None:
        """Do an iteration in mixed precision."""
        if not torch.cuda.is_available():
            raise AssertionError("[AMPTrainer] CUDA is required for AMP training!")
        super().run_step()

    def _precision(self) -> Any:
        return torch.autocast("cuda", dtype=self.precision)

    def _backward(self, loss: torch.Tensor) -> None:
        self.grad_scaler.scale(loss).backward()
        if self.log_grad_scaler:
            get_event_storage().put_scalar("[metric]grad_scaler", self.grad_scaler.get_scale())

    def _update(self) -> None:
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()

    def state_dict(self) -> dict[str, Any]:
        """Return the state of loop, hooks, optimizer and scaler."""
        return super().state_dict() | {"grad_scaler": self.grad_scaler.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        super().load_state_dict(state_dict)
        self.grad_scaler.load_state_dict(state_dict["grad_scaler"])


__getattr__ = module_getattr(__name__)
