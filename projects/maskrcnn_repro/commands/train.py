"""``maskrcnn train`` and ``maskrcnn eval``: train or evaluate the model of a config."""

from __future__ import annotations

import argparse
import multiprocessing

from maskrcnn_repro.engine.main import start


def run(args: argparse.Namespace) -> None:
    """Train or evaluate the model of a config."""
    if "forkserver" in multiprocessing.get_all_start_methods():
        # By default since Python 3.14, data workers come from a fork server. It would import the main module,
        # which loads nothing heavy; without this, each worker takes seconds to import PyTorch for itself.
        multiprocessing.set_forkserver_preload(["__main__", "maskrcnn_repro"])
    start(args)
