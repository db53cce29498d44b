"""A report: what a table says of ours beside the paper's. Its JSON is the source of every text and page.

Metrics and gaps are in AP points, 0 to 100.
"""

from __future__ import annotations

import statistics
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from maskrcnn_repro.tables.paper.claims import Finding
from maskrcnn_repro.tables.paper.numbers import Metric, Row
from maskrcnn_repro.tables.report.plain import later_field
from maskrcnn_repro.tables.report.words import Outcome


@dataclass(frozen=True)
class Estimate:
    """A mean over training seeds.

    Attributes:
        mean: AP points.
        spread: standard deviation (of a sample) over the seeds; None for a single one.
        seeds: which ones, sorted.
    """

    mean: float
    spread: float | None
    seeds: tuple[int, ...]

    @classmethod
    def of(cls, values: Mapping[int, float]) -> Estimate | None:
        """Return the estimate from values by seed; None if there are none."""
        if not values:
            return None
        seeds = tuple(sorted(values))
        numbers = [values[seed] for seed in seeds]
        spread = statistics.stdev(numbers) if len(numbers) > 1 else None
        return cls(statistics.fmean(numbers), spread, seeds)


@dataclass(frozen=True)
class Interval:
    """Where a difference lies, with this confidence.

    Attributes:
        low: lower end, AP points.
        high: upper end.
        level: confidence, per cent.
        seeds: training seeds that it rests on, sorted; one alone says nothing about other seeds.
        images: how many images it rests on.
        method: how it was computed; see :data:`maskrcnn_repro.tables.report.statistics.METHODS`.
        freedom: degrees of freedom of the seeds' part; None with a single seed or an earlier method.
        of_seeds: standard error of the mean by seeds, AP points; None as ``freedom``.
        of_images: standard error by images; None with an earlier method.
    """

    low: float
    high: float
    level: float
    seeds: tuple[int, ...]
    images: int
    method: str = later_field("")
    freedom: float | None = later_field(None)
    of_seeds: float | None = later_field(None)
    of_images: float | None = later_field(None)


@dataclass(frozen=True)
class Spread:
    """How much the seeds of one training differ, by all trainings of a level; see :mod:`spread`.

    Attributes:
        quantity: a metric, or ``A - B``.
        deviation: standard deviation, AP points.
        freedom: its degrees of freedom.
        trainings: how many are pooled.
        wider: experiments that vary more, and are left out.
    """

    quantity: str
    deviation: float
    freedom: int
    trainings: int
    wider: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cell:
    """One metric of one row; None stands for what there is not.

    Attributes:
        paper: the paper's number.
        paper_gap: its gap to the baseline row.
        ours: our mean.
        ours_gap: the mean gap to the baseline row, over the seeds that both have.
        ours_interval: of ``ours_gap``; in a row that is the gap of two others, of ``ours``.
        detectron2_weights: the metric of Detectron2's own weights under their own config.
    """

    paper: float | None = None
    paper_gap: float | None = None
    ours: Estimate | None = None
    ours_gap: Estimate | None = None
    ours_interval: Interval | None = None
    detectron2_weights: float | None = None


@dataclass(frozen=True)
class ReportRow:
    """A row with its cells by column.

    Attributes:
        unfinished: runs that were begun and are not done: seed, how far.
        not_at_level: why its experiment does not exist at this level.

    The others are those of :class:`maskrcnn_repro.tables.paper.numbers.Row`.
    """

    id: str
    name: str
    experiment: str | None = None
    ours: bool = True
    extra: bool = False
    why_not: str | None = None
    departs: str | None = None
    unfinished: tuple[str, ...] = ()
    not_at_level: str | None = None
    cells: Mapping[str, Cell] = field(default_factory=dict)
    gap_of: tuple[str, str] | None = later_field(None)
    derived: bool = later_field(False)
    note: str | None = later_field(None)
    equal_seconds: str | None = later_field(None)

    @classmethod
    def of(cls, row: Row, **measured: Any) -> ReportRow:
        """Return a row of the paper with what was measured: the fields that :class:`Row` lacks."""
        names = {item.name for item in fields(cls)} - measured.keys()
        return cls(**{name: getattr(row, name) for name in names}, **measured)

    @property
    def sources(self) -> tuple[str, ...]:
        """The experiments of the records that its numbers come from, as :class:`Origin` names them."""
        own = (self.experiment, f"{DETECTRON2}{self.experiment}") if self.experiment else ()
        return (*own, self.equal_seconds) if self.equal_seconds else own

    @property
    def was_run(self) -> bool:
        """Whether there is a number of ours."""
        return any(cell.ours for cell in self.cells.values())


@dataclass(frozen=True)
class Explanation:
    """A hypothesis about a claim that does not hold.

    Attributes:
        because: the hypothesis: why the claim does not hold.
        would_tell: the deciding run, and what it should show if the hypothesis is right.
        told: the result of that run; None before it was made.
    """

    because: str
    would_tell: str
    told: str | None = None


@dataclass(frozen=True)
class Verdict(Finding):
    """A finding of the paper, and what the records say of it.

    Attributes:
        outcome: ``holds``; ``fails``: the opposite holds; ``undecided``: the records cannot tell; ``images
            only``: a single seed, which says nothing about others; ``too little learnt``: no row has learnt
            enough to be compared; ``missing``: a row has no record.
        gap: mean over seeds; None if a row is missing.
        interval: the one that decides; None without a gap, or if the images cannot be drawn again.
        note: what a reader should know beside it; may be empty.
        explanation: why it does not hold, where that is known.
        p: p-value of the outcome, by the interval's distribution: two-sided, or of ``≈`` the larger of two
            one-sided ones; None if seeds decide nothing.
    """

    outcome: Outcome
    gap: float | None = None
    interval: Interval | None = None
    note: str = ""
    explanation: Explanation | None = None
    p: float | None = later_field(None)


@dataclass(frozen=True)
class Origin:
    """A record that numbers come from.

    Attributes:
        results: its ``results.json``; in a kept report its name among the kept records.
        seed: of the training.
        commit: of the code; None outside a checkout.
        machine: GPU or CPU.
        weights: what the training started from.
        data: data set to the SHA-256 of its JSON.
        written: ISO 8601, UTC.
        record: what tells its run from any other, in a kept report.
        experiment: its id; of Detectron2's own weights ``detectron2/EXPERIMENT``.
        split: the data set that it was measured on.
    """

    results: str
    seed: int
    commit: str | None
    machine: str
    weights: str
    data: Mapping[str, str | None]
    written: str
    record: str | None = later_field(None)
    experiment: str = later_field("")
    split: str = later_field("")


@dataclass(frozen=True)
class ReportColumn(Metric):
    """A metric of a table.

    Attributes:
        held_out: whether the paper measured it on images without public annotations.
    """

    held_out: bool


@dataclass(frozen=True)
class Report:
    """All that a report of one table says.

    Attributes:
        table: id.
        level: the level, with the names of overlays.
        overrides: ``KEY VALUE`` pairs of a trial.
        overlays: names of the user's files that lie over the level.
        paper_split: the images that the paper evaluates on.
        our_splits: the data sets that ours was measured on.
        baseline_row: id of the row that gaps are counted from.
        claims: those whose first row lies in this table.
        refused: records that lie in the right place and do not belong there, each with the reason.
        origin: the records that the numbers come from, each once.
        spreads: between seeds, of the quantities that are compared.
        notes: what a reader should know of the runs, one sentence each.
    """

    table: str
    title: str
    level: str
    overrides: tuple[str, ...]
    overlays: tuple[str, ...]
    backend: str
    paper_split: str
    our_splits: tuple[str, ...]
    baseline_row: str
    rows: tuple[ReportRow, ...]
    claims: tuple[Verdict, ...] = ()
    refused: tuple[str, ...] = ()
    origin: tuple[Origin, ...] = ()
    columns: tuple[ReportColumn, ...] = later_field(())
    spreads: tuple[Spread, ...] = later_field(())
    notes: tuple[str, ...] = later_field(())

    @property
    def baseline(self) -> str:
        """Name of the row that gaps are counted from; its id if it is not among the rows."""
        named = (row.name for row in self.rows if row.id == self.baseline_row)
        return next(named, self.baseline_row)

    @property
    def cells(self) -> list[Cell]:
        """The cells of all rows."""
        return [cell for row in self.rows for cell in row.cells.values()]

    @property
    def seeds(self) -> list[int]:
        """All training seeds behind its numbers, sorted."""
        return sorted({seed for cell in self.cells if cell.ours for seed in cell.ours.seeds})

    @property
    def has_detectron2_weights(self) -> bool:
        """Whether a column for Detectron2's weights is needed."""
        return any(cell.detectron2_weights is not None for cell in self.cells)

    def runs(self, row: ReportRow) -> list[Origin]:
        """Return the records of a row's experiment."""
        return [run for run in self.origin if run.experiment == row.experiment]

    def only(self, rows: Container[str]) -> Report:
        """Return the report of some of its rows, given by id, for a look at these alone."""
        chosen = tuple(row for row in self.rows if row.id in rows)
        if len(chosen) == len(self.rows):
            return self
        names = {name for row in chosen for name in row.sources}
        origin = tuple(run for run in self.origin if run.experiment in names)
        splits = tuple(sorted({run.split for run in origin if run.split})) or self.our_splits
        return replace(self, rows=chosen, origin=origin, our_splits=splits if origin else ())


DETECTRON2 = "detectron2/"
"""Before the experiment of a record of Detectron2's own weights."""


def verdicts_in(reports: Iterable[Report], order: Iterable[str]) -> list[Verdict]:
    """Return the claims of some reports in the order of all claims' ids."""
    place = {name: number for number, name in enumerate(order)}
    verdicts = [verdict for report in reports for verdict in report.claims]
    return sorted(verdicts, key=lambda verdict: place.get(verdict.id, len(place)))
