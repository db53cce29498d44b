"""``maskrcnn benchmark``."""

from __future__ import annotations

import argparse

from maskrcnn_repro.benchmark import backend, pasting, roi_ops

BENCHMARKS = {"backend": backend, "roi-ops": roi_ops, "paste": pasting}
"""Modules with a function ``run`` of the arguments."""


def run(args: argparse.Namespace) -> None:
    """Run the benchmark that ``args.benchmark`` names."""
    BENCHMARKS[args.benchmark].run(args)
