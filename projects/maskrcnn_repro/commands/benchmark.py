"""Command line of ``scripts/benchmark.py``: one subcommand for each benchmark."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from maskrcnn_repro.benchmark import backend, pasting, roi_ops
from maskrcnn_repro.utils.command_line import exit_status

BENCHMARKS = (backend, roi_ops, pasting)
"""Modules with ``add_parser(subparsers)``, whose parser sets ``run`` to a function of the arguments."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a benchmark.

    Args:
        argv: the arguments without the program's name; by default the process's own.

    Returns:
        The exit status: 0, or 2 after a user's error, which is told in one sentence on stderr.
    """
    parser = argparse.ArgumentParser(
        description="Measure speed and memory; run it on a quiet machine."
    )
    subparsers = parser.add_subparsers(required=True, metavar="BENCHMARK")
    for benchmark in BENCHMARKS:
        benchmark.add_parser(subparsers)
    args = parser.parse_args(argv)
    return exit_status(lambda: args.run(args))
