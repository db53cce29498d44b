"""``report.html``: tables, claims, curves, pictures and origins in one file that needs no network."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskrcnn_repro.errors import OutputError
from maskrcnn_repro.tables.paper.claims import all_claims
from maskrcnn_repro.tables.paper.numbers import all_metrics, all_tables
from maskrcnn_repro.tables.report.claims_text import annotate_verdicts, holm_text, spread_lines
from maskrcnn_repro.tables.report.correction import correct_verdicts
from maskrcnn_repro.tables.report.curve_files import read_curve
from maskrcnn_repro.tables.report.exchange.files import Stored, without_photograph
from maskrcnn_repro.tables.report.exchange.model import TABLE
from maskrcnn_repro.tables.report.html.claims import (
    claim_ends,
    claim_gap,
    describe_rows,
    format_ends,
)
from maskrcnn_repro.tables.report.html.curves import Curves, curves
from maskrcnn_repro.tables.report.html.exchange import prepare_exchange as operations_shown
from maskrcnn_repro.tables.report.html.gaps import Gap, axis, scale, strip
from maskrcnn_repro.tables.report.html.lost_parts import find_lost_parts
from maskrcnn_repro.tables.report.html.origin import origins
from maskrcnn_repro.tables.report.html.predictions import Gallery, Sheet
from maskrcnn_repro.tables.report.html.roi_figure import FILTERS, figure
from maskrcnn_repro.tables.report.html.sampling import svg_panels
from maskrcnn_repro.tables.report.model import Interval, Report, ReportRow, Verdict, verdicts_in
from maskrcnn_repro.tables.report.pictured import THRESHOLD
from maskrcnn_repro.tables.report.places import curve_file, is_kept, kept_beside
from maskrcnn_repro.tables.report.spread import newest_spreads
from maskrcnn_repro.tables.report.text import (
    describe_average,
    describe_overlays,
    estimate_text,
    remarks,
    seeds_text,
)
from maskrcnn_repro.tables.report.words import TEMPLATES, format_with_minus, points, short_commit
from maskrcnn_repro.utils.files import write_text
from maskrcnn_repro.visualization.templates import templates_in

from jinja2 import Environment

OUTCOMES: Mapping[str, str] = {
    "holds": "\N{CHECK MARK}",
    "fails": "\N{MULTIPLICATION X}",
    "undecided": "?",
    "images only": "\N{WHITE SQUARE}",
    "too little learnt": "\N{HORIZONTAL ELLIPSIS}",
    "missing": "\N{EN DASH}",
}
"""Outcome to its mark: it is told without colours, too."""


@dataclass(frozen=True)
class Shown:
    """A table as the page shows it.

    Attributes:
        report: its numbers.
        kept_in: the folder where the report is kept with the code; empty if its runs are here.
        pictured: the report of the runs that curves and pictures are of, where none are kept of the runs behind
            the numbers.
        operations: what was measured of the RoI operations; of table 2c alone.
        damage: why what was measured of them cannot be used, though it is there.
    """

    report: Report
    kept_in: str = ""
    pictured: Report | None = None
    operations: Stored | None = None
    damage: str = ""


def write_page(
    path: Path, shown: Sequence[Shown], generated_only: bool = False, *, loses: bool = True
) -> tuple[str, ...]:
    """Write the page in one step.

    Args:
        path: the HTML file; paths in it are given from its folder.
        shown: the tables, of one level.
        generated_only: whether photographs and other images that are not generated are left out.
        loses: whether the page may take the place of one that holds more.

    Returns:
        What could not be read, or was not kept, and is left out, each with the reason; the page says it, too.

    Raises:
        OutputError: the file cannot be written, or holds what the page lacks and must not lose.
    """
    page = _page(path.parent, shown, generated_only)
    text = environment().get_template("report.html.j2").render(page)
    if not loses and path.is_file():
        _refuse_loss(path, text)
    write_text(path, text)
    skipped = [text for table in page["tables"] for text in table["skipped"]]
    return tuple(dict.fromkeys([*_find_unkept(page), *skipped]))


def _refuse_loss(path: Path, text: str) -> None:
    """Raise OutputError if the page at a path holds what the text of another one does not, or cannot be read."""
    try:
        there = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise OutputError(f"{path} cannot be read: {error.strerror or error}.") from error
    if less := find_lost_parts(there, text):
        raise OutputError(
            f"{path} is left as it is, for the new page would lack {', '.join(less)}; name another file, or remove "
            "this one first."
        )


def _find_unkept(page: Mapping[str, Any]) -> list[str]:
    """Return what of a page's sections is neither here nor kept."""
    texts = []
    if page["exchanged"] and not page["exchanged"]["exchange"]:
        texts.append(
            f"what the RoI operations make of one object, which {page['exchanged']['command']} measures"
        )
        texts += [text for text in page["damage"] if text]
    undrawn: dict[str, list[str]] = {}
    for table in page["tables"]:
        if not table["is_drawn"]:
            undrawn.setdefault(table["kept"], []).append(table["report"].table)
    for folder, names in undrawn.items():
        word = "tables" if len(names) > 1 else "table"
        texts.append(
            f"curves and pictures of {word} {', '.join(names)}, which are not kept in {folder}"
        )
    return texts


def _page(folder: Path, shown: Sequence[Shown], generated_only: bool) -> dict[str, Any]:
    """Return what the template shows."""
    reports = [table.report for table in shown]
    verdicts = verdicts_in(reports, all_claims())
    groups = origins(reports, folder)
    records = [run for report in reports for run in report.origin]
    read, gallery = functools.cache(read_curve), Gallery(generated_only)
    tables = [_table(table, read, gallery) for table in shown]
    operations = [table.operations for table in shown]
    if generated_only:
        operations = [what and without_photograph(what) for what in operations]
    exchanged = operations_shown(reports, operations)
    return {
        "reports": reports,
        "first": reports[0] if reports else None,
        # Of plug-ins' tables alone neither rows nor findings are the paper's.
        "is_papers": not reports
        or any(cell.paper is not None for report in reports for cell in report.cells),
        "backends": sorted({report.backend for report in reports}),
        "judged_on": describe_overlays(reports),
        "machines": sorted({run.machine for run in records}),
        "commits": sorted({short_commit(run.commit) for run in records}),
        # A time in UTC to the minute, as ISO 8601 without its signs.
        "newest": max((run.written for run in records), default="")[:16].replace("T", " "),
        "seconds": sum(group.seconds or 0.0 for group in groups),
        "groups": groups,
        "runs": sum(len(group.runs) for group in groups),
        "counts": Counter(verdict.outcome for verdict in verdicts),
        "outcomes": OUTCOMES,
        "claims": _claims(verdicts, reports),
        "panels": svg_panels(),
        "figure": figure(),
        "exchanged": exchanged,
        "damage": [*(table.damage for table in shown), (exchanged or {}).get("damage", "")],
        "tables": tables,
        # What the pictures before it explain; the findings follow.
        "leading": [table for table in tables if table["report"].table == TABLE],
        "threshold": THRESHOLD,
    }


def _claims(verdicts: Sequence[Verdict], reports: Sequence[Report]) -> dict[str, Any]:
    """Return claims with what they compare and their strips, the scale, and what their intervals rest on."""
    names = {row.id: (row.name, t.id) for t in all_tables().values() for row in t.rows.values()}
    names |= {row.id: (row.name, report.table) for report in reports for row in report.rows}
    titles = {name: metric.title for name, metric in all_metrics().items()}
    gaps = {verdict.id: claim_gap(verdict) for verdict in verdicts}
    ends = scale(gaps.values())
    intervals = [verdict.interval for verdict in verdicts if verdict.interval]
    remains = correct_verdicts(verdicts)
    return {
        "shown": [
            (
                verdict,
                describe_rows(verdict, names, titles),
                strip(gaps[verdict.id], ends, f"strip-{verdict.id}", _claim_label(verdict)),
            )
            for verdict in verdicts
        ],
        "scale": axis(ends, "claims-scale"),
        "holm": {v.id: holm_text(v, remains) for v in verdicts} if remains else {},
        "beside": [*annotate_verdicts(verdicts), *spread_lines(newest_spreads(reports))],
        "rests": _describe_base(intervals),
        "one_seed": bool(intervals) and all(len(interval.seeds) == 1 for interval in intervals),
    }


def _describe_base(intervals: Sequence[Interval]) -> str:
    """Return how many seeds and images intervals rest on; empty without any."""
    if not intervals:
        return ""
    seeds = [len(interval.seeds) for interval in intervals]
    images = _span([interval.images for interval in intervals])
    return f"{_span(seeds)} seed{'s' * (max(seeds) > 1)}, {images} test images"


def _span(numbers: Sequence[int]) -> str:
    """Return ``3``, or ``3 to 6``."""
    return " to ".join(f"{number:,}" for number in sorted({min(numbers), max(numbers)}))


def _table(shown: Shown, read: Any, gallery: Gallery) -> dict[str, Any]:
    """Return what the template shows of a table."""
    report = shown.report
    column = report.columns[0].name
    gaps = {row.id: _row_gap(row, column) for row in report.rows}
    ends = scale(gaps.values())
    has_gaps = any(gap.numbers() for gap in gaps.values())
    pictured = report if draws_itself(shown) else shown.pictured
    drawn = curves(pictured, read) if pictured else Curves()
    sheet = gallery.sheet(pictured) if pictured else Sheet()
    return {
        "report": report,
        "kept": shown.kept_in,
        "pictured": None if pictured is report else pictured,
        "is_drawn": pictured is not None,
        "columns": report.columns,
        "measured": ", ".join(report.our_splits),
        "level": max(
            (round(c.ours_interval.level) for c in report.cells if c.ours_interval), default=0
        ),
        "strips": {
            row.id: strip(
                gaps[row.id], ends, f"gap-{report.table}-{n}", _row_label(row, gaps[row.id])
            )
            for n, row in enumerate(report.rows)
            if gaps[row.id].numbers()
        },
        "scale": axis(ends, f"gap-{report.table}-scale") if has_gaps else None,
        "curves": drawn,
        "sheet": sheet,
        "skipped": [*drawn.skipped, *sheet.skipped],
    }


def draws_itself(shown: Shown) -> bool:
    """Tell whether curves and pictures are of the runs behind the numbers: they are here, or kept with the report."""
    paths = [Path(run.results) for run in shown.report.origin]
    return not shown.kept_in or any(
        is_kept(path) and (curve_file(path).is_file() or kept_beside(path, "pictured").is_file())
        for path in paths
    )


def describe_absence(row: ReportRow) -> str:
    """Return why there is nothing of ours in a row, in a word or two; empty if there is."""
    if row.was_run or row.gap_of or not row.ours:
        return ""
    if row.experiment is None:
        return "cannot be run"
    if row.not_at_level:
        return "not at this level"
    return "unfinished" if row.unfinished else "not run yet"


def _row_gap(row: ReportRow, column: str) -> Gap:
    cell = row.cells[column]
    # A row that is the gap of two others has it as its value.
    ours = cell.ours if row.gap_of else cell.ours_gap
    return Gap(
        ours=ours.mean if ours else None,
        interval=(cell.ours_interval.low, cell.ours_interval.high) if cell.ours_interval else None,
        theirs=cell.paper if row.gap_of else cell.paper_gap,
    )


def _row_label(row: ReportRow, gap: Gap) -> str:
    sides = (("ours", gap.ours), ("paper", gap.theirs))
    words = [f"{side} {format_with_minus(value)}" for side, value in sides if value is not None]
    return f"Gap of {row.name} in AP points: {', '.join(words)}."


def _claim_label(verdict: Verdict) -> str:
    ours = "not measured" if verdict.gap is None else format_with_minus(verdict.gap)
    if verdict.interval:
        ours += f", {verdict.interval.level:.0f} %: {' to '.join(claim_ends(verdict))}"
    return f"Gap in AP points: ours {ours}; paper {format_with_minus(verdict.paper_gap)}."


def _minutes(seconds: float | None) -> str:
    if seconds is None:
        return "\N{EN DASH}"
    hours, minutes = divmod(round(seconds / 60), 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min" if seconds >= 60 else f"{seconds:.0f} s"


@functools.cache
def environment() -> Environment:
    """Return the templates of pages, with the filters that they use."""
    templates = templates_in(TEMPLATES)
    templates.keep_trailing_newline = True
    templates.filters.update(
        signed=format_with_minus, minutes=_minutes, points=points, seeds=seeds_text, averaged=describe_average, commit=short_commit,
        estimate=estimate_text, ends=format_ends, **FILTERS,
    )  # fmt: skip
    templates.globals.update(remarks=remarks, absent=describe_absence, claim_ends=claim_ends)
    return templates
