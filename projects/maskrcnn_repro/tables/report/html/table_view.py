"""A table as the page shows it: the paper's numbers and ours, gaps with intervals, plots and pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from maskrcnn_repro.tables.paper.numbers import Metric
from maskrcnn_repro.tables.report.html.curves import Curves
from maskrcnn_repro.tables.report.html.gaps import Ends, Gap, axis, scale, signed, strip
from maskrcnn_repro.tables.report.html.predictions import Sheet
from maskrcnn_repro.tables.report.layout import our_splits, remarks
from maskrcnn_repro.tables.report.report import ReportRow, TableReport

from markupsafe import Markup


@dataclass(frozen=True)
class RowView:
    """One row.

    Attributes:
        row: with its cells.
        is_baseline: whether gaps are counted from it.
        absent: why there is nothing of ours, in a word or two; empty if there is.
        remarks: footnotes.
        plot: strip of the gap in the first column; None where neither side has one.
    """

    row: ReportRow
    is_baseline: bool
    absent: str
    remarks: tuple[str, ...]
    plot: Markup | None


@dataclass(frozen=True)
class TableSection:
    """One table with all that belongs to it.

    Attributes:
        report: the numbers.
        columns: the metrics.
        rows: in order.
        measured: the data sets that ours was measured on.
        seeds: of training.
        level: confidence of the gaps' intervals, per cent; 0 without any.
        has_zoo: whether a column for Detectron2's weights is needed.
        scale: of the strips; None if there are none.
        curves: plots over training.
        sheet: pictures.
    """

    report: TableReport
    columns: tuple[Metric, ...]
    rows: tuple[RowView, ...]
    measured: str
    seeds: tuple[int, ...]
    level: int
    has_zoo: bool
    scale: Markup | None
    curves: Curves
    sheet: Sheet

    @property
    def baseline(self) -> str:
        """Name of the row that gaps are counted from."""
        return self.report.table.rows[self.report.table.baseline_row].name

    @property
    def anchor(self) -> str:
        """Id of the section."""
        return f"table-{self.report.table.id}"

    @property
    def skipped(self) -> tuple[str, ...]:
        """What could not be read."""
        return (*self.curves.skipped, *self.sheet.skipped)

    def held_out(self, metric: Metric) -> bool:
        """Tell whether the paper measured a column on images without public annotations."""
        return metric.name in self.report.table.held_out


def table_section(
    report: TableReport, metrics: Mapping[str, Metric], curves: Curves, sheet: Sheet
) -> TableSection:
    """Return what the page shows of a table."""
    table = report.table
    cells = [cell for row in report.rows for cell in row.cells.values()]
    gaps = [_gap(row, table.columns[0]) for row in report.rows]
    ends = scale(gaps) if any(gap.numbers() for gap in gaps) else None
    rows = tuple(
        RowView(
            row=row,
            is_baseline=row.row.id == table.baseline_row,
            absent=_absent(row),
            remarks=tuple(remarks(row, report.level)),
            plot=_strip(gap, ends, row, f"gap-{table.id}-{number}"),
        )
        for number, (row, gap) in enumerate(zip(report.rows, gaps, strict=True))
    )
    return TableSection(
        report=report,
        columns=tuple(metrics[name] for name in table.columns),
        rows=rows,
        measured=", ".join(our_splits(report)),
        seeds=tuple(sorted({seed for cell in cells if cell.ours for seed in cell.ours.seeds})),
        level=max((round(c.ours_interval.level) for c in cells if c.ours_interval), default=0),
        has_zoo=any(cell.zoo is not None for cell in cells),
        scale=axis(ends, f"gap-{table.id}-scale") if ends else None,
        curves=curves,
        sheet=sheet,
    )


def _absent(row: ReportRow) -> str:
    if any(cell.ours for cell in row.cells.values()) or row.row.gap_of or not row.row.ours:
        return ""
    if row.row.experiment is None:
        return "cannot be run"
    if row.not_here:
        return "not at this level"
    return "unfinished" if row.unfinished else "not run yet"


def _gap(row: ReportRow, column: str) -> Gap:
    cell = row.cells[column]
    # A row that is the gap of two others has it as its value.
    is_gap = row.row.gap_of is not None
    ours = cell.ours if is_gap else cell.ours_gap
    return Gap(
        ours=ours.mean if ours else None,
        interval=(cell.ours_interval.low, cell.ours_interval.high) if cell.ours_interval else None,
        theirs=cell.paper if is_gap else cell.paper_gap,
    )


def _strip(gap: Gap, ends: Ends | None, row: ReportRow, name: str) -> Markup | None:
    if ends is None or not gap.numbers():
        return None
    said = [
        f"{side} {signed(value)}"
        for side, value in (("ours", gap.ours), ("paper", gap.theirs))
        if value is not None
    ]
    label = f"Gap of {row.row.name} in AP points: {', '.join(said)}."
    return strip(gap, ends, name, label)
