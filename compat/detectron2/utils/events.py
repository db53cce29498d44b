"""Numbers that a training run produces, and where they are written.

Code anywhere puts scalars into the current EventStorage; writers read it from time to time.
"""

import contextlib
import datetime
import functools
import io
import json
import logging
import os
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, Self

import torch
from fvcore.common.history_buffer import HistoryBuffer
from torch import Tensor

from detectron2._absent import module_getattr
from detectron2.utils.file_io import PathManager

__all__ = [
    "CommonMetricPrinter",
    "EventStorage",
    "JSONWriter",
    "TensorboardXWriter",
    "get_event_storage",
    "has_event_storage",
]

_active: list["EventStorage"] = []


def get_event_storage() -> "EventStorage":
    """Return the storage of the innermost ``with EventStorage(...)``.

    Raises:
        AssertionError: there is none.
    """
    assert _active, "get_event_storage() works only inside a 'with EventStorage(...)' block"
    return _active[-1]


def has_event_storage() -> bool:
    """Tell whether we are inside a ``with EventStorage(...)``."""
    return bool(_active)


class EventStorage:
    """Histories of named scalars; images and histograms until they are written.

    Args:
        start_iter: number of the first iteration.
    """

    def __init__(self, start_iter: int = 0) -> None:
        self.iter = start_iter
        self._history: dict[str, HistoryBuffer] = defaultdict(HistoryBuffer)
        self._smoothing_hints: dict[str, bool] = {}
        self._latest_scalars: dict[str, tuple[float, int]] = {}
        self._current_prefix = ""
        self.clear_images()
        self.clear_histograms()

    @property
    def iter(self) -> int:
        """Number of the current iteration, from 0."""
        return self._iter

    @iter.setter
    def iter(self, val: int) -> None:
        self._iter = int(val)

    @property
    def iteration(self) -> int:
        """The same as ``iter``."""
        return self._iter

    def step(self) -> None:
        """Go on to the next iteration."""
        self._iter += 1

    def put_scalar(
        self, name: str, value: Any, smoothing_hint: bool = True, cur_iter: int | None = None
    ) -> None:
        """Add a number to a history.

        Args:
            name: of the history; the current name scope is put before it.
            value: anything that ``float`` accepts.
            smoothing_hint: the number is noisy, and writers should show a median.
            cur_iter: the iteration that it belongs to; by default the current one.

        Raises:
            AssertionError: earlier numbers of this name had another hint.
        """
        name, value = self._current_prefix + name, float(value)
        cur_iter = self._iter if cur_iter is None else cur_iter
        known_hint = self._smoothing_hints.setdefault(name, smoothing_hint)
        assert known_hint == smoothing_hint, (
            f"{name!r} was put with smoothing_hint={known_hint} before"
        )
        self._history[name].update(value, cur_iter)
        self._latest_scalars[name] = (value, cur_iter)

    def put_scalars(
        self, *, smoothing_hint: bool = True, cur_iter: int | None = None, **kwargs: Any
    ) -> None:
        """Add several numbers, ``put_scalars(loss=1.0, accuracy=0.5)``."""
        for name, value in kwargs.items():
            self.put_scalar(name, value, smoothing_hint, cur_iter)

    def put_image(self, img_name: str, img_tensor: Any) -> None:
        """Keep a picture for TensorBoard: (3, H, W) RGB, uint8, or float from 0 to 1."""
        self._vis_data.append((img_name, img_tensor, self._iter))

    def put_histogram(self, hist_name: str, hist_tensor: Tensor, bins: int = 1000) -> None:
        """Keep a histogram of the values of a tensor for TensorBoard."""
        low, high = (bound.item() for bound in hist_tensor.aminmax())
        edges = torch.linspace(low, high, steps=bins + 1)
        self._histograms.append(
            {
                "tag": hist_name,
                "min": low,
                "max": high,
                "num": len(hist_tensor),
                "sum": hist_tensor.sum().item(),
                "sum_squares": hist_tensor.square().sum().item(),
                "bucket_limits": edges[1:].tolist(),
                "bucket_counts": torch.histc(hist_tensor, bins).tolist(),
                "global_step": self._iter,
            }
        )

    def clear_images(self) -> None:
        """Forget the pictures; the writer that has written them calls it."""
        self._vis_data: list[tuple[str, Any, int]] = []

    def clear_histograms(self) -> None:
        """Forget the histograms; the writer that has written them calls it."""
        self._histograms: list[dict[str, Any]] = []

    def history(self, name: str) -> HistoryBuffer:
        """Return the history of a scalar.

        Raises:
            KeyError: nothing was put under this name.
        """
        if name not in self._history:
            raise KeyError(f"No scalar {name!r} was put into the storage.")
        return self._history[name]

    def histories(self) -> dict[str, HistoryBuffer]:
        """Return all histories by name."""
        return self._history

    def latest(self) -> dict[str, tuple[float, int]]:
        """Return the last number of each scalar, and its iteration."""
        return self._latest_scalars

    def latest_with_smoothing_hint(self, window_size: int = 20) -> dict[str, tuple[float, int]]:
        """Return the same, noisy scalars as the median of what came in the last ``window_size`` iterations."""
        return {
            name: (
                self._smoothed(name, window_size) if self._smoothing_hints[name] else value,
                iteration,
            )
            for name, (value, iteration) in self._latest_scalars.items()
        }

    def _smoothed(self, name: str, window_size: int) -> float:
        return self._history[name].median(self.count_samples(name, window_size))

    def count_samples(self, name: str, window_size: int = 20) -> int:
        """Return how many numbers came in the last ``window_size`` iterations before the latest number."""
        iterations = [iteration for _, iteration in self._history[name].values()]
        # Only the unbroken run at the end counts: after a resume, iterations can repeat.
        for count, iteration in enumerate(reversed(iterations)):
            if iteration <= iterations[-1] - window_size:
                return count
        return len(iterations)

    def smoothing_hints(self) -> dict[str, bool]:
        """Return for each scalar whether it is noisy."""
        return self._smoothing_hints

    @contextlib.contextmanager
    def name_scope(self, name: str) -> Iterator[None]:
        """Put ``name/`` before the names of all scalars in a ``with`` block."""
        outer, self._current_prefix = self._current_prefix, name.rstrip("/") + "/"
        try:
            yield
        finally:
            self._current_prefix = outer

    def __enter__(self) -> Self:
        _active.append(self)
        return self

    def __exit__(self, *exception: object) -> None:
        left = _active.pop()
        assert left is self, "storages must be left in the reverse order of entering"


class EventWriter:
    """Base of the classes that read the current storage and write it somewhere."""

    def write(self) -> None:
        """Write what is new."""
        raise NotImplementedError

    def close(self) -> None:
        """Release files."""


class JSONWriter(EventWriter):
    """Appends one JSON object per iteration to a file: its scalars and ``iteration``.

    Args:
        json_file: path of the file.
        window_size: iterations that the median of a noisy scalar is taken over.
    """

    def __init__(self, json_file: str, window_size: int = 20) -> None:
        self._file = PathManager.open(json_file, "a")
        self._window_size = window_size
        self._last_written = -1

    def write(self) -> None:
        """Write the scalars that came since the last call."""
        rows: dict[int, dict[str, float]] = defaultdict(dict)
        latest = get_event_storage().latest_with_smoothing_hint(self._window_size)
        for name, (value, iteration) in latest.items():
            if iteration > self._last_written:
                rows[iteration][name] = value
        for iteration, row in rows.items():
            print(json.dumps({**row, "iteration": iteration}, sort_keys=True), file=self._file)
        self._last_written = max(rows, default=self._last_written)
        self._file.flush()
        with contextlib.suppress(AttributeError, io.UnsupportedOperation):  # remote files
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class TensorboardXWriter(EventWriter):
    """Writes scalars, pictures and histograms for TensorBoard.

    Args:
        log_dir: folder of the event files.
        window_size: iterations that the median of a noisy scalar is taken over.
        **kwargs: for ``torch.utils.tensorboard.SummaryWriter``.
    """

    def __init__(self, log_dir: str, window_size: int = 20, **kwargs: Any) -> None:
        self._window_size = window_size
        self._options = {"log_dir": log_dir, **kwargs}
        self._last_written = -1

    @functools.cached_property
    def _writer(self) -> Any:
        # Importing TensorBoard takes seconds, and opening it makes a file.
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(**self._options)

    def write(self) -> None:
        """Write what came since the last call, and take pictures and histograms out of the storage."""
        storage = get_event_storage()
        newest = self._last_written
        for name, (value, iteration) in storage.latest_with_smoothing_hint(
            self._window_size
        ).items():
            if iteration > self._last_written:
                self._writer.add_scalar(name, value, iteration)
                newest = max(newest, iteration)
        self._last_written = newest
        for name, picture, iteration in storage._vis_data:
            self._writer.add_image(name, picture, iteration)
        storage.clear_images()
        for histogram in storage._histograms:
            self._writer.add_histogram_raw(**histogram)
        storage.clear_histograms()

    def close(self) -> None:
        """Close the event file, if one was opened."""
        if "_writer" in vars(self):
            self._writer.close()


class CommonMetricPrinter(EventWriter):
    """Logs one line: remaining time, iteration, losses, times, learning rate, GPU memory.

    Args:
        max_iter: iterations of the whole training; None leaves out the remaining time.
        window_size: iterations that medians and means are taken over.
    """

    def __init__(self, max_iter: int | None = None, window_size: int = 20) -> None:
        self.logger = logging.getLogger("detectron2.utils.events")
        self._max_iter = max_iter
        self._window_size = window_size
        self._last_write: tuple[int, float] | None = None  # iteration, time

    def write(self) -> None:
        """Log the line; nothing once training is over."""
        storage = get_event_storage()
        if storage.iter == self._max_iter:
            return
        eta = self._eta(storage)
        lr = _if_present(storage, "lr", lambda lr: f"{lr.latest():.5g}") or "N/A"
        memory = ""
        if torch.cuda.is_available():
            memory = f"max_mem: {torch.cuda.max_memory_allocated() / 2**20:.0f}M"
        self.logger.info(
            f" {f'eta: {eta}  ' if eta else ''}iter: {storage.iter}  {self._medians(storage, 'loss')}  "
            f"{self._medians(storage, '[metric]')}  {self._times(storage)} lr: {lr}  {memory}"
        )

    def _medians(self, storage: EventStorage, part_of_name: str) -> str:
        return "  ".join(
            f"{name}: {storage._smoothed(name, self._window_size):.4g}"
            for name in storage.histories()
            if part_of_name in name
        )

    def _times(self, storage: EventStorage) -> str:
        """Return seconds per iteration and of waiting for data; empty in the first iterations."""

        def mean_data_time(history: HistoryBuffer) -> float:
            return history.avg(storage.count_samples("data_time", self._window_size))

        shown = {
            "time": _if_present(storage, "time", HistoryBuffer.global_avg),
            "last_time": _if_present(storage, "time", HistoryBuffer.latest),
            "data_time": _if_present(storage, "data_time", mean_data_time),
            "last_data_time": _if_present(storage, "data_time", HistoryBuffer.latest),
        }
        return "".join(
            f"{name}: {value:.4f}  " for name, value in shown.items() if value is not None
        )

    def _eta(self, storage: EventStorage) -> str | None:
        """Return the remaining time as text, and put it into the storage where it is reliable."""
        if self._max_iter is None:
            return None
        remaining = self._max_iter - storage.iter - 1
        seconds = _if_present(storage, "time", lambda time: time.median(1000) * remaining)
        if seconds is not None:
            storage.put_scalar("eta_seconds", seconds, smoothing_hint=False)
        else:  # nobody measures iterations: estimate from our own calls
            now = (storage.iter, time.perf_counter())
            if self._last_write is not None and now[0] > self._last_write[0]:
                seconds = (
                    remaining * (now[1] - self._last_write[1]) / (now[0] - self._last_write[0])
                )
            self._last_write = now
        return None if seconds is None else str(datetime.timedelta(seconds=int(seconds)))


def _if_present(storage: EventStorage, name: str, read: Any) -> Any:
    """Return ``read(history)``, or None when there is no such scalar."""
    return read(storage.histories()[name]) if name in storage.histories() else None


__getattr__ = module_getattr(__name__)
