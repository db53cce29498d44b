"""What records say of a difference between rows: its mean over seeds, and the interval of that mean."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from maskrcnn_repro.tables.paper.numbers import Metric, Row
from maskrcnn_repro.tables.report.draw_files import Resampled
from maskrcnn_repro.tables.report.gather import Gathered, value_of
from maskrcnn_repro.tables.report.matching import dataset_of
from maskrcnn_repro.tables.report.model import Interval, Spread
from maskrcnn_repro.tables.report.resampled import Resampler
from maskrcnn_repro.tables.report.spread import Pooled, pool
from maskrcnn_repro.tables.report.statistics import interval
from maskrcnn_repro.tables.runs.records import Record

T = TypeVar("T")

Formula = Callable[[Callable[[str, str], Any]], Any]
"""A difference: it takes what gives the value (number or array) of a row's id and a metric's name."""


@dataclass(frozen=True)
class Comparison:
    """A difference between rows.

    Attributes:
        values: training seed to the difference, AP points; of the seeds that all rows have.
        interval: of the mean over ``seeds``; None where ``note`` says why not.
        left_out: seeds whose images cannot be drawn again, while those of others can.
        note: why there is no interval.
    """

    values: Mapping[int, float]
    interval: Interval | None = None
    left_out: tuple[int, ...] = ()
    note: str = ""

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that ``gap`` rests on."""
        return tuple(seed for seed in self.values if seed not in self.left_out)

    @property
    def gap(self) -> float:
        """The mean over ``seeds``, AP points."""
        return statistics.fmean(self.values[seed] for seed in self.seeds)


@dataclass(frozen=True)
class Evidence:
    """The records that rows are compared by.

    Attributes:
        gathered: records by experiment and seed.
        columns: all metrics by name.
        resampler: draws images again; without it there are no intervals.
        evaluated: id of an experiment that only evaluates to that of the training.
        unpooled: ids of experiments whose seeds say nothing of how much those of the others differ.
    """

    gathered: Gathered
    columns: Mapping[str, Metric]
    resampler: Resampler | None = None
    evaluated: Mapping[str, str] = field(default_factory=dict)
    unpooled: Collection[str] = ()

    def prepare(self, pairs: Iterable[tuple[Row, str]]) -> None:
        """Draw again the images of all records of some rows, each with the name of a metric."""
        if self.resampler:
            self.resampler.prepare(
                (record, self.columns[metric])
                for row, metric in pairs
                for record in self.records(row).values()
            )

    def records(self, row: Row) -> Mapping[int, Record]:
        """Return the records of a row by seed."""
        return self.gathered.records.get(row.experiment or "", {})

    def values(
        self, rows: Sequence[Row], metrics: Sequence[str], formula: Formula
    ) -> dict[int, float]:
        """Return a difference, or one row's metric, by the seeds that all rows have; see :meth:`compare`."""
        cells = self._by_seed(rows, metrics, value_of)
        return {seed: formula(_reader(numbers)) for seed, numbers in cells.items()}

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
        values = self.values(rows, metrics, formula)
        if not values or not self.resampler:
            return Comparison(values) if values else None
        if not self._are_paired(rows):
            return Comparison(values, note="images are not the same for all rows")
        by_seed = self._by_seed(rows, metrics, self.resampler.of)
        draws = {seed: cells for seed, cells in by_seed.items() if seed in values}
        if not draws:
            return Comparison(values, note="images cannot be drawn again")
        estimate = interval(
            {seed: values[seed] for seed in draws},
            {seed: formula(_reader(self._arrays(cells))) for seed, cells in draws.items()},
            level=level,
            images=next(iter(draws[min(draws)].values())).images,
            pooled=self._pool(rows, metrics, formula),
        )
        return Comparison(values, estimate, tuple(seed for seed in values if seed not in draws))

    def spread(self, metrics: Sequence[str]) -> Spread | None:
        """Return the pooled spread between seeds of a metric, or of the first of two against the second.

        All trainings of the level but the unpooled count, whichever rows are compared; what evaluates one of them
        again does not, because its seeds are those of the training.
        """
        columns = [self.columns[name] for name in metrics]
        trainings = {}
        for experiment, records in self.gathered.records.items():
            if experiment not in self.evaluated and experiment not in self.unpooled:
                numbers = [[value_of(record, c) for c in columns] for record in records.values()]
                measured = [cells for cells in numbers if None not in cells]
                trainings[experiment] = [
                    first - sum(others)  # type: ignore[operator, arg-type]
                    for first, *others in measured
                ]
        return pool(" - ".join(metrics), trainings)

    def _pool(self, rows: Sequence[Row], metrics: Sequence[str], formula: Formula) -> Pooled | None:
        """Return what the pool says of a difference; None if it compares evaluations of one training."""
        spread = self.spread(metrics)
        factors: dict[str, float] = defaultdict(float)
        for row in rows:
            experiment = row.experiment or ""
            # Of the first metric alone: the formula is linear in all.
            cells = {(r.id, name): 0.0 for r in rows for name in metrics}
            factor = formula(_reader({**cells, (row.id, metrics[0]): 1.0}))
            factors[self.evaluated.get(experiment, experiment)] += factor
        squares = sum(factor**2 for factor in factors.values())
        if spread is None or not squares:
            return None
        has_wider = any(factors[name] for name in factors.keys() & set(spread.wider))
        return Pooled(squares * spread.deviation**2, spread.freedom, has_wider)

    def _by_seed(
        self,
        rows: Sequence[Row],
        metrics: Sequence[str],
        read: Callable[[Record, Metric], T | None],
    ) -> dict[int, dict[tuple[str, str], T]]:
        """Return what ``read`` gives for each row and metric, of the seeds where it always gives something."""
        common = set.intersection(*(set(self.records(row)) for row in rows))
        by_seed = {}
        for seed in sorted(common):
            cells = {
                (row.id, name): value
                for row in rows
                for name in metrics
                if (value := read(self.records(row)[seed], self.columns[name])) is not None
            }
            if len(cells) == len(rows) * len(metrics):
                by_seed[seed] = cells
        return by_seed

    def _are_paired(self, rows: Sequence[Row]) -> bool:
        """Tell whether all records of rows were measured on the same images."""
        records = [record for row in rows for record in self.records(row).values()]
        return len({(dataset_of(r), r.data.get(dataset_of(r))) for r in records}) == 1

    def _arrays(self, cells: Mapping[tuple[str, str], Resampled]) -> dict[tuple[str, str], Any]:
        return {
            (row, name): draws.values[self.columns[name].key]
            for (row, name), draws in cells.items()
        }


def _reader(cells: Mapping[tuple[str, str], T]) -> Callable[[str, str], T]:
    return lambda row, metric: cells[row, metric]
