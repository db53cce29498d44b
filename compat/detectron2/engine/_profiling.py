"""Hooks that measure time and memory, and the one that recomputes batch-norm statistics."""

import itertools
import logging
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from fvcore.nn.precise_bn import get_bn_modules, update_bn_stats
from torch import nn

from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from detectron2.utils.file_io import PathManager

from .train_loop import HookBase, TrainerBase

MIB = 1024 * 1024


def is_due(trainer: TrainerBase, period: int) -> bool:
    """Whether the iteration ends a period (0: there are none) or is the last one."""
    next_iter = trainer.iter + 1
    return (period > 0 and next_iter % period == 0) or next_iter == trainer.max_iter


class TorchProfiler(HookBase):
    """Runs `torch.profiler` in chosen iterations.

    Args:
        enable_predicate: given the trainer at the start of an iteration, says whether to profile it, e.g.
            ``lambda trainer: 10 < trainer.iter < 20``. The first iterations are rarely typical.
        output_dir: the traces go there.
        activities: as in `torch.profiler.profile`.
        save_tensorboard: write for TensorBoard, below ``log/``; otherwise for ``chrome://tracing``.
    """

    def __init__(
        self,
        enable_predicate: Callable[[TrainerBase], bool],
        output_dir: str,
        *,
        activities: Iterable[Any] | None = None,
        save_tensorboard: bool = True,
    ):
        self._enable_predicate = enable_predicate
        self._output_dir = output_dir
        self._activities = activities
        self._save_tensorboard = save_tensorboard
        self._profiler: Any = None

    def _new_profiler(self) -> Any:
        on_trace_ready = None
        if self._save_tensorboard:
            folder = f"log/profiler-tensorboard-iter{self.trainer.iter}"
            on_trace_ready = torch.profiler.tensorboard_trace_handler(
                os.path.join(self._output_dir, folder), f"worker{comm.get_rank()}"
            )
        details = dict.fromkeys(
            ("record_shapes", "profile_memory", "with_stack", "with_flops"), True
        )
        return torch.profiler.profile(
            activities=self._activities, on_trace_ready=on_trace_ready, **details
        )

    def before_step(self) -> None:
        self._profiler = self._new_profiler() if self._enable_predicate(self.trainer) else None
        if self._profiler is not None:
            self._profiler.__enter__()

    def after_step(self) -> None:
        if self._profiler is None:
            return
        self._profiler.__exit__(None, None, None)
        if self._save_tensorboard:
            return
        PathManager.mkdirs(self._output_dir)
        name = f"profiler-trace-iter{self.trainer.iter}.json"
        self._profiler.export_chrome_trace(os.path.join(self._output_dir, name))


class AutogradProfiler(TorchProfiler):
    """Runs `torch.autograd.profiler` in chosen iterations; `TorchProfiler` has taken its place.

    Args:
        enable_predicate: as in `TorchProfiler`.
        output_dir: as in `TorchProfiler`.
        use_cuda: time CUDA kernels, too.
    """

    def __init__(
        self,
        enable_predicate: Callable[[TrainerBase], bool],
        output_dir: str,
        *,
        use_cuda: bool = True,
    ):
        warnings.warn("AutogradProfiler is deprecated; use TorchProfiler", stacklevel=2)
        super().__init__(enable_predicate, output_dir, save_tensorboard=False)
        self._device = "cuda" if use_cuda else None

    def _new_profiler(self) -> Any:
        return torch.autograd.profiler.profile(use_device=self._device)


class PreciseBN(HookBase):
    """Replaces the moving averages of batch norm by averages over `num_iter` batches.

    Args:
        period: run every so many iterations; 0 runs after the last one only.
        model: its batch norms in training mode are updated.
        data_loader: yields what the model takes.
        num_iter: batches to average over.
    """

    def __init__(self, period: int, model: nn.Module, data_loader: Iterable[Any], num_iter: int):
        self._logger = logging.getLogger(__name__)
        self._period = period
        self._model = model
        self._data_loader = data_loader
        self._num_iter = num_iter
        self._batches: Iterator[Any] | None = None
        self._disabled = not get_bn_modules(model)
        if self._disabled:
            self._logger.info(
                "PreciseBN is disabled: no batch norm of the model is in training mode"
            )

    def after_step(self) -> None:
        if is_due(self.trainer, self._period):
            self.update_stats()

    def update_stats(self) -> None:
        """Recompute the statistics now; the next call goes on with the batches that follow."""
        if self._disabled:
            return
        if self._batches is None:
            self._batches = iter(self._data_loader)
        self._logger.info("Running precise-BN for %d iterations ...", self._num_iter)
        with EventStorage():  # takes what the model stores in these forward passes
            update_bn_stats(self._model, self._logged(self._batches), self._num_iter)

    def _logged(self, batches: Iterator[Any]) -> Iterator[Any]:
        for number in itertools.count(1):
            if number % 100 == 0:
                self._logger.info(
                    "Running precise-BN ... %d/%d iterations.", number, self._num_iter
                )
            yield next(batches)


class TorchMemoryStats(HookBase):
    """Logs the CUDA memory in use, and the peak since the last time.

    Args:
        period: iterations between two lines.
        max_runs: lines at most; torch's table of all allocations comes with the last.
    """

    def __init__(self, period: int = 20, max_runs: int = 10):
        self._logger = logging.getLogger(__name__)
        self._period = period
        self._max_runs = max_runs
        self._runs = 0

    def after_step(self) -> None:
        if not (
            torch.cuda.is_available()
            and self._runs < self._max_runs
            and is_due(self.trainer, self._period)
        ):
            return
        kinds = (
            "max_memory_reserved",
            "memory_reserved",
            "max_memory_allocated",
            "memory_allocated",
        )
        used = (f"{kind}: {getattr(torch.cuda, kind)() / MIB:.0f}MB" for kind in kinds)
        self._logger.info("iter: %d  %s", self.trainer.iter, "  ".join(used))
        self._runs += 1
        if self._runs == self._max_runs:
            self._logger.info("\n%s", torch.cuda.memory_summary())
        torch.cuda.reset_peak_memory_stats()
