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

__all__ = ["CommonMetricPrinter", "EventStorage", "JSONWriter", "TensorboardXWriter"]
__all__ += ["get_event_storage", "has_event_storage"]

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

    Attributes:
        iter: number of the current iteration, from 0.
    """

    def __init__(self, start_iter: int = 0) -> None:
        self.iter = start_iter
        self._history: dict[str, HistoryBuffer] = {}
        self._smoothing_hints: dict[str, bool] = {}
        self._latest: dict[str, tuple[float, int]] = {}
        self._prefix = ""
        self.clear_images()
        self.clear_histograms()

    def step(self) -> None:
        """Go on to the next iteration."""
        self.iter += 1

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
        name = self._prefix + name
        known_hint = self._smoothing_hints.setdefault(name, smoothing_hint)
        assert known_hint == smoothing_hint, f"{name!r} was put with smoothing_hint={known_hint}"
        entry = (float(value), self.iter if cur_iter is None else cur_iter)
        self._history.setdefault(name, HistoryBuffer()).update(*entry)
        self._latest[name] = entry

    def put_scalars(self, *, smoothing_hint=True, cur_iter=None, **kwargs: Any) -> None:
        """Add several numbers, ``put_scalars(loss=1.0, accuracy=0.5)``."""
        for name, value in kwargs.items():
            self.put_scalar(name, value, smoothing_hint, cur_iter)

    def put_image(self, img_name: str, img_tensor: Any) -> None:
        """Keep a picture for TensorBoard: (3, H, W) RGB, uint8, or float from 0 to 1."""
        self._vis_data.append((img_name, img_tensor, self.iter))

    def put_histogram(self, hist_name: str, hist_tensor: Tensor, bins: int = 1000) -> None:
        """Keep the values of a tensor for a histogram in TensorBoard."""
        self._histograms.append((hist_name, hist_tensor.detach().clone(), self.iter, bins))

    def clear_images(self) -> None:
        """Forget the pictures; the writer that has written them calls it."""
        self._vis_data: list[tuple[str, Any, int]] = []

    def clear_histograms(self) -> None:
        """Forget the histograms; the writer that has written them calls it."""
        self._histograms: list[tuple[str, Tensor, int, int]] = []

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
        return self._latest

    def latest_with_smoothing_hint(self, window_size: int = 20) -> dict[str, tuple[float, int]]:
        """Return the same, noisy scalars as medians of the last ``window_size`` iterations."""
        return {
            name: (self._median(name, window_size) if self._smoothing_hints[name] else value, when)
            for name, (value, when) in self._latest.items()
        }

    def _median(self, name: str, window_size: int) -> float:
        return self._history[name].median(self.count_samples(name, window_size))

    def count_samples(self, name: str, window_size: int = 20) -> int:
        """Return how many numbers came in the ``window_size`` iterations up to the latest one."""
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
        outer, self._prefix = self._prefix, name.rstrip("/") + "/"
        try:
            yield
        finally:
            self._prefix = outer

    def __enter__(self) -> Self:
        _active.append(self)
        return self

    def __exit__(self, *exception: object) -> None:
        left = _active.pop()
        assert left is self, "storages must be left in the reverse order of entering"


class EventWriter:
    """Base of the classes that read the current storage and write it somewhere."""

    _last_written = -1

    def write(self) -> None:
        """Write what is new."""
        raise NotImplementedError

    def close(self) -> None:
        """Release files."""

    def _new_scalars(self, window_size: int) -> list[tuple[str, float, int]]:
        """Return name, value and iteration of what came since the last call."""
        latest = get_event_storage().latest_with_smoothing_hint(window_size)
        new = [(name, *entry) for name, entry in latest.items() if entry[1] > self._last_written]
        self._last_written = max((when for _, _, when in new), default=self._last_written)
        return new


class JSONWriter(EventWriter):
    """Appends one JSON object per iteration to a file: its scalars and ``iteration``.

    Args:
        json_file: path of the file.
        window_size: iterations that the median of a noisy scalar is taken over.
    """

    def __init__(self, json_file: str, window_size: int = 20) -> None:
        self._file, self._window = PathManager.open(json_file, "a"), window_size

    def write(self) -> None:
        """Write the scalars that came since the last call."""
        rows: dict[int, dict[str, float]] = defaultdict(dict)
        for name, value, iteration in self._new_scalars(self._window):
            rows[iteration][name] = value
        for iteration, row in rows.items():
            print(json.dumps({**row, "iteration": iteration}, sort_keys=True), file=self._file)
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
        self._window, self._options = window_size, {"log_dir": log_dir, **kwargs}

    @functools.cached_property
    def _writer(self) -> Any:
        # Importing TensorBoard takes seconds, and opening it makes a file.
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(**self._options)

    def write(self) -> None:
        """Write what came since the last call; pictures and histograms leave the storage."""
        storage = get_event_storage()
        for scalar in self._new_scalars(self._window):
            self._writer.add_scalar(*scalar)
        for picture in storage._vis_data:
            self._writer.add_image(*picture)
        for histogram in storage._histograms:
            self._writer.add_histogram(*histogram)
        storage.clear_images()
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
        self.logger = logging.getLogger(__name__)
        self._end, self._window = max_iter, window_size
        self._last_write: tuple[int, float] | None = None  # iteration, time

    def write(self) -> None:
        """Log the line; nothing once training is over."""
        storage = get_event_storage()
        if storage.iter == self._end:
            return
        history = storage.histories()
        times = {}
        if "time" in history:
            times["time"] = history["time"].global_avg()
            times["last_time"] = history["time"].latest()
        if "data_time" in history:
            samples = storage.count_samples("data_time", self._window)
            times["data_time"] = history["data_time"].avg(samples)
            times["last_data_time"] = history["data_time"].latest()
        shown_times = "".join(f"{name}: {seconds:.4f}  " for name, seconds in times.items())
        lr = f"{history['lr'].latest():.5g}" if "lr" in history else "N/A"
        memory = ""
        if torch.cuda.is_available():
            memory = f"max_mem: {torch.cuda.max_memory_allocated() / 2**20:.0f}M"
        self.logger.info(
            f" {self._eta(storage)}iter: {storage.iter}  {self._medians(storage, 'loss')}  "
            f"{self._medians(storage, '[metric]')}  {shown_times} lr: {lr}  {memory}"
        )

    def _medians(self, storage: EventStorage, part_of_name: str) -> str:
        names = [name for name in storage.histories() if part_of_name in name]
        return "  ".join(f"{name}: {storage._median(name, self._window):.4g}" for name in names)

    def _eta(self, storage: EventStorage) -> str:
        """Return the remaining time as text, and put it into the storage where it is reliable."""
        if self._end is None:
            return ""
        remaining = self._end - storage.iter - 1
        if "time" in storage.histories():
            seconds = storage.history("time").median(1000) * remaining
            storage.put_scalar("eta_seconds", seconds, smoothing_hint=False)
        else:  # nobody measures iterations: estimate from our own calls
            iteration, now = storage.iter, time.perf_counter()
            before, self._last_write = self._last_write, (iteration, now)
            if before is None or before[0] == iteration:
                return ""
            seconds = remaining * (now - before[1]) / (iteration - before[0])
        return f"eta: {datetime.timedelta(seconds=int(seconds))}  "


__getattr__ = module_getattr(__name__)
