"""Which report ``maskrcnn table`` shows: of the user's runs, with kept records in place of some, or one in ``results/``."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from maskrcnn_repro import _location
from maskrcnn_repro._location import CHECKOUT
from maskrcnn_repro.errors import TableError, counted
from maskrcnn_repro.tables.paper.selection import Selection
from maskrcnn_repro.tables.report.contradictions import contradiction
from maskrcnn_repro.tables.report.kept_reading import kept_report
from maskrcnn_repro.tables.report.model import Report
from maskrcnn_repro.tables.report.places import is_kept
from maskrcnn_repro.tables.runs.plan import Plan
from maskrcnn_repro.tables.runs.retrained import fitting_record, kept_record, kept_seeds, with_kept
from maskrcnn_repro.tables.runs.stage import Setting


def fills_in(args: argparse.Namespace) -> bool:
    """Tell whether kept records stand for seeds that have not run; otherwise ``--kept`` shows whole kept reports."""
    return args.kept and not (args.report and not args.seeds)


def check_addition(
    selected: Iterable[Selection], args: argparse.Namespace, setting: Setting
) -> None:
    """Raise TableError where saving would not add to the kept records, but leave some of them out of their tables."""
    folder = Path(args.save_records)
    if folder.resolve() != _location.RESULTS.resolve():
        raise TableError(
            f"--kept --save-records adds runs to the records in {_location.RESULTS}, not to those in {folder}."
        )
    for name in (name for selection in selected for name in selection.experiments()):
        last = max(kept_seeds(setting, name), default=0)
        if last > (args.seeds or 1):
            raise TableError(
                f"--seeds {args.seeds or 1}: a record of {name} seed {last} is kept, and the tables saved with it would be "
                f"without it; give --seeds {last} or more."
            )


def stand_in(planned: Plan) -> Plan:
    """Let kept records stand for the requested trainings that have not run here; print which records cannot.

    Raises:
        UserError: a record cannot be read, or contradicts its place or its draws of images.
    """
    filled = with_kept(planned)
    for stage in (stage for stage in planned.stages if stage.key in filled.kept):
        record = kept_record(stage)
        if record and (why := contradiction(record)):
            raise TableError(f"{record.path}: {why}; move it away to train this seed.")
    unfit: dict[str, list[str]] = {}
    for stage in filled.missing():
        if stage.key in planned.requested and (why := fitting_record(stage)[1]):
            unfit.setdefault(why, []).append(stage.title)
    for why, titles in unfit.items():
        print(f"Trained although a record is kept, as {why}: {', '.join(titles)}.", flush=True)
    return filled


@dataclass(frozen=True)
class View:
    """What is shown of a table: the report of the user's runs, or the one in ``results/``."""

    own: Report
    """Of the user's runs; it may have none."""
    rows: set[str]
    """Ids of the selected rows."""
    archived: Report | None = None
    """The report in ``results/``, if that is shown instead."""
    folder: str = ""
    """Where the archived report lies, relative to the checkout."""

    @property
    def report(self) -> Report:
        """The one that is shown."""
        return self.archived or self.own


def choose_view(own: Report, rows: set[str], args: argparse.Namespace, setting: Setting) -> View:
    """Return the view of a table: with ``--report``, of ``results/`` if there are no runs or with ``--kept``."""
    prefers_archived = args.report and not fills_in(args) and (args.kept or not own.origin)
    archived = (
        kept_report(own.table, setting.label, _location.RESULTS) if prefers_archived else None
    )
    if archived is None:
        return View(own, rows)
    if args.seeds:
        raise TableError(
            f"--seeds {args.seeds}: table {own.table} has no such runs in {setting.folder}, and its report kept in "
            f"{_location.RESULTS.name}/ is of all its seeds; leave --seeds out, or give --kept, too, for records of seeds "
            f"1 to {args.seeds} that are kept there."
        )
    return View(own, rows, archived[0], archived[1].relative_to(CHECKOUT).as_posix())


def source_line(view: View, setting: Setting, *, kept: bool) -> str:
    """Return the line above a table that says which runs its numbers come from.

    Args:
        view: of the table.
        setting: level, overrides, folder.
        kept: whether kept records stand for seeds that have not run.
    """
    if not view.report.origin:
        nor = ", nor a record in results/ that stands for one" * kept
        experiments = {row.experiment for row in view.own.rows if row.experiment}
        last = max((seed for name in experiments for seed in kept_seeds(setting, name)), default=0)
        hint = f" (records are kept, which --kept --seeds {last} shows)" * (last > 0 and not kept)
        return f"There is no finished run of these rows in {setting.folder}{nor}{hint}:"
    records = [Path(run.results) for run in view.own.origin if is_kept(Path(run.results))]
    if not view.archived and records:
        folder = records[0].parents[1].relative_to(_location.RESULTS.parent)
        runs = f"the runs in {setting.folder}, and " * (len(records) < len(view.own.origin))
        return f"By {runs}{counted(len(records), 'record')} kept in {folder}:"
    if not view.archived:
        return f"By the runs in {setting.folder}:"
    why = (
        "its runs here do not count" if view.own.origin else f"there is no run in {setting.folder}"
    )
    return f"As kept in {view.folder} ({why}):"
