"""Values on their way through a chain of steps: computed ahead in a thread, put together to batches."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


def compute_ahead(
    pool: ThreadPoolExecutor, function: Callable[[A], B], values: Iterator[A], count: int
) -> Iterator[tuple[A, Future[B]]]:
    """Yield each value with the future of its result, while the next ``count`` are computed."""
    waiting: deque[tuple[A, Future[B]]] = deque()
    try:
        for value in values:
            waiting.append((value, pool.submit(function, value)))
            if len(waiting) > count:
                yield waiting.popleft()
        while waiting:
            yield waiting.popleft()
    finally:
        for _, future in waiting:
            future.cancel()


def batches(values: Iterator[A], size: int, key: Callable[[A], object]) -> Iterator[list[A]]:
    """Yield up to ``size`` values at a time that follow each other and have the same key."""
    for _, group in itertools.groupby(values, key):
        while batch := list(itertools.islice(group, size)):
            yield batch
