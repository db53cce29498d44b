"""``maskrcnn benchmark``: speed of the backend, of inference, of RoI operations, of pasting masks, of a GPU, or how costs grow."""

from __future__ import annotations

import argparse

from maskrcnn_repro.benchmark import backend, gpu, inference, pasting, roi_ops, scaling

BENCHMARKS = {
    "backend": backend,
    "inference": inference,
    "roi-ops": roi_ops,
    "paste": pasting,
    "scaling": scaling,
    "gpu": gpu,
}
"""Name of a benchmark to its module, whose ``run`` takes the parsed arguments."""


def run(args: argparse.Namespace) -> None:
    """Run the benchmark that ``args.benchmark`` names."""
    BENCHMARKS[args.benchmark].run(args)
