"""``maskrcnn table`` and ``maskrcnn experiment``."""

from __future__ import annotations

import argparse
import datetime
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from maskrcnn_cli.output import drop_stdout, while_read
from maskrcnn_repro._location import CHECKOUT, RESULTS
from maskrcnn_repro.config import find_config
from maskrcnn_repro.errors import ConfigError, OutputError, TableError
from maskrcnn_repro.tables.paper.claims import claims
from maskrcnn_repro.tables.paper.experiments import (
    Experiment,
    experiments,
    find_experiment,
    overlays,
)
from maskrcnn_repro.tables.paper.numbers import find_table, metrics, tables
from maskrcnn_repro.tables.paper.selection import Selection, select
from maskrcnn_repro.tables.report.kept import kept_report, save_reports, write_report
from maskrcnn_repro.tables.report.model import Report, verdicts_in
from maskrcnn_repro.tables.report.readme import BEGIN, update_readme
from maskrcnn_repro.tables.report.report import Known, reports
from maskrcnn_repro.tables.report.resampled import Resampler
from maskrcnn_repro.tables.report.text import as_text, claim_lines, explained, judged_on, tally
from maskrcnn_repro.tables.runs.overlays import check_keys
from maskrcnn_repro.tables.runs.plan import Plan, not_at_level, plan
from maskrcnn_repro.tables.runs.processes import cores, environments
from maskrcnn_repro.tables.runs.progress import Console, describe, headline
from maskrcnn_repro.tables.runs.records import State
from maskrcnn_repro.tables.runs.runner import Failure, Runner
from maskrcnn_repro.tables.runs.stage import EvaluationStage, RepeatedEvaluation, Setting
from maskrcnn_repro.tables.runs.zoo import TABLE, zoo_stages

import torch

MAX_JOBS = 4
"""Trainings side by side by default at level mini on a CPU; each takes about 1 GB of memory."""


def run_table(args: argparse.Namespace) -> int:
    """Plan, run, evaluate or report tables.

    Returns:
        0; 1 if a run failed; 130 after Ctrl-C.
    """
    return _guarded(lambda: _table(args, args.overrides))


def run_experiment(args: argparse.Namespace) -> int:
    """Run one experiment with all its stages; see :func:`run_table`."""
    return _guarded(lambda: _experiment(args, args.overrides))


def _table(args: argparse.Namespace, overrides: tuple[str, ...]) -> int:
    names = list(tables()) if args.tables == ["all"] else args.tables
    selected = select([find_table(name) for name in dict.fromkeys(names)], args.rows)
    setting = _setting(args, overrides)
    if args.weights and (not args.eval_only or TABLE not in names):
        raise ConfigError(f"--weights needs table {TABLE} and --eval-only.")
    failures: list[Failure] = []
    known = Known(tables(), metrics(), experiments(), claims())
    for one in selected:
        compared = [known.experiments[name] for name in one.experiments()]
        here = [each for each in compared if not not_at_level(each, setting.level)]
        check_keys(setting.overlays, here, setting.level)
    if not args.report:
        wanted = _at_level(selected, setting, known.experiments)
        if args.eval_only:
            chosen = _evaluations(wanted, args, setting, selected)
        else:
            seeds = range(1, (args.seeds or 1) + 1)
            chosen = plan(wanted, seeds, setting, known.experiments)
        if args.plan:
            print(describe(chosen, _jobs(args, setting)), flush=True)
            return 0
        failures = _run(chosen, args, setting)
    resampler = Resampler(say=partial(print, flush=True))
    made = reports([one.table for one in selected], setting, known, resampler, seeds=args.seeds)
    shown = [
        _Shown(report, {row.id for row in one.rows}, *_kept(report, args, setting))
        for report, one in zip(made, selected, strict=True)
    ]
    lost = _show(shown, setting, known)
    page = Path(args.html) if args.html else setting.folder / "report.html"
    lost += _page(shown, page)
    if args.save_records:
        own = [one.own for one in shown if not one.kept]
        _save(own, setting, known, Path(args.save_records))
    return _end(failures) or int(lost > 0)


@dataclass(frozen=True)
class _Shown:
    """A table as it is shown: by the runs that are here, or as it is kept with the code."""

    own: Report
    """Of the runs that are here; it may have no record."""
    rows: set[str]
    """Ids of those that were asked for."""
    kept: Report | None = None
    folder: str = ""
    """Of the kept report."""

    @property
    def report(self) -> Report:
        return self.kept or self.own

    @property
    def runs_of_rows(self) -> int:
        return len({run.experiment for run in self.own.origin})


def _kept(report: Report, args: argparse.Namespace, setting: Setting) -> tuple[Report | None, str]:
    """Return the kept report that is shown instead of one without runs, or as was asked for."""
    if not args.report or (report.origin and not args.kept):
        return None, ""
    found = kept_report(report.table, setting.label, RESULTS)
    if found is None:
        return None, ""
    kept, folder = found
    return kept, folder.relative_to(CHECKOUT).as_posix()


def _experiment(args: argparse.Namespace, overrides: tuple[str, ...]) -> int:
    experiment = find_experiment(args.experiment)
    setting = _setting(args, overrides)
    overlays(experiment, setting.level)
    chosen = plan([experiment.id], [args.seed], setting, experiments())
    if args.plan:
        print(describe(chosen, _jobs(args, setting)), flush=True)
        return 0
    failures = _run(chosen, args, setting)
    if not failures:
        print(f"Results: {chosen.stages[-1].results}", flush=True)
    return _end(failures)


def _setting(args: argparse.Namespace, overrides: tuple[str, ...]) -> Setting:
    if len(overrides) % 2:
        raise ConfigError(
            f"Overrides come as KEY VALUE pairs, but the last one, {overrides[-1]!r}, is alone."
        )
    # One process at level mini: its batches are small.
    count = torch.cuda.device_count() if args.level == "paper" else 1
    gpus = args.num_gpus or max(1, count)
    own = tuple(find_config(name) for name in args.overlay)
    return Setting(args.level, overrides, Path(args.output), gpus, own)


def _at_level(
    selected: Iterable[Selection], setting: Setting, known: Mapping[str, Experiment]
) -> list[str]:
    """Return the experiments that the level has; say which it has not.

    Raises:
        TableError: nothing can be run.
    """
    wanted = []
    left_out: dict[str, list[str]] = {}
    for name in dict.fromkeys(name for one in selected for name in one.experiments()):
        reason = not_at_level(known[name], setting.level)
        if reason:
            left_out.setdefault(reason, []).append(name)
        else:
            wanted.append(name)
    reasons = [f"{', '.join(names)}: left out. {reason}" for reason, names in left_out.items()]
    if not wanted:
        cannot = [f"{r.id}: {r.why_not}" for one in selected for r in one.rows if r.why_not]
        raise TableError(" ".join(reasons or cannot) or "These rows are other methods' or gaps.")
    for reason in reasons:
        print(reason, flush=True)
    return wanted


def _evaluations(
    wanted: Iterable[str], args: argparse.Namespace, setting: Setting, selected: Iterable[Selection]
) -> Plan:
    """Return the evaluations once more of what was trained, and of Detectron2's weights."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    known = experiments()
    rows = [row for one in selected if one.table.id == TABLE for row in one.rows]
    stages: list[EvaluationStage] = [*zoo_stages(args.weights, rows, setting, now)]
    if not args.weights:
        for seed in range(1, (args.seeds or 1) + 1):
            for name in wanted:
                trained = plan([name], [seed], setting, known).stages[-1]
                status = trained.status()
                if status.state is State.DONE:
                    stages.append(RepeatedEvaluation.of(trained, now))
                else:
                    why = f"{status.state.value} {status.note}".strip()
                    print(f"{trained.title} is left out: {why}.", flush=True)
    return Plan(tuple(stages), frozenset(stage.key for stage in stages))


def _run(chosen: Plan, args: argparse.Namespace, setting: Setting) -> list[Failure]:
    jobs = _jobs(args, setting)
    print(f"{headline(chosen, jobs)}.", flush=True)
    console = Console(chosen, jobs)
    places = environments(jobs, _threads(args, jobs), setting.num_gpus)
    runner = Runner(chosen, console, jobs, places)
    try:
        return runner.run() if chosen.missing() else []
    except BrokenPipeError:
        # Who read the progress has left, and the children were stopped: unlike a cut listing, not a success.
        drop_stdout()
        raise KeyboardInterrupt from None
    finally:
        console.close()


def _show(shown: Sequence[_Shown], setting: Setting, known: Known) -> int:
    """Print tables and claims, write their files; return how many could not be written."""
    lost = 0
    for one in shown:
        print(
            f"\n{_source(one, setting)}\n{as_text(one.report.only(one.rows))}", end="", flush=True
        )
        if one.kept:
            continue
        try:
            print(f"Written: {write_report(one.own, setting.folder / 'tables')}", flush=True)
        except OutputError as error:  # the other tables are still wanted
            print(f"Error: {error}", file=sys.stderr, flush=True)
            lost += 1
    # Kept claims and those of runs that are here are never counted together.
    for folder in dict.fromkeys(one.folder for one in shown):
        made = [one.report for one in shown if one.folder == folder]
        verdicts = verdicts_in(made, known.claims)
        if verdicts:
            head = [f"Kept in {folder}:"] if folder else []
            lines = [*head, *judged_on(made), *claim_lines(verdicts)]
            print("\n".join(["", *lines, f"{tally(verdicts)}.", *explained(verdicts)]), flush=True)
    return lost


def _source(one: _Shown, setting: Setting) -> str:
    """Return what the numbers of a table come from."""
    if not one.kept:
        return f"By the runs in {setting.folder}:"
    why = "its runs here do not count" if one.own.origin else f"there is no run in {setting.folder}"
    return f"As kept in {one.folder} ({why}):"


def _page(shown: Sequence[_Shown], path: Path) -> int:
    """Write the HTML report of all tables shown; return 1 if it could not be written."""
    # Here, not above: it loads Matplotlib, for which plans and listings need not wait.
    from maskrcnn_repro.tables.report.html import Shown, write_page

    tables = [
        # Of a single row there is nothing to compare.
        Shown(one.report, one.folder, one.own if one.kept and one.runs_of_rows > 1 else None)
        for one in shown
    ]
    try:
        problems = write_page(path, tables)
    except OutputError as error:
        print(f"Error: {error}", file=sys.stderr, flush=True)
        return 1
    print(
        "\n".join([f"Written: {path}", *(f"Not in it: {text}." for text in problems)]), flush=True
    )
    return 0


def _save(made: Sequence[Report], setting: Setting, known: Known, place: Path) -> None:
    """Keep the records of reports, and write the results of the README beside them anew."""
    print(f"Kept: {save_reports(made, setting, known, place)}", flush=True)
    readme = place.resolve().parent / "README.md"
    if readme.is_file() and BEGIN in readme.read_text(encoding="utf-8"):
        update_readme(readme, place)
        print(f"Written: the results in {readme}", flush=True)


def _end(failures: Sequence[Failure]) -> int:
    for failure in failures:
        print(f"\n{failure.stage.title} failed: {failure.reason}", file=sys.stderr)
        for line in failure.lines:
            print(f"    {line}", file=sys.stderr)
        if failure.console:
            print(f"    All of it: {failure.console}", file=sys.stderr)
    return 1 if failures else 0


def _jobs(args: argparse.Namespace, setting: Setting) -> int:
    if args.jobs:
        return int(args.jobs)
    alone = setting.level != "mini" or torch.cuda.is_available()
    return 1 if alone else min(MAX_JOBS, cores())


def _threads(args: argparse.Namespace, jobs: int) -> int | None:
    return args.threads or (max(1, cores() // jobs) if jobs > 1 else None)


def _guarded(run: Callable[[], int]) -> int:
    try:
        return while_read(run)
    except KeyboardInterrupt:
        print("Stopped. The same command goes on where this one was.", file=sys.stderr, flush=True)
        return 130
