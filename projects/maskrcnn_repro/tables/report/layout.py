"""A report as text for a console, as Markdown, and as JSON; what it says is decided in ``report``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from maskrcnn_repro.tables.paper.numbers import Metric
from maskrcnn_repro.tables.report.report import Cell, Estimate, ReportRow, TableReport
from maskrcnn_repro.tables.report.verdict_layout import claims_markdown, interval_json, verdict_json

from tabulate import tabulate

DASH = "\N{EN DASH}"
METRICS_PER_BLOCK = 3
"""So many metrics stand side by side on a console; the others below."""


def as_text(report: TableReport, metrics: Mapping[str, Metric]) -> str:
    """Return the report for a console of some 110 columns."""
    parts = [f"Table {report.table.id}: {report.table.title}", *_about(report), ""]
    for names in _chunks(report.table.columns):
        headers, lines = _grid(report, names, metrics, "\n")
        align = ("left", *["right"] * (len(headers) - 1))
        parts += [tabulate(lines, headers, "simple", colalign=align, disable_numparse=True), ""]
    return "\n".join([*parts, *_foot(report)]).rstrip() + "\n"


def as_markdown(report: TableReport, metrics: Mapping[str, Metric]) -> str:
    """Return the report in Markdown."""
    parts = [f"## Table {report.table.id}: {report.table.title}", ""]
    parts += [f"{line}  " for line in _about(report)] + [""]
    for names in _chunks(report.table.columns):
        headers, lines = _grid(report, names, metrics, " ")
        align = ("left", *["right"] * (len(headers) - 1))
        parts += [tabulate(lines, headers, "pipe", colalign=align, disable_numparse=True), ""]
    if report.verdicts:
        parts += [line for text in judged_on([report]) for line in (text, "")]
        parts += [claims_markdown(_claims(report)), ""]
    return "\n".join([*parts, *(f"- {line}" for line in _foot(report))]).rstrip() + "\n"


def _claims(report: TableReport) -> list[dict[str, Any]]:
    return [verdict_json(one, report.level) for one in report.verdicts]


def as_json(report: TableReport) -> dict[str, Any]:
    """Return the report as plain values."""
    return {
        "table": report.table.id,
        "title": report.table.title,
        "level": report.level,
        "overrides": list(report.overrides),
        "overlays": list(report.overlays),
        "backend": report.backend,
        "paper_split": report.table.split,
        "our_splits": our_splits(report),
        "baseline_row": report.table.baseline_row,
        "rows": [_row_json(row) for row in report.rows],
        "claims": _claims(report),
        "refused": list(report.refused),
        "origin": [
            {
                "results": str(record.path),
                "seed": record.seed,
                "commit": record.commit,
                "machine": record.machine,
                "weights": record.weights,
                "data": dict(record.data),
                "written": record.written,
            }
            for record in report.records
        ],
    }


def our_splits(report: TableReport) -> list[str]:
    """Return the data sets that ours was measured on."""
    return sorted({next(iter(record.metrics), "") for record in report.records} - {""})


def judged_on(reports: Iterable[TableReport]) -> list[str]:
    """Return what a reader of claims should know where overlays lie over the level, in a line or none."""
    every = list(reports)
    overlays = dict.fromkeys(name for one in every for name in one.overlays)
    if not overlays:
        return []
    sets = dict.fromkeys(name for one in every for name in our_splits(one))
    images = {v.interval.images for one in every for v in one.verdicts if v.interval}
    counted = f" ({', '.join(f'{number:,}' for number in sorted(images))} images)" if images else ""
    return [f"Claims judged on {', '.join(sets) or 'no record yet'}{counted}{under(overlays)}."]


def under(overlays: Iterable[str]) -> str:
    """Return `` under own.yaml: not the paper's data and recipe``; empty without overlays."""
    names = ", ".join(overlays)
    return f" under {names}: not the paper's data and recipe" if names else ""


def estimate_text(estimate: Estimate | None, gap: Estimate | None) -> str:
    """Return ``45.1 ± 0.4 (-3.1)``; a single seed has no spread, the baseline no gap."""
    if estimate is None:
        return DASH
    spread = "" if estimate.spread is None else f" ± {estimate.spread:.1f}"
    return f"{estimate.mean:.1f}{spread}{_gap(None if gap is None else gap.mean)}"


def _paper_text(cell: Cell) -> str:
    return DASH if cell.paper is None else f"{cell.paper:.1f}{_gap(cell.paper_gap)}"


def _gap(gap: float | None) -> str:
    # Rounded first: -0.04 is no "-0.0".
    return "" if gap is None else f" ({round(gap, 1) + 0.0:+.1f})"


def _grid(
    report: TableReport, names: Sequence[str], metrics: Mapping[str, Metric], line_break: str
) -> tuple[list[str], list[list[str]]]:
    """Return headers and cells of one block of metrics."""
    has_zoo = any(cell.zoo is not None for row in report.rows for cell in row.cells.values())
    splits = ", ".join(our_splits(report)) or "val"
    kinds: list[tuple[str, Callable[[Cell], str]]] = [
        ("paper", _paper_text),
        ("ours", lambda cell: estimate_text(cell.ours, cell.ours_gap)),
    ]
    if has_zoo:
        kinds.append(("Detectron2", lambda c: DASH if c.zoo is None else f"{c.zoo:.1f}"))
    headers = ["row"]
    for name in names:
        held_out = name in report.table.held_out
        # Such columns are measured on test images, said in full above the table.
        where = {"paper": "test", "ours": splits, "Detectron2": splits}
        for kind, _ in kinds:
            words = [metrics[name].title, kind, *([where[kind]] if held_out else [])]
            headers.append(line_break.join(words))
    marks = {id(row): mark for mark, row in _marked(report)}
    lines = []
    for row in report.rows:
        mark = f" [{marks[id(row)]}]" if id(row) in marks else ""
        lines.append(
            [row.row.name + mark, *(text(row.cells[n]) for n in names for _, text in kinds)]
        )
    return headers, lines


def _about(report: TableReport) -> list[str]:
    """Return the lines under the title: what is compared, and where ours comes from."""
    table = report.table
    seeds = sorted(
        {s for row in report.rows for c in row.cells.values() if c.ours for s in c.ours.seeds}
    )
    measured = ", ".join(our_splits(report)) or "no record yet"
    numbers = ", ".join(map(str, seeds)) or DASH
    base = table.rows[table.baseline_row].name
    lines = [
        f"Level {report.level}, {report.backend}. Paper: {table.split}; ours: {measured}.",
        f"Ours: mean ± standard deviation over seeds {numbers}; {DASH}: not there.",
        f"In brackets: gap to «{base}».",
    ]
    if report.overlays:
        lines.append(f"Laid over the level: {', '.join(report.overlays)}.")
    if report.overrides:
        lines.append(f"A trial with {' '.join(report.overrides)}: not a result.")
    elif report.level != "paper":
        lines.append("Other data and sizes than the paper's: compare the gaps, not the numbers.")
    return lines


def _marked(report: TableReport) -> list[tuple[str, ReportRow]]:
    """Return a mark for each row that has a footnote."""
    rows = [row for row in report.rows if remarks(row, report.level)]
    return [(_letter(number), row) for number, row in enumerate(rows)]


def remarks(row: ReportRow, level: str) -> list[str]:
    """Return a row's footnotes: why it cannot be run, in what it departs from the paper, what is unfinished."""
    one = row.row
    texts = [
        ("cannot be run: ", one.why_not),
        ("departs from the paper: ", one.departs),
        ("an extra row: " if one.extra else "", one.note),
        ("", "derived from printed numbers" if one.derived else None),
        (f"not at level {level}: ", row.not_here or None),
        ("unfinished: ", "; ".join(row.unfinished) or None),
    ]
    return [f"{head}{text.rstrip('.')}." for head, text in texts if text]


def _foot(report: TableReport) -> list[str]:
    lines = [f"[{mark}] {' '.join(remarks(row, report.level))}" for mark, row in _marked(report)]
    missing = [
        r.row.id for r in report.rows if r.row.experiment and not r.records and not r.not_here
    ]
    if missing:
        lines.append(f"Not run yet: {', '.join(missing)}.")
    lines += [f"Left out: {text}." for text in report.refused]
    records = report.records
    if records:
        commits = sorted({short_commit(r.commit) for r in records})
        machines = sorted({r.machine for r in records})
        lines.append(
            f"{len(records)} records, last of {max(r.written for r in records)}; "
            f"code {', '.join(commits)}; {', '.join(machines)}."
        )
    return lines


def short_commit(commit: str | None) -> str:
    """Return the start of a commit, for people."""
    if commit is None:
        return "of no checkout"
    return commit[:12] + "-dirty" * commit.endswith("-dirty")


def _row_json(row: ReportRow) -> dict[str, Any]:
    one = row.row
    return {
        "id": one.id,
        "name": one.name,
        "experiment": one.experiment,
        "ours": one.ours,
        "extra": one.extra,
        "why_not": one.why_not,
        "departs": one.departs,
        "unfinished": list(row.unfinished),
        "not_at_level": row.not_here or None,
        "cells": {name: _cell_json(cell) for name, cell in row.cells.items()},
    }


def _cell_json(cell: Cell) -> dict[str, Any]:
    return {
        "paper": cell.paper,
        "paper_gap": None if cell.paper_gap is None else round(cell.paper_gap, 2),
        "ours": _estimate_json(cell.ours),
        "ours_gap": _estimate_json(cell.ours_gap),
        "ours_interval": interval_json(cell.ours_interval),
        "detectron2_weights": cell.zoo,
    }


def _estimate_json(estimate: Estimate | None) -> dict[str, Any] | None:
    if estimate is None:
        return None
    return {"mean": estimate.mean, "spread": estimate.spread, "seeds": list(estimate.seeds)}


def _chunks(names: Sequence[str]) -> list[tuple[str, ...]]:
    return [
        tuple(names[i : i + METRICS_PER_BLOCK]) for i in range(0, len(names), METRICS_PER_BLOCK)
    ]


def _letter(number: int) -> str:
    return chr(ord("a") + number) if number < 26 else str(number)
