#!/usr/bin/env python3
"""Write the table of heads in ``docs/family.md`` anew: what each is held to, its gaps, its claims and what it costs.

    maskrcnn table family --level mini --seeds 3
    maskrcnn benchmark heads family --output output/heads.json
    python scripts/write_family.py --report output/mini/tables/family.json --costs output/heads.json

What is not given is a dash. Rows and claims are those of ``projects/maskrcnn_family/tables.yaml``.
"""

import argparse
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "projects"))

from maskrcnn_repro.benchmark.statistics import MIN_ROUNDS
from maskrcnn_repro.errors import TableError
from maskrcnn_repro.tables.paper.additions import register_table
from maskrcnn_repro.tables.paper.claims import Claim, all_claims
from maskrcnn_repro.tables.paper.numbers import Row, Table, all_metrics, find_row, find_table
from maskrcnn_repro.tables.report.claims_text import interval_text
from maskrcnn_repro.tables.report.model import Report, Verdict
from maskrcnn_repro.tables.report.plain import from_json
from maskrcnn_repro.tables.report.readme import BEGIN, END, split_readme
from maskrcnn_repro.tables.report.text import grid
from maskrcnn_repro.tables.report.words import DASH, format_signed
from maskrcnn_repro.tables.runs.reading import read_json
from maskrcnn_repro.utils.command_line import exit_status
from maskrcnn_repro.utils.files import write_text

PAGE = ROOT / "docs" / "family.md"
TABLES = ROOT / "projects" / "maskrcnn_family" / "tables.yaml"
SHORTENED = "family_seconds"
"""Table of trainings with fewer iterations, whose mask AP is a column of the others."""
MOST_SPREAD = 0.25
"""Distance of a ratio's quartiles, as a share of it, above which other work on the machine hides the ratio.

Fewer rounds than ``MIN_ROUNDS`` hide it, too: the quartiles of two lie half as far apart as they do.
"""
GAPS = ("AP", "AP-seconds")
"""Columns of gaps to the baseline: after as many iterations, and after as many seconds."""
HEADERS = (
    "head",
    "held to",
    "mask AP",
    "equal time",
    "claim",
    "outcome",
    "M parameters",
    "G multiply-adds",
    "image",
    "step",
    "code",
)


def block(table: Table, report: Report | None, costs: Mapping[str, Any]) -> str:
    """Return the table in Markdown, and what its numbers are of.

    Args:
        table: the rows.
        report: of their runs; None without any.
        costs: by a row's name, as ``maskrcnn benchmark heads --output`` writes them.
    """
    heads = [row for row in table.rows.values() if row.experiment]
    lines = [_line(row, table, report, costs.get(row.name, {})) for row in heads]
    about = [
        "Gaps are to the baseline after as many iterations, with 95 % intervals; equal time: mask AP to the baseline's after fewer iterations, as many as fit into its time; image and step: time over Mask R-CNN's, unless other work made it unsteady, and peak memory; code: lines of its folder."
    ]
    if report and report.seeds:
        seeds = ", ".join(map(str, report.seeds))
        splits = ", ".join(report.our_splits)
        about.append(f"Level {report.level}, {splits}, seeds {seeds}, {report.backend}.")
    return f"{grid(HEADERS, lines, 'pipe', left=5)}\n\n{' '.join(about)}"


def _line(row: Row, table: Table, report: Report | None, cost: Mapping[str, Any]) -> list[str]:
    judged = {verdict.id: verdict for verdict in report.claims} if report else {}
    own = [claim for claim in all_claims().values() if claim.rows[0][0] == row.id]
    verdicts = [judged.get(claim.id) for claim in own]
    return [
        row.name,
        row.note or DASH,
        *(DASH if row.id == table.baseline_row else _gap(row, report, name) for name in GAPS),
        "; ".join(map(_claim, own)) or DASH,
        "; ".join(map(_outcome, verdicts)) or DASH,
        f"{cost['parameters'] / 1e6:.2f}" if cost else DASH,
        f"{cost['multiply_adds'] / 1e9:.1f}" if cost else DASH,
        _time(cost["image"]) if cost else DASH,
        _time(cost["step"]) if cost else DASH,
        str(cost["lines"] or DASH) if cost else DASH,
    ]


def _time(measured: Mapping[str, Any]) -> str:
    ratio, memory = measured["ratio"], f"{measured['peak_memory'] / 2**30:.1f} GiB"
    enough = len(measured["seconds"]) >= MIN_ROUNDS
    steady = enough and ratio["high"] - ratio["low"] <= MOST_SPREAD * ratio["value"]
    return f"{ratio['value']:.2f} times, {memory}" if steady else memory


def _gap(row: Row, report: Report | None, name: str) -> str:
    rows = {each.id: each for each in report.rows} if report else {}
    cell = rows[row.id].cells.get(name) if row.id in rows else None
    if not cell or not cell.ours_gap:
        return DASH
    interval = f" {interval_text(cell.ours_interval)}" if cell.ours_interval else ""
    return f"{format_signed(cell.ours_gap.mean)}{interval}"


def _claim(claim: Claim) -> str:
    titles = [all_metrics()[name].title for name in claim.metrics()]
    return f"{' - '.join(titles)} {claim.direction} {find_row(claim.rows[0][1]).name}"


def _outcome(verdict: Verdict | None) -> str:
    if verdict is None or verdict.gap is None:
        return DASH
    interval = f" {interval_text(verdict.interval)}" if verdict.interval else ""
    return f"{verdict.outcome}: {format_signed(verdict.gap)}{interval}"


def write(report: Path | None, costs: Path | None, page: Path = PAGE) -> None:
    """Write the tables between the marks of a page: of each the given report, or the one named after it beside that.

    Raises:
        TableError: a file cannot be read, or the page lacks the marks.
        OutputError: the page cannot be written.
    """
    tables = [find_table(name) for name in register_table(TABLES) if name != SHORTENED]
    measured = _reports(report, [table.id for table in tables]) if report else {}
    heads = read_json(costs).get("heads", {}) if costs else {}
    blocks = [block(table, measured.get(table.id), heads) for table in tables]
    head, _, tail = split_readme(page)
    write_text(page, "\n".join([f"{head}{BEGIN}", "\n\n".join(blocks), f"{END}{tail}"]))


def _reports(given: Path, tables: Iterable[str]) -> dict[str, Report]:
    """Return reports by the ids of their tables."""
    beside = (given.with_name(f"{name}.json") for name in tables)
    reports = {}
    for file in (*filter(Path.is_file, beside), given):
        try:
            report = from_json(Report, read_json(file))
        except (TypeError, ValueError) as error:
            raise TableError(f"{file} is no report of a table: {error}.") from error
        reports[report.table] = report
    return reports


def main() -> int:
    """Parse the command line and write the page; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--report", type=Path, metavar="FILE", help="LEVEL/tables/family.json")
    parser.add_argument("--costs", type=Path, metavar="FILE", help="of maskrcnn benchmark heads")
    args = parser.parse_args()
    return exit_status(lambda: write(args.report, args.costs))


if __name__ == "__main__":
    sys.exit(main())
