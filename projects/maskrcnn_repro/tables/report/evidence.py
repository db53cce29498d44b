"""What records say of a difference between rows: its mean over seeds, and the interval of that mean."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from maskrcnn_repro.tables.paper.numbers import Metric, Row
from maskrcnn_repro.tables.report.gather import Found, value_of
from maskrcnn_repro.tables.report.resampled import Resampled, Resampler, dataset_of
from maskrcnn_repro.tables.report.statistics import Interval, interval
from maskrcnn_repro.tables.runs.records import Record

T = TypeVar("T")

Formula = Callable[[Callable[[str, str], Any]], Any]
"""A difference: it takes what gives the value (number or array) of a row's id and a metric's name."""


@dataclass(frozen=True)
class Comparison:
    """A difference between rows.

    Attributes:
        gap: mean over ``seeds``, AP points.
        seeds: those that all rows have, sorted, without ``left_out``.
        interval: of that mean; None where ``note`` says why not.
        left_out: seeds whose images cannot be drawn again, while those of others can.
        note: why there is no interval.
    """

    gap: float
    seeds: tuple[int, ...]
    interval: Interval | None
    left_out: tuple[int, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Evidence:
    """The records that rows are compared by.

    Attributes:
        found: records by experiment and seed.
        columns: all metrics by name.
        resampler: draws images again.
    """

    found: Found
    columns: Mapping[str, Metric]
    resampler: Resampler

    def prepare(self, wanted: Iterable[tuple[Row, str]]) -> None:
        """Draw again the images of all records of some rows, each with the name of a metric."""
        self.resampler.prepare(
            (record, self.columns[metric])
            for row, metric in wanted
            for record in self.records(row).values()
        )

    def records(self, row: Row) -> Mapping[int, Record]:
        """Return the records of a row by seed."""
        return self.found.records.get(row.experiment or "", {})

    def compare(
        self, rows: Sequence[Row], metrics: Sequence[str], formula: Formula, level: float
    ) -> Comparison | None:
        """Compare rows on the seeds that all of them have.

        Args:
            rows: those that the formula asks for.
            metrics: names of those that it asks for.
            formula: what is compared.
            level: confidence of the interval, per cent.

        Returns:
            None if there is no seed that all rows have.
        """
        points = self._by_seed(rows, metrics, value_of)
        values = {seed: formula(_reader(cells)) for seed, cells in points.items()}
        if not values:
            return None
        drawn = self._by_seed(rows, metrics, self.resampler.of) if self._paired(rows) else {}
        if not drawn:
            why = "cannot be drawn again" if self._paired(rows) else "are not the same for all rows"
            return Comparison(
                statistics.fmean(values.values()), tuple(values), None, note=f"images {why}"
            )
        used = {seed: values[seed] for seed in drawn}
        found = interval(
            used,
            {seed: formula(_reader(_arrays(cells, self.columns))) for seed, cells in drawn.items()},
            level=level,
            images=next(iter(drawn[min(drawn)].values())).images,
        )
        left_out = tuple(seed for seed in values if seed not in drawn)
        return Comparison(statistics.fmean(used.values()), tuple(used), found, left_out)

    def _by_seed(
        self,
        rows: Sequence[Row],
        metrics: Sequence[str],
        read: Callable[[Record, Metric], T | None],
    ) -> dict[int, dict[tuple[str, str], T]]:
        """Return what ``read`` gives for each row and metric, of the seeds where it always gives something."""
        common = set.intersection(*(set(self.records(row)) for row in rows))
        found = {}
        for seed in sorted(common):
            cells = {
                (row.id, name): one
                for row in rows
                for name in metrics
                if (one := read(self.records(row)[seed], self.columns[name])) is not None
            }
            if len(cells) == len(rows) * len(metrics):
                found[seed] = cells
        return found

    def _paired(self, rows: Sequence[Row]) -> bool:
        """Tell whether all records of rows were measured on the same images."""
        records = [record for row in rows for record in self.records(row).values()]
        return len({(dataset_of(one), one.data.get(dataset_of(one))) for one in records}) == 1


def _reader(cells: Mapping[tuple[str, str], T]) -> Callable[[str, str], T]:
    return lambda row, metric: cells[row, metric]


def _arrays(
    cells: Mapping[tuple[str, str], Resampled], columns: Mapping[str, Metric]
) -> dict[tuple[str, str], Any]:
    return {(row, name): one.values[columns[name].key] for (row, name), one in cells.items()}
