"""What ``maskrcnn table`` prints and writes when the stages are done: reports, claims, the page, kept records."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from maskrcnn_repro import _location
from maskrcnn_repro._backend import BACKEND
from maskrcnn_repro._location import CHECKOUT
from maskrcnn_repro.commands.table_views import View, source_line
from maskrcnn_repro.errors import OutputError, TableError, UserError
from maskrcnn_repro.tables.paper.numbers import tables
from maskrcnn_repro.tables.report.claims_text import (
    annotate_verdicts,
    claim_lines,
    explain_failures,
    tally,
)
from maskrcnn_repro.tables.report.exchange.files import damage, find_stored, measure_missing
from maskrcnn_repro.tables.report.kept import kept_place, save_reports, stays_kept, write_report
from maskrcnn_repro.tables.report.model import Report, verdicts_in
from maskrcnn_repro.tables.report.readme import BEGIN, check_renewal, update_readme
from maskrcnn_repro.tables.report.report import PaperData
from maskrcnn_repro.tables.report.text import as_text, describe_overlays
from maskrcnn_repro.tables.runs.stage import Setting


def print_reports(views: Sequence[View], setting: Setting, paper: PaperData, *, kept: bool) -> int:
    """Print tables and claims and write the tables' files; return how many could not be written."""
    unwritten = 0
    for view in views:
        table = as_text(view.report.only(view.rows))
        print(f"\n{source_line(view, setting, kept=kept)}\n{table}", end="", flush=True)
        file = setting.folder / "tables" / f"{view.own.table}.json"
        if view.archived or (not view.own.origin and file.is_file()):
            continue
        try:
            print(f"Written: {write_report(view.own, file.parent)}", flush=True)
        except OutputError as error:  # the other tables can still be printed
            print(f"Error: {error}", file=sys.stderr, flush=True)
            unwritten += 1
    # Claims judged on archived runs and on the user's own are never counted together.
    for folder in dict.fromkeys(view.folder for view in views):
        judged = [view.report for view in views if view.folder == folder]
        verdicts = verdicts_in(judged, paper.claims)
        if verdicts:
            head = [f"Kept in {folder}:"] if folder else []
            lines = [*head, *describe_overlays(judged), *claim_lines(verdicts)]
            below = [
                f"{tally(verdicts)}.",
                *annotate_verdicts(verdicts),
                *explain_failures(verdicts),
            ]
            print("\n".join(["", *lines, *below]), flush=True)
    return unwritten


def compare_operations(measured: Iterable[Report]) -> None:
    """Compare the RoI operations of table 2c by the weights of its runs; say why where that cannot be done."""
    for report in measured:
        try:
            measure_missing(report, partial(print, flush=True))
        except UserError as error:
            print(f"The RoI operations are not compared: {error}", file=sys.stderr, flush=True)


def write_report_page(views: Sequence[View], path: Path, *, loses: bool = True) -> int:
    """Write the HTML report of all tables, in ``results/`` without photographs; return 1 if it was not written.

    Tables without any record overwrite no page.

    Args:
        views: the tables.
        path: the page.
        loses: whether it may take the place of one that holds more.
    """
    if path.is_file() and not any(view.report.origin for view in views):
        print(f"Not written: {path} stays as it is, as these tables have no record.", flush=True)
        return 0
    # Imported here because it loads Matplotlib, which would slow down plans.
    from maskrcnn_repro.tables.report.html import Shown, write_page

    shown = []
    for view in views:
        # The user's runs of a single experiment leave nothing to compare.
        comparable = view.archived and len({run.experiment for run in view.own.origin}) > 1
        kept = CHECKOUT / view.folder if view.archived else None
        operations = find_stored(view.report, kept) or find_stored(view.own)
        pictured = view.own if comparable else None
        lost = "" if operations else damage(view.report, kept)
        shown.append(Shown(view.report, view.folder, pictured, operations, lost))
    try:
        kept_with_code = path.resolve().is_relative_to(_location.RESULTS.resolve())
        problems = write_page(path, shown, generated_only=kept_with_code, loses=loses)
    except OutputError as error:
        print(f"Error: {error}", file=sys.stderr, flush=True)
        return 1
    print(
        "\n".join([f"Written: {path}", *(f"Not in it: {text}." for text in problems)]), flush=True
    )
    return 0


def save(
    measured: Sequence[Report], setting: Setting, paper: PaperData, folder: Path, *, adds: bool
) -> None:
    """Write reports and their records into ``folder``, and update the results in the README beside it.

    Args:
        measured: the reports, whole.
        setting: that they were made with.
        paper: all experiments and claims.
        folder: the folder ``results``.
        adds: whether their runs are added to what is kept.
    """
    place = kept_place(setting, folder)
    left = [report.table for report in measured if stays_kept(report, place)]
    print(f"Kept: {save_reports(measured, setting, paper, folder, adds=adds)}", flush=True)
    for table in left:
        print(
            f"Not kept: table {table} has no run in {setting.folder}; what is kept of it stays.",
            flush=True,
        )
    if readme := _readme_beside(folder):
        files = update_readme(readme, folder)
        print(f"Written: the results in {', '.join(map(str, files))}", flush=True)


def refuse_loss(measured: Sequence[Report]) -> None:
    """Raise TableError where tables with kept records would be saved without something that was kept."""
    for report in measured:
        if report.refused:
            raise TableError(
                f"--save-records: table {report.table} was not saved, for it would be without what is left out: "
                f"{report.refused[0]}. Mend that file, or move it away and run this seed again."
            )


def _readme_beside(folder: Path) -> Path | None:
    """Return the README that shows what is kept in a folder; None if there is none."""
    readme = folder.resolve().parent / "README.md"
    try:
        return readme if BEGIN in readme.read_text(encoding="utf-8") else None
    except (OSError, UnicodeDecodeError):
        return None


def check_place(names: Sequence[str], folder: Path, setting: Setting) -> None:
    """Raise TableError if records of a plug-in's table were to lie among the paper's, or the README could not be renewed."""
    own = [name for name in names if name not in tables()]
    if own and folder.resolve() == _location.RESULTS.resolve():
        raise TableError(
            f"--save-records: {folder} holds the paper's records; name another folder for table {own[0]}."
        )
    if readme := _readme_beside(folder):
        check_renewal(readme, folder, Path(setting.label, BACKEND.name), set(names))
