"""Ours beside the paper's: the numbers of a report, without any layout.

Gaps are counted from a table's baseline row. Ours are means over training seeds; a gap is the mean over the
seeds that both rows have, so that what they share (proposals, order of images) cancels.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import maskrcnn_repro
from maskrcnn_repro.engine.provenance import data_origin
from maskrcnn_repro.errors import TableError
from maskrcnn_repro.tables.experiments import Experiment
from maskrcnn_repro.tables.paper import Metric, Row, Table
from maskrcnn_repro.tables.plan import not_at_level, plan
from maskrcnn_repro.tables.records import Record, State, newest_record
from maskrcnn_repro.tables.stage import Setting, Stage
from maskrcnn_repro.tables.zoo import zoo_record

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

    @property
    def records(self) -> list[Record]:
        """The records that the numbers come from, each once."""
        every = [r for row in self.rows for r in (*row.records, row.zoo) if r is not None]
        return list({record.path: record for record in every}.values())


@dataclass
class Found:
    """Records of the experiments of a table, by experiment and seed, and what was refused."""

    records: dict[str, dict[int, Record]] = field(default_factory=dict)
    unfinished: dict[str, list[str]] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)


def report(
    table: Table,
    setting: Setting,
    known: Mapping[str, Experiment],
    columns: Mapping[str, Metric],
    *,
    seeds: int | None = None,
) -> TableReport:
    """Put a table together from the records that there are.

    Args:
        table: the table.
        setting: level, overrides, folder.
        known: all experiments.
        columns: all metrics.
        seeds: use seeds 1 to this number; all by default.
    """
    names = sorted({row.experiment for row in table.rows.values() if row.experiment})
    not_here = {name: not_at_level(known[name], setting.level) for name in names}
    found = gather([name for name in names if not not_here[name]], setting, known, seeds)
    _refuse_other_data(found)
    made = [
        ReportRow(
            row=row,
            cells={name: _cell(table, row, columns[name], found) for name in table.columns},
            records=tuple(found.records.get(row.experiment or "", {}).values()),
            unfinished=tuple(found.unfinished.get(row.experiment or "", ())),
            not_here=not_here.get(row.experiment or "", ""),
        )
        for row in table.rows.values()
    ]
    return TableReport(
        table=table,
        level=setting.label,
        overrides=setting.overrides,
        backend=str(maskrcnn_repro.BACKEND),
        rows=tuple(_with_zoo(one, columns, setting, found) for one in made),
        refused=tuple(found.refused),
    )


def gather(
    wanted: Iterable[str],
    setting: Setting,
    known: Mapping[str, Experiment],
    seeds: int | None = None,
) -> Found:
    """Read the records of experiments, of all seeds or of seeds 1 to ``seeds``."""
    found = Found()
    for name in wanted:
        for seed in _seeds_there(setting.folder / name):
            if seeds is None or seed <= seeds:
                stages = plan([name], [seed], setting, known).stages
                _read(stages[-1], found)
    return found


def _read(stage: Stage, found: Found) -> None:
    name, seed = stage.experiment.id, stage.seed
    status = stage.status()
    if status.state is State.STALE:
        found.refused.append(f"{stage.folder}: {status.note}")
    elif status.state is State.INTERRUPTED:
        found.unfinished.setdefault(name, []).append(f"seed {seed} {status.note}")
    elif status.record is not None:
        record = newest_record(stage.folder, status.record, stage.expected())
        found.records.setdefault(name, {})[seed] = record


def _seeds_there(folder: Path) -> list[int]:
    names = [path.name.removeprefix("seed") for path in folder.glob("seed*")]
    return sorted(int(name) for name in names if name.isdecimal())


def _refuse_other_data(found: Found) -> None:
    """Drop records of another version of a data set than the one that is there, or that most have."""
    every = [r for records in found.records.values() for r in records.values()]
    versions: dict[str, Counter[str | None]] = {}
    for record in every:
        for name, digest in record.data.items():
            versions.setdefault(name, Counter())[digest] += 1
    for name, counts in versions.items():
        right = data_origin(name)["sha256"] or counts.most_common(1)[0][0]
        for records in found.records.values():
            for seed, record in list(records.items()):
                digest = record.data.get(name, right)
                if digest != right:
                    del records[seed]
                    found.refused.append(
                        f"{record.path.parent}: of another version of data set {name} "
                        f"(SHA-256 {_short(digest)}, not {_short(right)})"
                    )


def _cell(table: Table, row: Row, metric: Metric, found: Found) -> Cell:
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
    )


def _ours(table: Table, row: Row, metric: Metric, found: Found) -> Values:
    """Return a metric of a row by seed; of a gap row, the difference of its two rows."""
    if row.gap_of:
        first, second = (_ours(table, table.rows[name], metric, found) for name in row.gap_of)
        return _difference(first, second)
    records = found.records.get(row.experiment or "", {})
    values = {seed: value_of(record, metric) for seed, record in records.items()}
    return {seed: value for seed, value in values.items() if value is not None}


def value_of(record: Record, metric: Metric) -> float | None:
    """Return a metric of a record's first data set; None if it was not measured."""
    tasks = next(iter(record.metrics.values()), {})
    return tasks.get(metric.task, {}).get(metric.key)


def _difference(first: Values, second: Values) -> Values:
    return {seed: first[seed] - second[seed] for seed in first if seed in second}


def _with_zoo(
    row: ReportRow, columns: Mapping[str, Metric], setting: Setting, found: Found
) -> ReportRow:
    try:
        record = zoo_record(row.row, setting)
    except TableError as error:
        found.refused.append(str(error))
        return row
    if record is None:
        return row
    cells = {
        name: replace(cell, zoo=value_of(record, columns[name])) for name, cell in row.cells.items()
    }
    return replace(row, cells=cells, zoo=record)


def _short(digest: str | None) -> str:
    return digest[:8] if digest else "unknown"
