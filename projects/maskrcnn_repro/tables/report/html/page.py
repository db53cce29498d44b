"""``report.html``: tables, claims, curves, pictures and origins in one file that needs no network."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from maskrcnn_repro.tables.paper.numbers import Metric
from maskrcnn_repro.tables.report.html.claim_view import OUTCOMES, claim_section
from maskrcnn_repro.tables.report.html.curves import CurveFiles, curves
from maskrcnn_repro.tables.report.html.gaps import signed
from maskrcnn_repro.tables.report.html.origin import origins, short_commit
from maskrcnn_repro.tables.report.html.predictions import THRESHOLD, Gallery
from maskrcnn_repro.tables.report.html.sampling import svg_panels
from maskrcnn_repro.tables.report.html.table_view import table_section
from maskrcnn_repro.tables.report.layout import judged_on
from maskrcnn_repro.tables.report.report import TableReport
from maskrcnn_repro.tables.report.reporting import write
from maskrcnn_repro.tables.report.verdicts import Verdict

from jinja2 import Environment, FileSystemLoader, StrictUndefined

TEMPLATES = Path(__file__).parent / "templates"


def write_page(
    path: Path,
    reports: Sequence[TableReport],
    verdicts: Sequence[Verdict],
    metrics: Mapping[str, Metric],
) -> tuple[str, ...]:
    """Write the page in one step.

    Args:
        path: the HTML file; paths in it are given from its folder.
        reports: the tables that are shown, of one level and backend.
        verdicts: the claims that are shown.
        metrics: all columns.

    Returns:
        What could not be read and is left out, each with the reason; the page says it, too.

    Raises:
        OutputError: the file cannot be written.
    """
    page = _page(path.parent, reports, verdicts, metrics)
    write(path, _environment().get_template("report.html.j2").render(page))
    return tuple(dict.fromkeys(text for table in page["tables"] for text in table.skipped))


def _page(
    folder: Path,
    reports: Sequence[TableReport],
    verdicts: Sequence[Verdict],
    metrics: Mapping[str, Metric],
) -> dict[str, Any]:
    """Return what the template shows."""
    files, gallery = CurveFiles(), Gallery()
    groups = origins(reports, folder)
    runs = [run for group in groups for run in group.runs]
    records = [record for report in reports for record in report.records]
    first = reports[0] if reports else None
    return {
        "level": first.level if first else "",
        "backend": first.backend if first else "",
        "overrides": " ".join(first.overrides) if first else "",
        "overlays": first.overlays if first else (),
        "judged_on": judged_on(reports),
        "compare_gaps": first is not None and first.level != "paper",
        "machines": sorted({record.machine for record in records}),
        "commits": sorted({short_commit(record.commit) for record in records}),
        "newest": _moment(max((record.written for record in records), default="")),
        "seconds": sum(run.seconds or 0.0 for run in runs),
        "groups": groups,
        "runs": len(runs),
        "counts": Counter(verdict.outcome for verdict in verdicts),
        "outcomes": OUTCOMES,
        "plural": {"holds": "hold", "fails": "fail"},
        "claims": claim_section(verdicts, reports, metrics),
        "panels": svg_panels(),
        "tables": [
            table_section(report, metrics, curves(report, metrics, files), gallery.sheet(report))
            for report in reports
        ],
        "threshold": THRESHOLD,
    }


@functools.cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters.update(signed=signed, minutes=_minutes, points=lambda value: f"{value:.1f}")
    return made


def _moment(written: str) -> str:
    """Return a time in UTC to the minute, as ISO 8601 without its signs."""
    return f"{written[:16].replace('T', ' ')} UTC" if written else ""


def _minutes(seconds: float | None) -> str:
    if seconds is None:
        return "\N{EN DASH}"
    hours, minutes = divmod(round(seconds / 60), 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min" if seconds >= 60 else f"{seconds:.0f} s"
