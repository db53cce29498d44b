"""Evaluators, and the loop that feeds them."""

import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableSequence, Sequence
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from typing import Any

import torch
from torch import nn

from detectron2._absent import module_getattr
from detectron2.utils.comm import get_world_size, is_main_process
from detectron2.utils.logger import log_every_n_seconds


class DatasetEvaluator:
    """Collects inputs and outputs of a model, then measures them."""

    def reset(self) -> None:
        """Forget everything; called before the first batch."""

    def process(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        """Take a batch.

        Args:
            inputs: what the model was given, one entry per image.
            outputs: what it returned, in the same order.
        """

    def evaluate(self) -> dict[str, Any] | None:
        """Return the results, usually task to metrics, e.g. ``{"bbox": {"AP50": 61.3}}``.

        Processes other than the main one may return None.
        """


class DatasetEvaluators(DatasetEvaluator):
    """Several evaluators as one; their results are merged."""

    def __init__(self, evaluators: Iterable[DatasetEvaluator]):
        self._evaluators = list(evaluators)

    def reset(self) -> None:
        for evaluator in self._evaluators:
            evaluator.reset()

    def process(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        for evaluator in self._evaluators:
            evaluator.process(inputs, outputs)

    def evaluate(self) -> dict[str, Any]:
        """Return all results.

        Raises:
            AssertionError: two evaluators use the same key.
        """
        merged: dict[str, Any] = OrderedDict()
        for evaluator in self._evaluators:
            result = evaluator.evaluate() or {}
            if not is_main_process():
                continue
            repeated = sorted(merged.keys() & result.keys())
            if repeated:
                raise AssertionError(
                    f"Different evaluators produce results with the same key: {repeated}"
                )
            merged.update(result)
        return merged


class _Stopwatch:
    """Seconds since the start, and those of them spent in each stage."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self.start = self.last = time.perf_counter()
        self.spent: Counter[str] = Counter()

    def lap(self, stage: str) -> None:
        """Count the time since the last lap for `stage`."""
        now = time.perf_counter()
        self.spent[stage] += now - self.last
        self.last = now


def inference_on_dataset(
    model: Callable[[Any], Any],
    data_loader: Iterable[Any],
    evaluator: DatasetEvaluator | MutableSequence[DatasetEvaluator] | None,
    callbacks: Mapping[str, Callable[[], Any]] | None = None,
) -> dict[str, Any]:
    """Run a model on a data set without gradients, time it and evaluate it.

    Args:
        model: a module is in evaluation mode meanwhile.
        data_loader: yields batches and has a length.
        evaluator: None only measures the time.
        callbacks: functions called at "on_start", "before_inference", "after_inference" and "on_end".

    Returns:
        The evaluator's results; empty where it returns None.
    """
    logger = logging.getLogger(__name__)
    total = len(data_loader)
    logger.info("Start inference on %d batches", total)
    if evaluator is None or isinstance(evaluator, MutableSequence):
        evaluator = DatasetEvaluators(evaluator or [])
    evaluator.reset()

    def call(point: str) -> None:
        if callbacks and point in callbacks:
            callbacks[point]()

    warmup = max(0, min(5, total - 1))
    watch = _Stopwatch()
    mode = inference_context(model) if isinstance(model, nn.Module) else nullcontext()
    with mode, torch.no_grad():
        call("on_start")
        for index, inputs in enumerate(data_loader):
            watch.lap("Dataloading")
            if index == warmup:
                watch.restart()
            call("before_inference")
            outputs = model(inputs)
            call("after_inference")
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            watch.lap("Inference")
            evaluator.process(inputs, outputs)
            watch.lap("Eval")
            counted = index + 1 - (warmup if index >= warmup else 0)
            if index >= 2 * warmup or watch.spent["Inference"] > 5 * counted:
                _log_progress(watch, counted, index + 1, total)
        call("on_end")
    _log_total(watch, max(1, total - warmup))
    return evaluator.evaluate() or {}


def _log_progress(watch: _Stopwatch, counted: int, done: int, total: int) -> None:
    per_batch = (time.perf_counter() - watch.start) / counted
    stages = ("Dataloading", "Inference", "Eval")
    parts = [f"{stage}: {watch.spent[stage] / counted:.4f} s/iter." for stage in stages]
    log_every_n_seconds(
        logging.INFO,
        f"Inference done {done}/{total}. {' '.join(parts)} Total: {per_batch:.4f} s/iter. "
        f"ETA={timedelta(seconds=int(per_batch * (total - done)))}",
        n=5,
    )


def _log_total(watch: _Stopwatch, counted: int) -> None:
    """Log the time of this process, before it waits for the others."""
    total, compute = time.perf_counter() - watch.start, watch.spent["Inference"]
    for what, seconds in (("time", total), ("pure compute time", compute)):
        logging.getLogger(__name__).info(
            "Total inference %s: %s (%.6f s / iter per device, on %d devices)",
            *(what, timedelta(seconds=int(seconds)), seconds / counted, get_world_size()),
        )


@contextmanager
def inference_context(model: nn.Module) -> Iterator[None]:
    """Set a model to evaluation mode for the time of a ``with`` block."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


__getattr__ = module_getattr(__name__)
