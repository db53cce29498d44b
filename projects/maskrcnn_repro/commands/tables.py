"""``maskrcnn table`` and ``maskrcnn experiment``: plan and run stages, evaluate again, and print reports."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from maskrcnn_cli.output import while_read
from maskrcnn_repro.commands.table_reports import (
    check_place,
    compare_operations,
    print_reports,
    refuse_loss,
    save,
    write_report_page,
)
from maskrcnn_repro.commands.table_runs import (
    check_configs,
    choose_jobs,
    names_at_level,
    plan_evaluations,
    print_failures,
    run_stages,
)
from maskrcnn_repro.commands.table_views import check_addition, choose_view, fills_in, stand_in
from maskrcnn_repro.config import find_config, pairs_of
from maskrcnn_repro.errors import ConfigError, TableError
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
from maskrcnn_repro.tables.report.report import PaperData, reports
from maskrcnn_repro.tables.report.resampled import Resampler
from maskrcnn_repro.tables.runs.overlays import check_keys
from maskrcnn_repro.tables.runs.plan import Plan, not_at_level, plan
from maskrcnn_repro.tables.runs.progress import describe
from maskrcnn_repro.tables.runs.runner import Failure
from maskrcnn_repro.tables.runs.stage import Setting
from maskrcnn_repro.tables.runs.zoo import TABLE
from maskrcnn_repro.utils.files import check_output

import torch


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
        check_place(names, Path(args.save_records), setting)
    if args.save_records and args.kept:
        check_addition(selected, args, setting)
    for selection in selected:
        compared = [paper.experiments[name] for name in selection.experiments()]
        compared = [item for item in compared if not not_at_level(item, setting.level)]
        check_keys(setting.overlays, compared, setting.level)
    if not args.report:
        planned = _plan_table(selected, args, setting, paper)
        if args.plan:
            print(describe(planned, choose_jobs(args, setting, planned)), flush=True)
            return 0
        failures = run_stages(planned, args, setting)
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
        compare_operations(measured)
    unwritten = print_reports(views, setting, paper, kept=fills_in(args))
    page = Path(args.html) if args.html else setting.folder / "report.html"
    unwritten += write_report_page(views, page, loses=not args.html)
    if args.save_records and failures:
        # Seeds that are kept would go for those that failed.
        print(
            "Not kept, as stages failed: --report --save-records keeps what there is.", flush=True
        )
    elif args.save_records:
        own = [view.own for view in views if not view.archived]
        if args.kept:
            refuse_loss(own)
        save(own, setting, paper, Path(args.save_records), adds=args.kept)
    return print_failures(failures) or int(unwritten > 0)


def _plan_table(
    selected: Sequence[Selection], args: argparse.Namespace, setting: Setting, paper: PaperData
) -> Plan:
    """Return the checked plan of what the selected rows need."""
    if args.eval_only:
        planned = plan_evaluations(selected, args, setting, paper.experiments)
    else:
        runnable = names_at_level(selected, setting, paper.experiments)
        seeds = range(1, (args.seeds or 1) + 1)
        planned = plan(runnable, seeds, setting, paper.experiments)
        planned = stand_in(planned) if args.kept else planned
    check_configs(planned, setting)
    return planned


def _experiment(args: argparse.Namespace, overrides: tuple[str, ...]) -> int:
    experiment = _find(args.experiment)
    setting = _setting(args, overrides)
    # Raises where the level has no overlay for the experiment.
    overlays(experiment, setting.level)
    planned = plan([experiment.id], [args.seed], setting, all_experiments())
    check_configs(planned, setting)
    if args.plan:
        print(describe(planned, choose_jobs(args, setting, planned)), flush=True)
        return 0
    failures = run_stages(planned, args, setting)
    if not failures:
        print(f"Results: {planned.stages[-1].results}", flush=True)
    return print_failures(failures)


def _find(name: str) -> Experiment:
    try:
        return find_experiment(name)
    except TableError:
        register_installed()
        return find_experiment(name)


def _setting(args: argparse.Namespace, overrides: tuple[str, ...]) -> Setting:
    words = tuple(word for pair in pairs_of(overrides) for word in pair)
    # One process elsewhere: batches are small.
    count = torch.cuda.device_count() if args.level == "paper" else 1
    gpus = args.num_gpus or max(1, count)
    files = tuple(find_config(name) for name in args.overlay)
    return Setting(args.level, words, Path(args.output), gpus, files)


def _run_guarded(run: Callable[[], int]) -> int:
    try:
        return while_read(run)
    except KeyboardInterrupt:
        print("Stopped. The same command goes on where this one was.", file=sys.stderr, flush=True)
        return 130
