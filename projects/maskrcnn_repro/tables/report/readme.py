"""The README's results, generated from ``results/``: what is not measured cannot be written there."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from maskrcnn_repro.errors import TableError
from maskrcnn_repro.tables.report.layout import DASH, short_commit, under
from maskrcnn_repro.tables.report.reporting import write
from maskrcnn_repro.tables.report.saving import CLAIMS, TABLES, read_saved, read_tables
from maskrcnn_repro.tables.report.verdict_layout import (
    claims_markdown,
    interval_text,
    signed,
    tally,
)
from maskrcnn_repro.utils.command_line import exit_status

from tabulate import tabulate

BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
SHOWN = "2c"
"""The table that stands in the README; the others are linked."""
NOTHING = "No results are kept yet."


@dataclass(frozen=True)
class Kept:
    """What is kept of one level on one backend.

    Attributes:
        folder: ``results/LEVEL/BACKEND``.
    """

    folder: Path

    @cached_property
    def tables(self) -> Mapping[str, Mapping[str, Any]]:
        """Tables by id."""
        return read_tables(self.folder)

    @cached_property
    def records(self) -> Mapping[str, Mapping[str, Any]]:
        """Records by name, such as ``r50_c4/seed1.json``."""
        files = sorted(self.folder.rglob("seed*.json"))
        return {file.relative_to(self.folder).as_posix(): read_saved(file) for file in files}

    def records_of(self, table: str) -> list[Mapping[str, Any]]:
        """Return the records that a table was made from.

        Raises:
            TableError: one is not there, or another run has taken its place.
        """
        found = []
        for origin in self.tables[table]["origin"]:
            record = self.records.get(origin["results"])
            if record is None or record["record"] != origin["record"]:
                raise TableError(
                    f"{self.folder / TABLES / table}.json was made from another run than "
                    f"{self.folder / origin['results']} holds; save it again: maskrcnn table {table} "
                    "--report --save-records."
                )
            found.append(record)
        return found


def results_block(results: Path) -> str:
    """Return the README's results in Markdown.

    Args:
        results: the folder, which lies beside the README.

    Raises:
        TableError: a file cannot be read, or tables and records do not belong together.
    """
    folders = [claims.parent for claims in results.glob(f"*/*/{CLAIMS}")]
    # The mini level first, then its trials; the embedded backend before an installed one.
    folders.sort(key=lambda folder: (folder.parent.name, folder.name))
    sections = [_section(Kept(folder), folder.relative_to(results.parent)) for folder in folders]
    return "\n\n".join(sections) or NOTHING


def update_readme(readme: Path, results: Path) -> None:
    """Write :func:`results_block` between the two marks of a README.

    Raises:
        TableError: the marks are not there; or see :func:`results_block`.
        OutputError: the README cannot be written.
    """
    head, _, tail = split_readme(readme)
    write(readme, f"{head}{BEGIN}\n{results_block(results)}\n{END}{tail}")


def main(root: Path) -> int:
    """Update the README of a checkout.

    Returns:
        0; 2 after a user's error, told in one sentence.
    """
    return exit_status(lambda: update_readme(root / "README.md", root / "results"))


def split_readme(readme: Path) -> tuple[str, str, str]:
    """Return what stands before, between and behind the marks.

    Raises:
        TableError: it cannot be read, or has not each mark once, in order.
    """
    try:
        text = readme.read_text(encoding="utf-8")
    except OSError as error:
        raise TableError(f"{readme} cannot be read: {error.strerror}.") from error
    head, begun, rest = text.partition(BEGIN)
    block, ended, tail = rest.partition(END)
    if not begun or not ended or BEGIN in rest or END in tail:
        raise TableError(f"{readme} needs {BEGIN} and {END} once each, in this order.")
    return head, block.strip("\n"), tail


def _section(kept: Kept, link: Path) -> str:
    by_table = {name: kept.records_of(name) for name in kept.tables}
    own = {one["record"]: one for found in by_table.values() for one in found}.values()
    levels, backends = _listed(one["level"] for one in own), _listed(map(_backend, own))
    title = f"### {_listed(map(_test_set, own))}: level {levels}, {backends}"
    parts = [title, _origin(kept, list(own))]
    claims = read_saved(kept.folder / CLAIMS)["claims"]
    known = [one for one in claims if one["outcome"] != "missing"]
    if known:
        parts += [f"{tally(claims)}.", claims_markdown(known)]
    if by_table.get(SHOWN):
        parts.append(_table(kept.tables[SHOWN]))
    links = (
        f"[{name}]({link.as_posix()}/{TABLES}/{name}.md) ({_duration(found)})"
        for name, found in by_table.items()
        if found
    )
    return "\n\n".join([*parts, f"Tables, with the time of their trainings: {', '.join(links)}."])


def _origin(kept: Kept, own: Sequence[Mapping[str, Any]]) -> str:
    """Return what was trained, on what, for how long, and what it was tested on."""
    trained = [one for one in own if one["kind"] == "training"]
    others = [
        one for one in kept.records.values() if one["record"] not in {o["record"] for o in own}
    ]
    images = {
        cell["ours_interval"]["images"]
        for table in kept.tables.values()
        for row in table["rows"]
        for cell in row["cells"].values()
        if cell["ours_interval"]
    }
    counted = f" ({_listed(f'{number:,}' for number in images)} images)" if images else ""
    seeds = ", ".join(map(str, sorted({one["seed"] for one in trained})))
    each = f"{_mean_minutes(trained)} each with their evaluation"
    texts = [f"Trainings: {len(trained)} with seeds {seeds}, {each}"]
    if others:
        before = f"for their proposals {len(others)} before them"
        texts.append(f"{before}, {_mean_minutes(others)} each")
    texts += [
        f"tested on {_listed(map(_test_set, own))}{counted}{_under(kept)}",
        f"machine: {_listed(map(_machine, own))}",
        f"commit {_listed(short_commit(one['code']['commit']) for one in own)}",
        f"torch {_listed(str(one['code'].get('torch')) for one in own)}",
    ]
    return "; ".join(texts) + "."


def _under(kept: Kept) -> str:
    """Return which overlays lie over the level; empty without any."""
    # Tables that were kept before there were overlays say nothing of them.
    overlays = dict.fromkeys(n for tree in kept.tables.values() for n in tree.get("overlays", ()))
    return under(overlays)


def _table(tree: Mapping[str, Any]) -> str:
    """Return a table in Markdown, of the rows that were run, with the interval of the gap in the first column."""
    columns = list(tree["rows"][0]["cells"])
    headers = ["row", *(f"{name} {whose}" for name in columns for whose in ("paper", "here"))]
    headers.append(f"gap in {columns[0]} here")
    lines = [_line(row) for row in tree["rows"] if _was_run(row)]
    absent = [row["name"] for row in tree["rows"] if not _was_run(row)]
    align = ("left", *["right"] * (len(headers) - 1))
    table = tabulate(lines, headers, "pipe", colalign=align, disable_numparse=True)
    left_out = f" (not run: {'; '.join(absent)})" if absent else ""
    return f"Table {tree['table']}, {tree['title']}{left_out}:\n\n{table}"


def _was_run(row: Mapping[str, Any]) -> bool:
    return any(cell["ours"] for cell in row["cells"].values())


def _line(row: Mapping[str, Any]) -> list[str]:
    """Return name, numbers and the gap in the first column, with its interval."""
    cells = list(row["cells"].values())
    gap, sure = cells[0]["ours_gap"], cells[0]["ours_interval"]
    # The interval of a row that is a gap of others is of its own value.
    gap = gap or (cells[0]["ours"] if sure else None)
    said = [signed(gap["mean"])] if gap else []
    said += [interval_text(sure)] if sure else []
    numbers = (text for cell in cells for text in _numbers(cell))
    return [row["name"], *numbers, " ".join(said) or DASH]


def _numbers(cell: Mapping[str, Any]) -> tuple[str, str]:
    paper, ours = cell["paper"], cell["ours"]
    spread = f" ± {ours['spread']:.1f}" if ours and ours["spread"] is not None else ""
    return (
        DASH if paper is None else f"{paper:.1f}",
        DASH if ours is None else f"{ours['mean']:.1f}{spread}",
    )


def _listed(texts: Iterable[str]) -> str:
    return ", ".join(sorted(set(texts)))


def _test_set(record: Mapping[str, Any]) -> str:
    return str(next(iter(record["metrics"])))


def _backend(record: Mapping[str, Any]) -> str:
    backend = record["code"]["backend"]
    return f"{backend['name']} Detectron2 {backend.get('version', '')}".rstrip()


def _machine(record: Mapping[str, Any]) -> str:
    machine = record["machine"]
    threads = machine.get("threads")
    of = f", {threads} thread{'s' * (threads > 1)}" if threads and not machine["gpu"] else ""
    return f"{machine['gpu'] or machine['cpu']}{of}"


def _minutes(record: Mapping[str, Any]) -> float:
    return sum(record[key] or 0.0 for key in ("train_seconds", "eval_seconds")) / 60


def _mean_minutes(records: Sequence[Mapping[str, Any]]) -> str:
    return f"{statistics.fmean(map(_minutes, records)):.1f} minutes" if records else DASH


def _duration(records: Sequence[Mapping[str, Any]]) -> str:
    return f"{sum(_minutes(one) for one in records if one['kind'] == 'training'):.0f} minutes"
