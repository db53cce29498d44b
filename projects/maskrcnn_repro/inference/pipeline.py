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
    """Yield each value with the future of its result, while the next ``count`` are computed.

    An error of ``values`` is raised behind the values before it.
    """
    waiting: deque[tuple[A, Future[B]]] = deque()
    errors: list[Exception] = []
    try:
        for value in _until_error(values, errors):
            waiting.append((value, pool.submit(function, value)))
            if len(waiting) > count:
                yield waiting.popleft()
        while waiting:
            yield waiting.popleft()
        if errors:
            raise errors.pop()
    finally:
        for _, future in waiting:
            future.cancel()


def batches(values: Iterator[A], size: int, key: Callable[[A], object]) -> Iterator[list[A]]:
    """Yield up to ``size`` values at a time that follow each other and have the same key.

    An error of ``values`` is raised behind the values before it.
    """
    errors: list[Exception] = []
    for _, group in itertools.groupby(_until_error(values, errors), key):
        while batch := list(itertools.islice(group, size)):
            yield batch
    if errors:
        raise errors.pop()


def _until_error(values: Iterator[A], errors: list[Exception]) -> Iterator[A]:
    """Yield the values up to an error, which is noted and not raised."""
    try:
        yield from values
    except Exception as error:  # noqa: BLE001 (the caller raises it, later)
        errors.append(error)
