"""Evaluators, and the loop that feeds them."""

import logging
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableSequence, Sequence
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from typing import Any

import torch
from torch import nn

from detectron2._absent import module_getattr
from detectron2.utils.comm import get_world_size, is_main_process
from detectron2.utils.logger import log_every_n_seconds

_logger = logging.getLogger(__name__)


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
        for each in self._evaluators:
            each.reset()

    def process(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        for each in self._evaluators:
            each.process(inputs, outputs)

    def evaluate(self) -> dict[str, Any]:
        """Return all results.

        Raises:
            AssertionError: two evaluators use the same key.
        """
        merged: dict[str, Any] = {}
        for result in [each.evaluate() for each in self._evaluators]:
            if result and is_main_process():
                repeated = sorted(merged.keys() & result.keys())
                if repeated:
                    raise AssertionError(f"two evaluators have results of the same key: {repeated}")
                merged |= result
        return merged


class _Stopwatch:
    """Seconds spent in each stage, and batches done, since the last restart."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self.last, self.batches = time.perf_counter(), 0
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
    length = len(data_loader)
    _logger.info("Start inference on %d batches", length)
    if evaluator is None or isinstance(evaluator, MutableSequence):
        evaluator = DatasetEvaluators(evaluator or [])
    evaluator.reset()
    call = defaultdict(lambda: lambda: None, callbacks or {})
    warmup = min(5, length - 1)
    watch = _Stopwatch()
    mode = inference_context(model) if isinstance(model, nn.Module) else nullcontext()
    with mode, torch.no_grad():
        call["on_start"]()
        for index, inputs in enumerate(data_loader):
            watch.lap("Dataloading")
            if index == warmup:
                watch.restart()
            call["before_inference"]()
            outputs = model(inputs)
            call["after_inference"]()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            watch.lap("Inference")
            evaluator.process(inputs, outputs)
            watch.lap("Eval")
            watch.batches += 1
            if index >= 2 * warmup:
                _log_progress(watch, index + 1, length)
        call["on_end"]()
    # The time of this process, before it waits for the others.
    totals = {"time": watch.spent.total(), "pure compute time": watch.spent["Inference"]}
    for what, seconds in totals.items():
        per_batch = seconds / max(1, watch.batches)
        _logger.info(
            "Total inference %s: %s (%.6f s / iter per device, on %d devices)",
            *(what, timedelta(seconds=int(seconds)), per_batch, get_world_size()),
        )
    return evaluator.evaluate() or {}


def _log_progress(watch: _Stopwatch, done: int, total: int) -> None:
    mean = {stage: seconds / watch.batches for stage, seconds in watch.spent.items()}
    mean["Total"] = sum(mean.values())
    stages = " ".join(f"{stage}: {seconds:.4f} s/iter." for stage, seconds in mean.items())
    eta = timedelta(seconds=int(mean["Total"] * (total - done)))
    log_every_n_seconds(logging.INFO, f"Inference done {done}/{total}. {stages} ETA={eta}", n=5)


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
