"""The stages that ``maskrcnn table`` and ``maskrcnn experiment`` run: planned, checked, and run here or by a cluster."""

from __future__ import annotations

import argparse
import datetime
import sys
from collections.abc import Mapping, Sequence

from maskrcnn_cli.output import drop_stdout
from maskrcnn_repro.cluster.choice import cluster_executor
from maskrcnn_repro.engine.checks import check_model
from maskrcnn_repro.errors import ConfigError, TableError
from maskrcnn_repro.tables.paper.experiments import Experiment
from maskrcnn_repro.tables.paper.selection import Selection
from maskrcnn_repro.tables.runs.overlays import check_kept
from maskrcnn_repro.tables.runs.plan import Plan, not_at_level, plan
from maskrcnn_repro.tables.runs.processes import LocalExecutor, cores, environments
from maskrcnn_repro.tables.runs.progress import Console, headline
from maskrcnn_repro.tables.runs.records import State
from maskrcnn_repro.tables.runs.runner import Executor, Failure, Runner
from maskrcnn_repro.tables.runs.stage import EvaluationStage, RepeatedEvaluation, Setting
from maskrcnn_repro.tables.runs.zoo import TABLE, zoo_stages

import torch

MAX_JOBS = 4
"""Default limit of trainings at the same time on generated data and a CPU; each takes about 1 GB of memory."""


def names_at_level(
    selected: Sequence[Selection], setting: Setting, by_id: Mapping[str, Experiment]
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


def plan_evaluations(
    selected: Sequence[Selection],
    args: argparse.Namespace,
    setting: Setting,
    by_id: Mapping[str, Experiment],
) -> Plan:
    """Return the plan of ``--eval-only``: Detectron2's weights, or else the finished trainings again.

    Raises:
        TableError: no training is finished.
    """
    runnable = names_at_level(selected, setting, by_id)
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    rows = [row for s in selected if s.table.id == TABLE for row in s.rows]
    stages: list[EvaluationStage] = [*zoo_stages(args.weights, rows, setting, now)]
    if not args.weights:
        for seed in range(1, (args.seeds or 1) + 1):
            for name in runnable:
                trained = plan([name], [seed], setting, by_id).stages[-1]
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


def check_configs(planned: Plan, setting: Setting) -> None:
    """Raise ConfigError for the first config of a plan that cannot work: none of its stages is to start then."""
    check_kept(planned.stages, setting)
    for stage in planned.stages:
        try:
            check_model(stage.config)
        except ConfigError as error:
            raise ConfigError(f"{stage.key}: {error}") from None


def run_stages(planned: Plan, args: argparse.Namespace, setting: Setting) -> list[Failure]:
    """Run the stages of a plan that are missing, with their progress on the console; return those that failed."""
    jobs = choose_jobs(args, setting, planned)
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


def choose_jobs(args: argparse.Namespace, setting: Setting, planned: Plan) -> int:
    """Return how many stages run at a time: what ``--jobs`` says, else by the level, the device and the cluster."""
    if args.jobs:
        return int(args.jobs)
    if args.on != "local":  # a queue of its own
        return max(1, len(planned.missing()))
    # A training of the paper's size or on a GPU uses all of the machine.
    alone = setting.level == "paper" or torch.cuda.is_available()
    return 1 if alone else min(MAX_JOBS, cores())


def print_failures(failures: Sequence[Failure]) -> int:
    """Print the failures with their last lines of output; return the exit status."""
    for failure in failures:
        print(f"\n{failure.stage.title} failed: {failure.reason}", file=sys.stderr)
        for line in failure.lines:
            print(f"    {line}", file=sys.stderr)
        if failure.console:
            print(f"    All of it: {failure.console}", file=sys.stderr)
    return 1 if failures else 0
