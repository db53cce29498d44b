"""Evaluators, and the loop that feeds them."""

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableSequence, Sequence
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from time import perf_counter
from typing import Any

import torch
from torch import nn

from detectron2._absent import module_getattr
from detectron2.utils.comm import get_world_size, is_main_process
from detectron2.utils.logger import log_every_n_seconds

__all__ = ["DatasetEvaluator", "DatasetEvaluators", "inference_context", "inference_on_dataset"]

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
        callbacks: functions called at "on_start", "before_inference", "after_inference" and
            "on_end".

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
    start, compute, counted = perf_counter(), 0.0, 1
    mode = inference_context(model) if isinstance(model, nn.Module) else nullcontext()
    with mode, torch.no_grad():
        call["on_start"]()
        for index, inputs in enumerate(data_loader):
            if index == warmup:  # the first batches take longer
                start, compute = perf_counter(), 0.0
            begin = perf_counter()
            call["before_inference"]()
            outputs = model(inputs)
            call["after_inference"]()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            compute += perf_counter() - begin
            evaluator.process(inputs, outputs)
            counted = max(1, index + 1 - warmup)
            if index >= 2 * warmup:
                mean, done = (perf_counter() - start) / counted, index + 1
                log_every_n_seconds(
                    logging.INFO,
                    f"Inference done {done}/{length}. {mean:.4f} s / iter, of them "
                    f"{compute / counted:.4f} in the model. "
                    f"ETA={timedelta(seconds=int(mean * (length - done)))}",
                    n=5,
                )
        call["on_end"]()
    # The time of this process, before it waits for the others.
    for what, seconds in (("time", perf_counter() - start), ("pure compute time", compute)):
        _logger.info(
            "Total inference %s: %s (%.6f s / iter per device, on %d devices)",
            *(what, timedelta(seconds=int(seconds)), seconds / counted, get_world_size()),
        )
    return evaluator.evaluate() or {}


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
