"""Results in the README and in the documentation, generated from ``results/``: nothing unmeasured stands there.

The README shows one table; ``docs/findings.md`` says of each level and backend what was measured and which claims
of the paper hold.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from maskrcnn_repro.errors import TableError
from maskrcnn_repro.tables.paper.claims import claims
from maskrcnn_repro.tables.paper.experiments import backbones
from maskrcnn_repro.tables.report.by_level import claims_by_level
from maskrcnn_repro.tables.report.claims_text import (
    claims_markdown,
    interval_text,
    spread_lines,
    tally,
)
from maskrcnn_repro.tables.report.kept_reading import TABLES, KeptReports
from maskrcnn_repro.tables.report.model import Cell, Report, ReportRow, Verdict
from maskrcnn_repro.tables.report.spread import newest_spreads
from maskrcnn_repro.tables.report.text import estimate_text, grid, seeds_text
from maskrcnn_repro.tables.report.words import (
    DASH,
    TEMPLATES,
    format_signed,
    points,
    short_commit,
    under,
)
from maskrcnn_repro.utils.command_line import exit_status
from maskrcnn_repro.utils.files import write_text

from jinja2 import Environment, FileSystemLoader, StrictUndefined

BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
SHOWN = "2c"
"""The table that stands in the README and, for each level and backend, among the findings."""
FINDINGS = Path("docs", "findings.md")
"""The page of findings, from the folder of the README."""
NOTHING = "No results are kept yet."

Record = Mapping[str, Any]
"""A kept ``seedK.json``."""


def readme_block(results: Path) -> str:
    """Return the README's results in Markdown: the paper's rows of one table, of the first level that has it.

    Args:
        results: the folder, which lies beside the README.

    Raises:
        TableError: a file cannot be read.
    """
    kept = next(
        (kept for kept in map(KeptReports, _folders(results)) if SHOWN in kept.tables), None
    )
    if kept is None:
        return NOTHING
    report = kept.tables[SHOWN]
    rows = tuple(
        row for row in report.rows if any(cell.paper is not None for cell in row.cells.values())
    )
    verdicts = kept.verdicts
    level, backend = kept.folder.parts[-2:]
    source = (
        f"Level {level}, {backend} Detectron2: means ± standard deviations over training seeds."
    )
    return f"{_table(replace(report, rows=rows))}\n\n{source} {tally(verdicts, claims())}."


def _folders(results: Path) -> list[Path]:
    """Return the folders of kept levels and backends in their order."""
    folders = {table.parents[1] for table in results.glob(f"*/*/{TABLES}/*.json")}
    # The mini level first, then its trials; the embedded backend before an installed one.
    return sorted(folders, key=lambda folder: (folder.parent.name, folder.name))


def results_block(results: Path) -> str:
    """Return the page of findings in Markdown, without its head.

    Args:
        results: the folder, which lies beside the README.

    Raises:
        TableError: a file cannot be read, or tables and records do not belong together.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["minutes"] = _mean_minutes
    template = environment.get_template("readme.md.j2")
    sections = [
        template.render(
            _section(KeptReports.of(folder), Path("..", folder.relative_to(results.parent)))
        )
        for folder in _folders(results)
    ]
    return "\n\n".join([*_compare_levels(results), *sections]) or NOTHING


def _compare_levels(results: Path) -> list[str]:
    """Return the claims of all levels side by side, each on its first backend; nothing with a single level."""
    levels: dict[str, Sequence[Verdict]] = {}
    for folder in _folders(results):
        levels.setdefault(folder.parent.name, KeptReports.of(folder).verdicts)
    table = claims_by_level(levels) if len(levels) > 1 else ""
    return [f"### Claims by level\n\n{table}"] if table else []


def check_renewal(readme: Path, results: Path, place: Path, saved: Collection[str]) -> None:
    """Raise TableError if README and findings could not be written after tables are saved.

    Args:
        readme: it, with its marks.
        results: the folder, which lies beside the README.
        place: ``LEVEL/BACKEND`` in it: what is saved.
        saved: the tables whose files are written anew, as the claims are.
    """
    for file in _pages(readme):
        split_readme(file)
    for folder in _folders(results):
        if folder != results / place:
            _section(KeptReports.of(folder), folder)
    KeptReports(results / place).check(saved)


def _pages(readme: Path) -> dict[Path, Callable[[Path], str]]:
    """Return the files that results are written into, each with what makes its block of a folder ``results``."""
    pages: dict[Path, Callable[[Path], str]] = {readme: readme_block}
    if (findings := readme.parent / FINDINGS).is_file():
        pages[findings] = results_block
    return pages


def update_readme(readme: Path, results: Path) -> list[Path]:
    """Write the results between the two marks of a README, and of the page of findings if there is one.

    Returns:
        The files that were written.

    Raises:
        TableError: the marks are not there; or see :func:`results_block`.
        OutputError: a file cannot be written.
    """
    blocks = {file: block(results) for file, block in _pages(readme).items()}
    for file, block in blocks.items():
        head, _, tail = split_readme(file)
        write_text(file, f"{head}{BEGIN}\n{block}\n{END}{tail}")
    return list(blocks)


def main(root: Path) -> int:
    """Update the README and the page of findings of a checkout.

    Returns:
        0; 2 after a user's error, told in one sentence.
    """

    def update() -> None:
        update_readme(root / "README.md", root / "results")

    return exit_status(update)


def split_readme(readme: Path) -> tuple[str, str, str]:
    """Return what stands before, between and behind the marks.

    Raises:
        TableError: it cannot be read, or has not each mark once, in order.
    """
    try:
        text = readme.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise TableError(f"{readme} cannot be read: {reason}.") from error
    head, begun, rest = text.partition(BEGIN)
    block, ended, tail = rest.partition(END)
    if not begun or not ended or BEGIN in rest or END in tail:
        raise TableError(f"{readme} needs {BEGIN} and {END} once each, in this order.")
    return head, block.strip("\n"), tail


def _section(kept: KeptReports, link: Path) -> dict[str, Any]:
    """Return what the template says of one level on one backend."""
    by_table = {name: kept.records_of(name) for name in kept.tables}
    own = {record["record"]: record for records in by_table.values() for record in records}
    trained = [record for record in own.values() if record["kind"] == "training"]
    others = [record for record in kept.records.values() if record["record"] not in own]
    trains_backbones = any(record["experiment"] in backbones() for record in others)
    cells = [cell for table in kept.tables.values() for cell in table.cells]
    images = {cell.ours_interval.images for cell in cells if cell.ours_interval}
    overlays = [name for table in kept.tables.values() for name in table.overlays]
    return {
        "sets": _list_texts(next(iter(record["metrics"])) for record in own.values()),
        "levels": _list_texts(record["level"] for record in own.values()),
        "backends": _list_texts(map(_backend, own.values())),
        "trained": trained,
        "others": others,
        "needed": f"{'backbones and ' * trains_backbones}proposals",
        "seeds": seeds_text(sorted({record["seed"] for record in trained})),
        "images": f" ({_list_texts(f'{number:,}' for number in images)} images)" if images else "",
        "under": under(list(dict.fromkeys(overlays))),
        "machines": _list_texts(map(_machine, own.values())),
        "commits": _list_texts(short_commit(record["code"]["commit"]) for record in own.values()),
        "torches": _list_texts(str(record["code"].get("torch")) for record in own.values()),
        "parts": [
            *_claims(kept.verdicts),
            *spread_lines(newest_spreads(kept.tables.values())),
            *([_table(kept.tables[SHOWN])] if by_table.get(SHOWN) else []),
        ],
        "links": [
            f"[{name}]({link.as_posix()}/{TABLES}/{name}.md) ({_duration(records)})"
            for name, records in by_table.items()
            if records
        ],
    }


def _claims(verdicts: Sequence[Verdict]) -> list[str]:
    """Return how many claims hold, and those that were judged; nothing if none was."""
    judged = [verdict for verdict in verdicts if verdict.outcome != "missing"]
    return (
        [f"{tally(verdicts, claims())}.", claims_markdown(judged, are_all=True)] if judged else []
    )


def _table(report: Report) -> str:
    """Return a table in Markdown, of the rows that were run, with the interval of the gap in the first column."""
    columns = list(report.rows[0].cells)
    headers = ["row", *(f"{name} {whose}" for name in columns for whose in ("paper", "here"))]
    headers.append(f"gap in {columns[0]} here")
    table = grid(headers, [_line(row) for row in report.rows if row.was_run], "pipe")
    absent = [row.name for row in report.rows if not row.was_run]
    left_out = f" (not run: {'; '.join(absent)})" if absent else ""
    return f"Table {report.table}, {report.title}{left_out}:\n\n{table}"


def _line(row: ReportRow) -> list[str]:
    """Return name, numbers and the gap in the first column, with its interval."""
    first, *_ = cells = list(row.cells.values())
    numbers = [text for cell in cells for text in (points(cell.paper), estimate_text(cell.ours))]
    return [row.name, *numbers, _gap(first) or DASH]


def _gap(cell: Cell) -> str:
    # The interval of a row that is a gap of others is of its own value.
    gap = cell.ours_gap or (cell.ours if cell.ours_interval else None)
    interval = [interval_text(cell.ours_interval)] if cell.ours_interval else []
    return " ".join([*([format_signed(gap.mean)] if gap else []), *interval])


def _list_texts(texts: Iterable[str]) -> str:
    return ", ".join(sorted(set(texts)))


def _backend(record: Record) -> str:
    backend = record["code"]["backend"]
    return f"{backend['name']} Detectron2 {backend.get('version', '')}".rstrip()


def _machine(record: Record) -> str:
    machine = record["machine"]
    threads = machine.get("threads")
    of = f", {threads} thread{'s' * (threads > 1)}" if threads and not machine["gpu"] else ""
    return f"{machine['gpu'] or machine['cpu']}{of}"


def _minutes(record: Record) -> float:
    return sum(record[key] or 0.0 for key in ("train_seconds", "eval_seconds")) / 60


def _mean_minutes(records: Sequence[Record]) -> str:
    return f"{statistics.fmean(map(_minutes, records)):.1f} minutes" if records else DASH


def _duration(records: Sequence[Record]) -> str:
    return (
        f"{sum(_minutes(record) for record in records if record['kind'] == 'training'):.0f} minutes"
    )
