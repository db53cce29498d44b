"""``maskrcnn train --on slurm|ray``: one training as a job of a cluster."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from maskrcnn_cli.clusters import without_cluster
from maskrcnn_repro.checkpoint.folder import FINAL
from maskrcnn_repro.cluster.choice import cluster_executor
from maskrcnn_repro.cluster.job import Task
from maskrcnn_repro.cluster.work import search_path
from maskrcnn_repro.engine.main import config_from
from maskrcnn_repro.errors import UserError
from maskrcnn_repro.tables.runs.processes import parse_progress, stop_all
from maskrcnn_repro.tables.runs.stage import TRAIN_NET

POLL_SECONDS = 1.0
LINE_SECONDS = 60.0
"""Between two lines of progress."""


def run_job(args: argparse.Namespace) -> int:
    """Submit a training, tell its progress, and return its exit status.

    Raises:
        ConfigError: the config or an option has a mistake; nothing is submitted.
        UserError: the job ended well, but trained nothing to its end.
    """
    folder = Path(config_from(args).OUTPUT_DIR)
    words = without_cluster(args.words)
    resumed = words if args.resume or args.eval_only else ["--resume", *words]
    gpus = args.num_gpus if args.num_gpus > 1 else 0
    environment = {"PYTHONPATH": search_path()}
    executor = cluster_executor(args, folder / "jobs", environment, gpus)
    task = Task(folder.name, [*TRAIN_NET, *words], [*TRAIN_NET, *resumed], folder)
    while True:
        job = executor.start(task)
        print(f"Submitted: {job.place}; its console: {job.console}", flush=True)
        try:
            told = time.monotonic()
            while (status := job.poll()) is None:
                time.sleep(POLL_SECONDS)
                if time.monotonic() - told > LINE_SECONDS:
                    told = time.monotonic()
                    print(parse_progress(job.tail(40))[0], flush=True)
        except KeyboardInterrupt:
            if not executor.lives_on:
                stop_all([job])
                raise
            print(f"Left: {job.place} goes on without this command.", flush=True)
            return 130
        if status != 75:
            print("\n".join([*job.tail(3), f"Ended with status {status}."]), flush=True)
            if status == 0 and not args.eval_only:
                _check_finished(folder)
            return status
        task = Task(task.name, task.resumed, task.resumed, folder)


def _check_finished(folder: Path) -> None:
    """Raise UserError unless a training left its last weights: an ``os._exit(0)`` in foreign code ends it well."""
    if not (folder / f"{FINAL}.pth").is_file():
        raise UserError(
            f"The training left with status 0 before it was done: {folder} has no {FINAL}.pth; look for code that "
            "ends the process, then continue with --resume."
        )
