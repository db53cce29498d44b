"""The test images of records drawn again, once for all: what was drawn is kept, so that a second report is quick.

Shape legend: B draws.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from maskrcnn_repro.errors import OutputError, UserError
from maskrcnn_repro.evaluation.resampling import draw_images
from maskrcnn_repro.evaluation.table import PRECISIONS
from maskrcnn_repro.tables.paper.numbers import Metric
from maskrcnn_repro.tables.report.draw_files import (
    Resampled,
    are_mostly_empty,
    stored_draws,
    why_lost,
    write_draws,
)
from maskrcnn_repro.tables.report.matching import is_drawn, matches_of, select_metrics
from maskrcnn_repro.tables.report.statistics import DRAWS, SEED
from maskrcnn_repro.tables.runs.records import Record

from tqdm import tqdm


class Resampler:
    """Draws the test images of records again, the same draws for all, and remembers the results.

    Args:
        draws: B.
        say: is told what takes long, one line each.

    Attributes:
        problems: record and task to the reason why its images cannot be drawn again.
    """

    def __init__(self, draws: int = DRAWS, say: Callable[[str], None] = lambda line: None) -> None:
        self.problems: dict[tuple[Path, str], str] = {}
        self._draws = draws
        self._say = say
        self._resampled: dict[tuple[Path, str], Resampled | None] = {}

    def prepare(self, pairs: Iterable[tuple[Record, Metric]]) -> None:
        """Do what :meth:`of` will be asked for, and tell how far it is."""
        missing = {}
        for record, metric in pairs:
            place = (record.path, metric.task)
            if place not in self._resampled and _has_draws(record, metric):
                there = stored_draws(record, metric.task, self._draws)
                if there is None and not record.kept:
                    missing[place] = record
                else:
                    self._resampled[place] = there
                if there is None and record.kept:
                    why = why_lost(record, metric.task, self._draws)
                    self.problems[place] = why
        if not missing:
            return
        self._say(f"Drawing test images again, for intervals: {len(missing)} evaluations.")
        # A bar on a terminal alone.
        for (path, task), record in tqdm(missing.items(), unit="evaluation", disable=None):
            self._resampled[path, task] = self._resample(record, task)

    def of(self, record: Record, metric: Metric) -> Resampled | None:
        """Return the draws of a record; None if the metric has none, or if :attr:`problems` says why not."""
        self.prepare([(record, metric)])
        return (
            self._resampled.get((record.path, metric.task))
            if is_drawn(metric.task, metric.key)
            else None
        )

    def problems_of(self, records: Iterable[Record]) -> list[str]:
        """Return what :attr:`problems` says of some records, each once, with its tasks."""
        tasks: dict[tuple[str, str], dict[str, None]] = {}
        for record in records:
            for (path, task), why in self.problems.items():
                if path == record.path:
                    tasks.setdefault((_title(record), why), {})[PRECISIONS.get(task, task)] = None
        return [
            f"{title}: no interval ({', '.join(names)}): {why}"
            for (title, why), names in tasks.items()
        ]

    def _resample(self, record: Record, task: str) -> Resampled | None:
        try:
            matches = matches_of(record, task)
        except UserError as error:
            self.problems[record.path, task] = str(error).rstrip(".")
            return None
        images = len(matches.image_ids)
        draws = Resampled(images, matches.resampled(draw_images(images, self._draws, SEED)))
        if are_mostly_empty(draws, task):
            self.problems[record.path, task] = f"most draws of {images} images hold no object"
            return None
        try:
            write_draws(record, task, self._draws, draws)
        except OutputError as error:
            self._say(f"{error} The next report draws again.")
        return draws


def _title(record: Record) -> str:
    """Return a record for people: the folder of a run; experiment and seed of one that is kept with the code."""
    folder = record.path.parent
    return f"{folder.name} seed {record.seed}" if record.kept else str(folder)


def _has_draws(record: Record, metric: Metric) -> bool:
    """Tell whether a metric is one of all objects, and was measured."""
    return (
        is_drawn(metric.task, metric.key)
        and select_metrics(record, metric.task).get(metric.key) is not None
    )
