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


class _StageTimes:
    """Seconds spent in each stage of the inference loop, after the warmup."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self.spent: Counter[str] = Counter()
        self.start = time.perf_counter()

    @property
    def total(self) -> float:
        return time.perf_counter() - self.start

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.spent[stage] += time.perf_counter() - start

    def batches(self, loader: Iterable[Any]) -> Iterator[Any]:
        """Yield from `loader`, measuring as "data" how long each batch takes."""
        iterator, end = iter(loader), object()
        while True:
            with self.measure("data"):
                batch = next(iterator, end)
            if batch is end:
                return
            yield batch


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
    times = _StageTimes()
    mode = inference_context(model) if isinstance(model, nn.Module) else nullcontext()
    with mode, torch.no_grad():
        call("on_start")
        for index, inputs in enumerate(times.batches(data_loader)):
            if index == warmup:
                times.restart()
            with times.measure("inference"):
                call("before_inference")
                outputs = model(inputs)
                call("after_inference")
                if torch.cuda.is_available():
                    torch.cuda.synchronize()
            with times.measure("eval"):
                evaluator.process(inputs, outputs)
            counted = index + 1 - (warmup if index >= warmup else 0)
            is_slow = times.spent["inference"] > 5 * counted
            if index >= 2 * warmup or is_slow:
                _log_progress(times, counted, index + 1, total)
        call("on_end")
    _log_total(times, max(1, total - warmup))
    return evaluator.evaluate() or {}


def _log_progress(times: _StageTimes, counted: int, done: int, total: int) -> None:
    seconds = times.total / counted
    data, inference, evaluation = (
        f"{times.spent[stage] / counted:.4f} s/iter" for stage in ("data", "inference", "eval")
    )
    log_every_n_seconds(
        logging.INFO,
        f"Inference done {done}/{total}. Dataloading: {data}. Inference: {inference}. "
        f"Eval: {evaluation}. Total: {seconds:.4f} s/iter. "
        f"ETA={timedelta(seconds=int(seconds * (total - done)))}",
        n=5,
    )


def _log_total(times: _StageTimes, counted: int) -> None:
    """Log the time of this process, before it waits for the others."""
    for what, seconds, duration in (
        ("time", times.total, timedelta(seconds=times.total)),
        (
            "pure compute time",
            times.spent["inference"],
            timedelta(seconds=int(times.spent["inference"])),
        ),
    ):
        logging.getLogger(__name__).info(
            "Total inference %s: %s (%.6f s / iter per device, on %d devices)",
            *(what, duration, seconds / counted, get_world_size()),
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
