"""Ours beside the paper's: the numbers of a report, without any layout.

Gaps are counted from a table's baseline row. Ours are means over training seeds; a gap is the mean over the
seeds that both rows have, so that what they share (proposals, order of images) cancels.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace

from maskrcnn_repro._backend import BACKEND
from maskrcnn_repro.errors import UserError
from maskrcnn_repro.tables.paper.experiments import Experiment
from maskrcnn_repro.tables.paper.numbers import Metric, Row, Table
from maskrcnn_repro.tables.report.evidence import Evidence
from maskrcnn_repro.tables.report.gather import Found, gather, value_of
from maskrcnn_repro.tables.report.resampled import Resampler
from maskrcnn_repro.tables.report.statistics import Interval
from maskrcnn_repro.tables.report.verdicts import Verdict
from maskrcnn_repro.tables.runs.plan import not_at_level
from maskrcnn_repro.tables.runs.records import Record
from maskrcnn_repro.tables.runs.stage import Setting
from maskrcnn_repro.tables.runs.zoo import zoo_record

CONFIDENCE = 95.0
"""Per cent, of the intervals of gaps."""
Values = Mapping[int, float]
"""Training seed to a metric in points."""


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds.

    Attributes:
        mean: in points, 0 to 100.
        spread: standard deviation (of a sample) over the seeds; None for a single one.
        seeds: which ones, sorted.
    """

    mean: float
    spread: float | None
    seeds: tuple[int, ...]

    @classmethod
    def of(cls, values: Values) -> Estimate | None:
        """Return the estimate of some values; None if there are none."""
        if not values:
            return None
        numbers = [values[seed] for seed in sorted(values)]
        spread = statistics.stdev(numbers) if len(numbers) > 1 else None
        return cls(statistics.fmean(numbers), spread, tuple(sorted(values)))


@dataclass(frozen=True)
class Cell:
    """One metric of one row; None stands for what there is not."""

    paper: float | None = None
    paper_gap: float | None = None
    ours: Estimate | None = None
    ours_gap: Estimate | None = None
    ours_interval: Interval | None = None
    """Of ``ours_gap``; in a row that is the gap of two others, of ``ours``."""
    zoo: float | None = None
    """Of Detectron2's own weights under their own config."""


@dataclass(frozen=True)
class ReportRow:
    """A row with its cells by column."""

    row: Row
    cells: Mapping[str, Cell]
    records: tuple[Record, ...] = ()
    unfinished: tuple[str, ...] = ()
    """What was begun and is not done: seed, how far."""
    zoo: Record | None = None
    """Of Detectron2's own weights."""
    not_here: str = ""
    """Why its experiment does not exist at this level."""


@dataclass(frozen=True)
class TableReport:
    """All that a report of one table says."""

    table: Table
    level: str
    overrides: tuple[str, ...]
    backend: str
    rows: tuple[ReportRow, ...]
    refused: tuple[str, ...] = ()
    """Records that lie in the right place and do not belong there, each with the reason."""
    verdicts: tuple[Verdict, ...] = ()
    """Of the claims whose first row lies in this table."""
    overlays: tuple[str, ...] = ()
    """Names of the user's files that lie over the level."""

    @property
    def records(self) -> list[Record]:
        """The records that the numbers come from, each once."""
        every = [r for row in self.rows for r in (*row.records, row.zoo) if r is not None]
        return list({record.path: record for record in every}.values())


def report(
    table: Table,
    setting: Setting,
    known: Mapping[str, Experiment],
    columns: Mapping[str, Metric],
    *,
    seeds: int | None = None,
    found: Found | None = None,
    resampler: Resampler | None = None,
) -> TableReport:
    """Put a table together from the records that there are.

    Args:
        table: the table.
        setting: level, overrides, folder.
        known: all experiments.
        columns: all metrics.
        seeds: use seeds 1 to this number; all by default.
        found: the records, where they were gathered already.
        resampler: draws images again for the intervals of gaps; without it there are none.
    """
    names = experiments_of(table)
    not_here = {name: not_at_level(known[name], setting.level) for name in names}
    if found is None:
        found = gather([name for name in names if not not_here[name]], setting, known, seeds)
    evidence = Evidence(found, columns, resampler) if resampler else None
    made = [
        ReportRow(
            row=row,
            cells={
                name: _cell(table, row, columns[name], found, evidence) for name in table.columns
            },
            records=tuple(found.records.get(row.experiment or "", {}).values()),
            unfinished=tuple(found.unfinished.get(row.experiment or "", ())),
            not_here=not_here.get(row.experiment or "", ""),
        )
        for row in table.rows.values()
    ]
    refused = [text for name in names for text in found.refused.get(name, ())]
    if resampler:
        refused += resampler.problems_of(record for row in made for record in row.records)
    rows = tuple(_with_zoo(one, columns, setting, refused) for one in made)
    return TableReport(
        table=table,
        level=setting.label,
        overrides=setting.overrides,
        backend=str(BACKEND),
        rows=rows,
        refused=tuple(refused),
        overlays=tuple(file.name for file in setting.overlays),
    )


def experiments_of(table: Table) -> list[str]:
    """Return the ids of the experiments of a table, sorted."""
    return sorted({row.experiment for row in table.rows.values() if row.experiment})


def _cell(table: Table, row: Row, metric: Metric, found: Found, evidence: Evidence | None) -> Cell:
    base = table.rows[table.baseline_row]
    ours = _ours(table, row, metric, found)
    paper = row.metrics.get(metric.name)
    paper_base = base.metrics.get(metric.name)
    is_other = row.gap_of is None and row.id != base.id
    comparable = is_other and row.ours and paper is not None and paper_base is not None
    gap = _difference(ours, _ours(table, base, metric, found)) if is_other else {}
    return Cell(
        paper=paper,
        paper_gap=paper - paper_base if comparable and paper and paper_base else None,
        ours=Estimate.of(ours),
        ours_gap=Estimate.of(gap),
        ours_interval=_interval(table, row, metric, evidence) if evidence else None,
    )


def _interval(table: Table, row: Row, metric: Metric, evidence: Evidence) -> Interval | None:
    """Return the interval of a row's gap to the baseline; of a gap row, of the gap that it is."""
    first, second = row.gap_of or (row.id, table.baseline_row)
    if first == second:
        return None
    found = evidence.compare(
        [table.rows[first], table.rows[second]],
        [metric.name],
        lambda value: value(first, metric.name) - value(second, metric.name),
        CONFIDENCE,
    )
    # Of other seeds than the gap beside it, it would not be that gap's.
    return found.interval if found and not found.left_out else None


def _ours(table: Table, row: Row, metric: Metric, found: Found) -> Values:
    """Return a metric of a row by seed; of a gap row, the difference of its two rows."""
    if row.gap_of:
        first, second = (_ours(table, table.rows[name], metric, found) for name in row.gap_of)
        return _difference(first, second)
    records = found.records.get(row.experiment or "", {})
    values = {seed: value_of(record, metric) for seed, record in records.items()}
    return {seed: value for seed, value in values.items() if value is not None}


def _difference(first: Values, second: Values) -> Values:
    return {seed: first[seed] - second[seed] for seed in first if seed in second}


def _with_zoo(
    row: ReportRow, columns: Mapping[str, Metric], setting: Setting, refused: list[str]
) -> ReportRow:
    try:
        record = zoo_record(row.row, setting)
    except UserError as error:
        refused.append(str(error))
        return row
    if record is None:
        return row
    cells = {
        name: replace(cell, zoo=value_of(record, columns[name])) for name, cell in row.cells.items()
    }
    return replace(row, cells=cells, zoo=record)
