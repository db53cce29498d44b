"""A report for a console and as Markdown: the same grid of cells, lines above it and lines below."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from maskrcnn_repro.tables.report.claims_text import claims_markdown, spread_lines
from maskrcnn_repro.tables.report.model import Cell, Estimate, Report, ReportColumn, ReportRow
from maskrcnn_repro.tables.report.places import is_kept
from maskrcnn_repro.tables.report.words import DASH, format_signed, points, short_commit, under

from tabulate import tabulate

METRICS_PER_BLOCK = 3
"""So many metrics stand side by side; the others below."""


def as_text(report: Report) -> str:
    """Return the report for a console of some 110 columns."""
    head = [f"Table {report.table}: {report.title}", *_describe_origin(report), ""]
    return _join_lines([*head, *_grids(report, "simple", "\n"), *_write_footnotes(report)])


def as_markdown(report: Report) -> str:
    """Return the report in Markdown."""
    parts = [f"## Table {report.table}: {report.title}", ""]
    parts += [*(f"{line}  " for line in _describe_origin(report)), "", *_grids(report, "pipe", " ")]
    if report.claims:
        parts += [line for text in describe_overlays([report]) for line in (text, "")]
        parts += [claims_markdown(report.claims), ""]
    return _join_lines([*parts, *(f"- {line}" for line in _write_footnotes(report))])


def grid(headers: Sequence[str], lines: Sequence[Sequence[str]], style: str, left: int = 1) -> str:
    """Return a table as text: its first ``left`` columns to the left, the others to the right."""
    align = ("left",) * left + ("right",) * (len(headers) - left)
    return tabulate(lines, headers, style, colalign=align, disable_numparse=True)


def describe_overlays(reports: Iterable[Report]) -> list[str]:
    """Return what a reader of claims should know where overlays lie over the level, in a line or none."""
    every = list(reports)
    overlays = list(dict.fromkeys(name for report in every for name in report.overlays))
    if not overlays:
        return []
    sets = dict.fromkeys(name for report in every for name in report.our_splits)
    intervals = [verdict.interval for report in every for verdict in report.claims]
    images = sorted({interval.images for interval in intervals if interval})
    counted = f" ({', '.join(f'{number:,}' for number in images)} images)" if images else ""
    return [f"Claims judged on {', '.join(sets) or 'no record yet'}{counted}{under(overlays)}."]


def describe_average(report: Report) -> str:
    """Return what a number of ours is: ``one training, seed 1``, or the mean of which seeds; empty without any."""
    rows: dict[tuple[int, ...], list[str]] = {}
    for row in report.rows:
        if seeds := tuple(sorted({run.seed for run in report.runs(row)})):
            rows.setdefault(seeds, []).append(row.name)
    if all(len(seeds) == 1 for seeds in rows):
        return f"one training a row, {seeds_text(report.seeds)}" if rows else ""
    if len(rows) == 1:
        return f"mean ± standard deviation over {seeds_text(report.seeds)}"
    whose = "; ".join(f"{seeds_text(seeds)} ({', '.join(names)})" for seeds, names in rows.items())
    return f"mean ± standard deviation over {whose}, and a gap over the seeds that both rows have"


def seeds_text(seeds: Sequence[int]) -> str:
    """Return ``seed 1``, ``seeds 1, 2`` or ``seeds 1 to 6``."""
    if len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[-1] + 1)):
        return f"seeds {seeds[0]} to {seeds[-1]}"
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"


def estimate_text(estimate: Estimate | None) -> str:
    """Return ``45.1 ± 0.4``; a single seed has no spread."""
    spread = estimate.spread if estimate else None
    mean = points(estimate.mean if estimate else None)
    return mean if spread is None else f"{mean} ± {spread:.1f}"


def remarks(row: ReportRow, level: str) -> list[str]:
    """Return a row's footnotes: why it cannot be run, in what it departs from the paper, what is unfinished."""
    texts = [
        ("cannot be run: ", row.why_not),
        ("departs from the paper: ", row.departs),
        ("an extra row: " if row.extra else "", row.note),
        ("", "derived from printed numbers" if row.derived else None),
        (f"not at level {level}: ", row.not_at_level),
        ("unfinished: ", "; ".join(row.unfinished)),
    ]
    return [f"{head}{text.rstrip('.')}." for head, text in texts if text]


def _with_gap(number: str, gap: float | None) -> str:
    return number if gap is None else f"{number} ({format_signed(gap)})"


def _ours(cell: Cell) -> str:
    gap = cell.ours_gap.mean if cell.ours and cell.ours_gap else None
    return _with_gap(estimate_text(cell.ours), gap)


_KINDS: dict[str, Callable[[Cell], str]] = {
    "paper": lambda cell: _with_gap(points(cell.paper), cell.paper_gap),
    "ours": _ours,
    "Detectron2": lambda cell: points(cell.detectron2_weights),
}


def _grids(report: Report, style: str, line_break: str) -> list[str]:
    """Return blocks of metrics, each with an empty line below."""
    kinds = list(_KINDS)[: 3 if report.has_detectron2_weights else 2]
    marks = {row.id: f" [{mark}]" for mark, row in _mark_rows(report)}
    parts = []
    for start in range(0, len(report.columns), METRICS_PER_BLOCK):
        block = report.columns[start : start + METRICS_PER_BLOCK]
        heads = [_header(report, column, kind) for column in block for kind in kinds]
        lines = [
            [
                row.name + marks.get(row.id, ""),
                *(_KINDS[kind](row.cells[column.name]) for column in block for kind in kinds),
            ]
            for row in report.rows
        ]
        parts += [grid(["row", *(line_break.join(words) for words in heads)], lines, style), ""]
    return parts


def _header(report: Report, column: ReportColumn, kind: str) -> list[str]:
    """Return the words over a column; a held-out one names the images of each side."""
    words = [column.title, kind]
    if column.held_out:
        words.append("test" if kind == "paper" else ", ".join(report.our_splits) or "val")
    return words


def _describe_origin(report: Report) -> list[str]:
    """Return the lines under the title: what is compared, and where ours comes from."""
    splits = ", ".join(report.our_splits) or "no record yet"
    lines = [
        f"Level {report.level}, {report.backend}. Paper: {report.paper_split}; ours: {splits}.",
        f"Ours: {describe_average(report) or DASH}; {DASH}: not there.",
        f"In brackets: gap to “{report.baseline}”.",
    ]
    if report.overlays:
        lines.append(f"Laid over the level: {', '.join(report.overlays)}.")
    if report.overrides:
        lines.append(f"A trial with {' '.join(report.overrides)}: not a result.")
    elif report.level != "paper":
        lines.append("Other data and sizes than the paper's: compare the gaps, not the numbers.")
    return lines


def _mark_rows(report: Report) -> list[tuple[str, ReportRow]]:
    """Return a mark for each row that has a footnote."""
    rows = [row for row in report.rows if remarks(row, report.level)]
    return [(chr(ord("a") + n) if n < 26 else str(n), row) for n, row in enumerate(rows)]


def _write_footnotes(report: Report) -> list[str]:
    lines = [f"[{mark}] {' '.join(remarks(row, report.level))}" for mark, row in _mark_rows(report)]
    missing = [
        row.id
        for row in report.rows
        if row.experiment and not report.runs(row) and not row.not_at_level
    ]
    if missing:
        lines.append(f"Not run yet: {', '.join(missing)}.")
    lines += [f"Left out: {text}." for text in report.refused]
    lines += [*report.notes, *spread_lines(report.spreads)]
    if report.origin:
        commits = sorted({short_commit(run.commit) for run in report.origin})
        machines = sorted({run.machine for run in report.origin})
        kept = sum(is_kept(Path(run.results)) for run in report.origin)
        # In a report that is kept itself all of them are.
        of_which = f" ({kept} of them kept with the code)" * (0 < kept < len(report.origin))
        lines.append(
            f"{len(report.origin)} records{of_which}, last of {max(run.written for run in report.origin)}; "
            f"code {', '.join(commits)}; {', '.join(machines)}."
        )
    return lines


def _join_lines(lines: Iterable[str]) -> str:
    return "\n".join(lines).rstrip() + "\n"
