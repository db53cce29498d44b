"""One thread that computes for many requests, of which a bounded number is let in."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self

from maskrcnn_repro.inference.prediction import Prediction
from maskrcnn_repro.inference.predictor import Predictor
from maskrcnn_repro.serving.limits import Refusal

Predict = Callable[[bytes], Prediction]


def predict_with(model: Predictor) -> Predict:
    """Return the function from the bytes of an image file to a model's prediction."""

    def predict(content: bytes) -> Prediction:
        (prediction,) = model.stream(content)
        return prediction

    return predict


class ModelWorker:
    """Predicts images one by one, in the order in which they come.

    Args:
        predict: the bytes of an image file to its prediction.
        places: for images that are uploaded, wait or are computed.
    """

    def __init__(self, predict: Predict, places: int) -> None:
        self._predict = predict
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._free = threading.BoundedSemaphore(places)
        self._places = places
        self._seconds = 1.0

    def enter(self) -> Place:
        """Take a place, to be used in a ``with`` block.

        Raises:
            Refusal: 503, as none is free.
        """
        if self._free.acquire(blocking=False):
            return Place(self._pool, self._timed, self._free.release)
        wait = max(1, math.ceil(self._seconds * self._places))
        raise Refusal(
            503,
            f"All {self._places} places are taken; try again in {wait} s.",
            {"Retry-After": str(wait)},
        )

    def _timed(self, content: bytes) -> Prediction:
        start = time.monotonic()
        try:
            return self._predict(content)
        finally:
            self._seconds = time.monotonic() - start

    def close(self) -> None:
        """Drop what waits."""
        self._pool.shutdown(wait=False, cancel_futures=True)


class Place:
    """A place in the queue; given back at the end of the block, or of the computation that was begun in it."""

    def __init__(
        self, pool: ThreadPoolExecutor, predict: Predict, leave: Callable[[], None]
    ) -> None:
        self._pool, self._predict, self._leave = pool, predict, leave
        self._is_used = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._is_used:
            self._leave()

    def submit(self, content: bytes) -> Future[Prediction]:
        """Return the prediction to come of an image file; cancelled while it waits, it is not computed."""
        future = self._pool.submit(self._predict, content)
        self._is_used = True
        # A client that gave up does not free the model, which computes on.
        future.add_done_callback(lambda _: self._leave())
        return future
