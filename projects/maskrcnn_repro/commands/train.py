"""``maskrcnn train`` and ``maskrcnn eval``: train or evaluate the model of a config."""

from __future__ import annotations

import argparse
import multiprocessing

from maskrcnn_repro.engine.main import start


def run(args: argparse.Namespace) -> int | None:
    """Train or evaluate the model of a config; with ``--on``, as a job of a cluster."""
    if getattr(args, "on", "local") != "local":
        from maskrcnn_repro.commands.train_job import run_job

        return run_job(args)
    if "forkserver" in multiprocessing.get_all_start_methods():
        # By default since Python 3.14, data workers come from a fork server. It would import the main module,
        # which loads nothing heavy; without this, each worker takes seconds to import PyTorch for itself.
        multiprocessing.set_forkserver_preload(["__main__", "maskrcnn_repro"])
    start(args)
    return None
