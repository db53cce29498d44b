"""``maskrcnn table`` and ``maskrcnn experiment``: plan and run stages, evaluate again, and print reports."""

from __future__ import annotations

import argparse
import datetime
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

from maskrcnn_cli.output import drop_stdout, while_read
from maskrcnn_repro import _location
from maskrcnn_repro._backend import BACKEND
from maskrcnn_repro._location import CHECKOUT
from maskrcnn_repro.cluster.choice import cluster_executor
from maskrcnn_repro.commands.table_views import (
    View,
    check_addition,
    choose_view,
    fills_in,
    source_line,
    stand_in,
)
from maskrcnn_repro.config import find_config, pairs_of
from maskrcnn_repro.engine.checks import check_model
from maskrcnn_repro.errors import ConfigError, OutputError, TableError, UserError
from maskrcnn_repro.tables.paper.additions import named_tables, register_installed
from maskrcnn_repro.tables.paper.claims import all_claims
from maskrcnn_repro.tables.paper.experiments import (
    Experiment,
    all_experiments,
    find_experiment,
    overlays,
)
from maskrcnn_repro.tables.paper.numbers import all_metrics, all_tables, find_table, tables
from maskrcnn_repro.tables.paper.selection import Selection, select
from maskrcnn_repro.tables.report.claims_text import beside, claim_lines, explained, tally
from maskrcnn_repro.tables.report.exchange.files import damage, measure_missing, stored
from maskrcnn_repro.tables.report.kept import save_reports, write_report
from maskrcnn_repro.tables.report.model import Report, verdicts_in
from maskrcnn_repro.tables.report.readme import BEGIN, check_renewal, update_readme
from maskrcnn_repro.tables.report.report import PaperData, reports
from maskrcnn_repro.tables.report.resampled import Resampler
from maskrcnn_repro.tables.report.text import as_text, judged_on
from maskrcnn_repro.tables.runs.overlays import check_kept, check_keys
from maskrcnn_repro.tables.runs.plan import Plan, not_at_level, plan
from maskrcnn_repro.tables.runs.processes import LocalExecutor, cores, environments
from maskrcnn_repro.tables.runs.progress import Console, describe, headline
from maskrcnn_repro.tables.runs.records import State
from maskrcnn_repro.tables.runs.runner import Executor, Failure, Runner
from maskrcnn_repro.tables.runs.stage import EvaluationStage, RepeatedEvaluation, Setting
from maskrcnn_repro.tables.runs.zoo import TABLE, zoo_stages
from maskrcnn_repro.utils.files import check_output

import torch

MAX_JOBS = 4
"""Default limit of trainings at the same time on generated data and a CPU; each takes about 1 GB of memory."""


def run_table(args: argparse.Namespace) -> int:
    """Run what tables need and report them; with the options, only plan, evaluate again or report.

    Returns:
        The exit status: 0; 1 if a stage failed or a file could not be written; 130 after Ctrl-C.
    """
    return _run_guarded(lambda: _table(args, args.overrides))


def run_experiment(args: argparse.Namespace) -> int:
    """Run an experiment with all its stages; return the exit status as :func:`run_table` does."""
    return _run_guarded(lambda: _experiment(args, args.overrides))


def _table(args: argparse.Namespace, overrides: tuple[str, ...]) -> int:
    names = named_tables(args.tables, tables())
    selected = select([find_table(name) for name in names], args.rows)
    setting = _setting(args, overrides)
    if args.weights and (not args.eval_only or TABLE not in names):
        raise ConfigError(f"--weights needs table {TABLE} and --eval-only.")
    if args.html:
        check_output("--html", Path(args.html), ".html", [])
    failures: list[Failure] = []
    paper = PaperData(all_tables(), all_metrics(), all_experiments(), all_claims())
    if args.save_records:
        _check_place(names, Path(args.save_records), setting)
    if args.save_records and args.kept:
        check_addition(selected, args, setting)
    for selection in selected:
        compared = [paper.experiments[name] for name in selection.experiments()]
        compared = [item for item in compared if not not_at_level(item, setting.level)]
        check_keys(setting.overlays, compared, setting.level)
    if not args.report:
        runnable = _names_at_level(selected, setting, paper.experiments)
        if args.eval_only:
            planned = _plan_evaluations(runnable, args, setting, selected)
        else:
            seeds = range(1, (args.seeds or 1) + 1)
            planned = plan(runnable, seeds, setting, paper.experiments)
            planned = stand_in(planned) if args.kept else planned
        _check_configs(planned, setting)
        if args.plan:
            print(describe(planned, _jobs(args, setting, planned)), flush=True)
            return 0
        failures = _run(planned, args, setting)
    resampler = Resampler(say=partial(print, flush=True))
    chosen = [selection.table for selection in selected]
    measured = reports(chosen, setting, paper, resampler, seeds=args.seeds, kept=fills_in(args))
    views = [
        choose_view(report, {row.id for row in selection.rows}, args, setting)
        for report, selection in zip(measured, selected, strict=True)
    ]
    if args.save_records and not failures and not any(view.own.origin for view in views):
        raise TableError(f"--save-records: there is no finished run in {setting.folder} to keep.")
    # Models run here: not where the user asked for jobs of a cluster.
    if not args.report and args.on == "local":
        _compare_operations(measured)
    unwritten = _print_reports(views, setting, paper, kept=fills_in(args))
    page = Path(args.html) if args.html else setting.folder / "report.html"
    unwritten += _page(views, page, loses=not args.html)
    if args.save_records and any(view.own.origin for view in views):
        own = [view.own for view in views if not view.archived]
        if args.kept:
            _refuse_loss(own)
        _save(own, setting, paper, Path(args.save_records))
    return _print_failures(failures) or int(unwritten > 0)


def _check_configs(planned: Plan, setting: Setting) -> None:
    """Raise ConfigError for the first config of a plan that cannot work: none of its stages is to start then."""
    check_kept(planned.stages, setting)
    for stage in planned.stages:
        try:
            check_model(stage.config)
        except ConfigError as error:
            raise ConfigError(f"{stage.key}: {error}") from None


def _experiment(args: argparse.Namespace, overrides: tuple[str, ...]) -> int:
    experiment = _find(args.experiment)
    setting = _setting(args, overrides)
    # Raises where the level has no overlay for the experiment.
    overlays(experiment, setting.level)
    planned = plan([experiment.id], [args.seed], setting, all_experiments())
    _check_configs(planned, setting)
    if args.plan:
        print(describe(planned, _jobs(args, setting, planned)), flush=True)
        return 0
    failures = _run(planned, args, setting)
    if not failures:
        print(f"Results: {planned.stages[-1].results}", flush=True)
    return _print_failures(failures)


def _find(name: str) -> Experiment:
    try:
        return find_experiment(name)
    except TableError:
        register_installed()
        return find_experiment(name)


def _check_place(names: Sequence[str], folder: Path, setting: Setting) -> None:
    """Raise TableError if records of a plug-in's table were to lie among the paper's, or the README could not be renewed."""
    own = [name for name in names if name not in tables()]
    if own and folder.resolve() == _location.RESULTS.resolve():
        raise TableError(
            f"--save-records: {folder} holds the paper's records; name another folder for table {own[0]}."
        )
    if readme := _readme_beside(folder):
        check_renewal(readme, folder, Path(setting.label, BACKEND.name), set(names))


def _setting(args: argparse.Namespace, overrides: tuple[str, ...]) -> Setting:
    words = tuple(word for pair in pairs_of(overrides) for word in pair)
    # One process elsewhere: batches are small.
    count = torch.cuda.device_count() if args.level == "paper" else 1
    gpus = args.num_gpus or max(1, count)
    files = tuple(find_config(name) for name in args.overlay)
    return Setting(args.level, words, Path(args.output), gpus, files)


def _names_at_level(
    selected: Iterable[Selection], setting: Setting, by_id: Mapping[str, Experiment]
) -> list[str]:
    """Return the ids of the selected experiments that exist at the level; print which do not, and why.

    Raises:
        TableError: none of them exists at the level.
    """
    runnable = []
    left_out: dict[str, list[str]] = {}
    for name in dict.fromkeys(name for s in selected for name in s.experiments()):
        reason = not_at_level(by_id[name], setting.level)
        if reason:
            left_out.setdefault(reason, []).append(name)
        else:
            runnable.append(name)
    reasons = [f"{', '.join(names)}: left out. {reason}" for reason, names in left_out.items()]
    if not runnable:
        cannot = [f"{r.id}: {r.why_not}" for s in selected for r in s.rows if r.why_not]
        raise TableError(" ".join(reasons or cannot) or "These rows are other methods' or gaps.")
    for reason in reasons:
        print(reason, flush=True)
    return runnable


def _plan_evaluations(
    names: Iterable[str], args: argparse.Namespace, setting: Setting, selected: Iterable[Selection]
) -> Plan:
    """Return the plan of ``--eval-only``: Detectron2's weights, or else the finished trainings again.

    Raises:
        TableError: no training is finished.
    """
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    rows = [row for s in selected if s.table.id == TABLE for row in s.rows]
    stages: list[EvaluationStage] = [*zoo_stages(args.weights, rows, setting, now)]
    if not args.weights:
        for seed in range(1, (args.seeds or 1) + 1):
            for name in names:
                trained = plan([name], [seed], setting, all_experiments()).stages[-1]
                status = trained.status()
                if status.state is State.DONE:
                    stages.append(RepeatedEvaluation.of(trained, now))
                else:
                    reason = f"{status.state.value} {status.note}".strip()
                    print(f"{trained.title} is left out: {reason}.", flush=True)
    if not stages:
        raise TableError(
            f"--eval-only: no training of these rows is finished in {setting.folder}; run the table without it."
        )
    return Plan(tuple(stages), frozenset(stage.key for stage in stages))


def _run(planned: Plan, args: argparse.Namespace, setting: Setting) -> list[Failure]:
    jobs = _jobs(args, setting, planned)
    print(f"{headline(planned, jobs)}.", flush=True)
    console = Console(planned, jobs)
    # No more threads in all than cores: two of a process gain an eighth alone and lose threefold beside another load.
    threads = args.threads or (max(1, cores() // jobs) if jobs > 1 else None)
    executor = _executor(args, setting, jobs, threads) if planned.missing() else LocalExecutor()
    runner = Runner(planned, console, jobs, executor)
    try:
        return runner.run() if planned.missing() else []
    except BrokenPipeError:
        # The reader of the progress has closed the pipe, and the children were stopped: unlike a listing that is
        # cut short, this is no success.
        drop_stdout()
        raise KeyboardInterrupt from None
    except KeyboardInterrupt:
        if executor.lives_on:
            print("What was submitted goes on; squeue --me lists it.", file=sys.stderr, flush=True)
        raise
    finally:
        console.close()


def _executor(
    args: argparse.Namespace, setting: Setting, jobs: int, threads: int | None
) -> Executor:
    if args.on == "local":
        return LocalExecutor(environments(jobs, threads, setting.num_gpus))
    (environment,) = environments(1, args.threads, setting.num_gpus)
    asks = args.num_gpus or setting.level == "paper"
    return cluster_executor(
        args, setting.folder / ".jobs", environment, setting.num_gpus if asks else 0
    )


def _print_reports(views: Sequence[View], setting: Setting, paper: PaperData, *, kept: bool) -> int:
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
            lines = [*head, *judged_on(judged), *claim_lines(verdicts)]
            below = [f"{tally(verdicts)}.", *beside(verdicts), *explained(verdicts)]
            print("\n".join(["", *lines, *below]), flush=True)
    return unwritten


def _compare_operations(measured: Iterable[Report]) -> None:
    """Compare the RoI operations of table 2c by the weights of its runs; say why where that cannot be done."""
    for report in measured:
        try:
            measure_missing(report, partial(print, flush=True))
        except UserError as error:
            print(f"The RoI operations are not compared: {error}", file=sys.stderr, flush=True)


def _page(views: Sequence[View], path: Path, *, loses: bool = True) -> int:
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
        operations = stored(view.report, kept) or stored(view.own)
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


def _save(measured: Sequence[Report], setting: Setting, paper: PaperData, folder: Path) -> None:
    """Write reports and their records into ``folder``, and update the results in the README beside it."""
    print(f"Kept: {save_reports(measured, setting, paper, folder)}", flush=True)
    if readme := _readme_beside(folder):
        files = update_readme(readme, folder)
        print(f"Written: the results in {', '.join(map(str, files))}", flush=True)


def _refuse_loss(measured: Sequence[Report]) -> None:
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


def _print_failures(failures: Sequence[Failure]) -> int:
    """Print the failures with their last lines of output; return the exit status."""
    for failure in failures:
        print(f"\n{failure.stage.title} failed: {failure.reason}", file=sys.stderr)
        for line in failure.lines:
            print(f"    {line}", file=sys.stderr)
        if failure.console:
            print(f"    All of it: {failure.console}", file=sys.stderr)
    return 1 if failures else 0


def _jobs(args: argparse.Namespace, setting: Setting, planned: Plan) -> int:
    if args.jobs:
        return int(args.jobs)
    if args.on != "local":  # a queue of its own
        return max(1, len(planned.missing()))
    # A training of the paper's size or on a GPU uses all of the machine.
    alone = setting.level == "paper" or torch.cuda.is_available()
    return 1 if alone else min(MAX_JOBS, cores())


def _run_guarded(run: Callable[[], int]) -> int:
    try:
        return while_read(run)
    except KeyboardInterrupt:
        print("Stopped. The same command goes on where this one was.", file=sys.stderr, flush=True)
        return 130
