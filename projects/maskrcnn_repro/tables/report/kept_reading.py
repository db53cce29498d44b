"""Reports, records and claims that are kept with the code, read; :mod:`maskrcnn_repro.tables.report.kept` writes them."""

from __future__ import annotations

import functools
import os
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from maskrcnn_repro._backend import BACKEND
from maskrcnn_repro.errors import TableError
from maskrcnn_repro.tables.paper.claims import claims
from maskrcnn_repro.tables.paper.numbers import metrics, tables
from maskrcnn_repro.tables.report.explanations import explanation
from maskrcnn_repro.tables.report.kept_numbers import Values, changed_numbers, values_of
from maskrcnn_repro.tables.report.model import Report, Verdict
from maskrcnn_repro.tables.report.places import table_command
from maskrcnn_repro.tables.report.plain import from_json
from maskrcnn_repro.tables.report.report import table_columns
from maskrcnn_repro.tables.runs.reading import read_json
from maskrcnn_repro.tables.runs.records import Record, read_record

TABLES = "tables"
CLAIMS = "claims.json"


@dataclass(frozen=True)
class KeptReports:
    """What is kept of one level on one backend.

    Attributes:
        folder: ``results/LEVEL/BACKEND``.
    """

    folder: Path

    @classmethod
    def of(cls, folder: Path) -> KeptReports:
        """Return what is kept in a folder; what was read of it before, if no file has changed since."""
        stamp = tuple(
            (file, stat.st_mtime_ns, stat.st_size)
            for file in sorted(folder.glob("**/*.json"))
            if (stat := file.lstat())
        )
        return _unchanged(folder, stamp)

    @cached_property
    def tables(self) -> Mapping[str, Report]:
        """Tables by id.

        Raises:
            TableError: a file cannot be read, or is of another table or level.
        """
        return self.others(())

    def others(self, saved: Collection[str]) -> dict[str, Report]:
        """Return the tables that saving some leaves as they are, by id.

        Args:
            saved: ids of the tables that are written anew; their files are not read.

        Raises:
            TableError: as :attr:`tables`.
        """
        files = sorted((self.folder / TABLES).glob("*.json"))
        return {file.stem: _report_of(file) for file in files if file.stem not in saved}

    @cached_property
    def records(self) -> Mapping[str, Mapping[str, Any]]:
        """Records by name, such as ``r50_c4/seed1.json``.

        Raises:
            TableError: a file cannot be read.
        """
        files = sorted(self.folder.glob("*/**/seed*.json"))
        return {
            file.relative_to(self.folder).as_posix(): _kept_tree(file)
            for file in files
            if file.stem.removeprefix("seed").isdecimal()
        }

    @cached_property
    def _sources(self) -> Mapping[str, Record | TableError]:
        """The records that tables were made from, by name, or why one cannot be read."""
        sources: dict[str, Record | TableError] = {}
        for name in {run.results for report in self.tables.values() for run in report.origin}:
            try:
                sources[name] = read_record(self.folder / name)
            except TableError as error:
                sources[name] = error
        return sources

    @cached_property
    def _values(self) -> Values:
        """The numbers of the records that can be read."""
        records = {name: r for name, r in self._sources.items() if isinstance(r, Record)}
        return values_of(self.tables.values(), records)

    def records_of(self, table: str) -> list[Mapping[str, Any]]:
        """Return the records that a table was made from.

        Raises:
            TableError: one is not there, or another run has taken its place, or the table says other numbers.
        """
        if wrong := [*self._lost(table), *self._changed(table)]:
            command = table_command([self.tables[table]], "--report", "--save-records")
            raise TableError(f"{wrong[0]}; save it again: {command}.")
        try:
            return [self.records[origin.results] for origin in self.tables[table].origin]
        except KeyError as error:
            raise TableError(
                f"{self.folder / TABLES / table}.json names {error}, which is no record of its level."
            ) from None

    def _lost(self, table: str) -> list[str]:
        """Return which records of a table are gone or another run's, a text each."""
        texts = []
        for origin in self.tables[table].origin:
            source = self._sources[origin.results]
            if isinstance(source, TableError):
                texts.append(f"a lost record: {str(source).rstrip('.')}")
            elif source.kept != origin.record:
                texts.append(f"another run than {source.path} holds")
        return [f"{self.folder / TABLES / table}.json was made from {text}" for text in texts]

    def _changed(self, table: str) -> list[str]:
        """Return which numbers of a table its records do not give, a text each."""
        file = self.folder / TABLES / f"{table}.json"
        return [f"{file} {text}" for text in changed_numbers(self.tables[table], self._values)]

    @cached_property
    def verdicts(self) -> Sequence[Verdict]:
        """The claims in their order.

        Raises:
            TableError: they cannot be read, or are not those of the tables, as after a kill between the two.
        """
        file = self.folder / CLAIMS
        tree = read_json(file)
        try:
            level = self.folder.parent.name
            verdicts = [_with_words(from_json(Verdict, claim), level) for claim in tree["claims"]]
        except (KeyError, TypeError, ValueError) as error:
            raise TableError(f"{file} holds no claims.") from error
        judged = [claim for report in self.tables.values() for claim in report.claims]
        if sorted(map(str, verdicts)) != sorted(map(str, judged)):
            command = table_command([*self.tables.values()], "--report", "--save-records")
            raise TableError(f"{file} is not of the tables beside it; save these again: {command}.")
        return verdicts

    def check(self, saved: Collection[str]) -> None:
        """Raise TableError for a damaged file that saving some tables leaves as it is.

        Args:
            saved: ids of the tables that are written anew.
        """
        self.others(saved)
        if (self.folder / CLAIMS).is_dir():
            raise TableError(f"{self.folder / CLAIMS} is a folder.")

    def damage(self, table: str) -> list[str]:
        """Return what is wrong with the files beside a table, which itself can be read, a sentence each."""
        sentences = [f"{text}." for text in (*self._lost(table), *self._changed(table))]
        try:
            _ = self.verdicts
        except TableError as error:
            sentences.append(str(error))
        return sentences


# More than the levels that are kept, which the findings go through twice.
@functools.lru_cache(maxsize=16)
def _unchanged(folder: Path, stamp: Hashable) -> KeptReports:
    return KeptReports(folder)


def kept_report(table: str, level: str, results: Path) -> tuple[Report, Path] | None:
    """Return a kept table and its folder: of this backend, else of another one; None if there is none.

    Its records are given by their places in full, and its notes say what is wrong with the files beside it.

    Args:
        table: id.
        level: with the names of overlays, such as ``mini-nucleus``.
        results: the folder ``results``.

    Raises:
        TableError: a file cannot be read, or is of another table or level.
    """
    others = sorted(path for path in (results / level).glob("*") if path.name != BACKEND.name)
    for folder in (results / level / BACKEND.name, *others):
        file = folder / TABLES / f"{table}.json"
        if os.path.lexists(file):
            kept = KeptReports.of(folder)
            report = kept.tables[table]
            runs = [replace(run, results=str(folder / run.results)) for run in report.origin]
            notes = (*report.notes, *kept.damage(table))
            return replace(report, origin=tuple(runs), notes=notes), folder
    return None


def read_report(file: Path) -> Report:
    """Return the report in a JSON; one of an earlier version is completed from the paper's tables.

    Raises:
        TableError: it cannot be read.
    """
    tree = read_json(file)
    try:
        report = from_json(Report, tree)
    except (ValueError, TypeError) as error:
        raise TableError(f"{file} cannot be read: {error}.") from error
    report = _in_words_of_today(_complete(report))
    if not report.rows:
        raise TableError(f"{file} cannot be read: it has no rows.")
    for row in report.rows:
        if not {column.name for column in report.columns} <= row.cells.keys():
            raise TableError(f"{file} cannot be read: row {row.id!r} lacks cells of the columns.")
    return report


def _kept_tree(file: Path) -> dict[str, Any]:
    """Return what a kept record holds; raise TableError unless the findings can be written from it."""
    tree, record = read_json(file), read_record(file)
    for name in ("record", "kind", "level", "experiment"):
        if not isinstance(tree.get(name), str) or not tree[name]:
            raise TableError(f"{file} is no kept record: it lacks {name!r}.")
    if not record.metrics:
        raise TableError(f"{file} is no kept record: it has no metrics.")
    return tree


def _report_of(file: Path) -> Report:
    """Return the report in ``LEVEL/BACKEND/tables/TABLE.json``; raise TableError if it is of another level or table."""
    report, (level, *_) = read_report(file), file.parts[-4:]
    if (report.table, report.level) != (file.stem, level):
        raise TableError(
            f"{file} is of table {report.table!r:.80}, level {report.level!r:.80}, not of its place, which is for "
            f"table {file.stem!r}, level {level!r}."
        )
    return report


def _complete(report: Report) -> Report:
    table = tables().get(report.table)
    if report.columns or table is None:
        return report
    rows = [
        replace(row, gap_of=paper.gap_of, derived=paper.derived, note=paper.note)
        if (paper := table.rows.get(row.id))
        else row
        for row in report.rows
    ]
    origin = [replace(run, experiment=Path(run.results).parent.as_posix()) for run in report.origin]
    return replace(
        report, rows=tuple(rows), origin=tuple(origin), columns=table_columns(table, metrics())
    )


def _in_words_of_today(report: Report) -> Report:
    return replace(report, claims=tuple(_with_words(v, report.level) for v in report.claims))


def _with_words(verdict: Verdict, level: str) -> Verdict:
    """Return a verdict of the paper's claims with what is said of them today: why that margin, and why this outcome.

    A file keeps what was said when it was written; numbers and outcome stay.
    """
    claim = claims().get(verdict.id)
    if claim is None or claim.margin != verdict.margin:
        return verdict
    return replace(
        verdict,
        margin_reason=claim.margin_reason,
        explanation=explanation(verdict.id, verdict.outcome, level),
    )
