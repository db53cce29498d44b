"""``maskrcnn benchmark``: speed of the backend, of inference, of a folder of photos, of RoI operations, of pasting masks, or of a GPU."""

from __future__ import annotations

import argparse

from maskrcnn_repro.benchmark import backend, folder, gpu, inference, pasting, roi_ops

BENCHMARKS = {
    "backend": backend,
    "inference": inference,
    "predict": folder,
    "roi-ops": roi_ops,
    "paste": pasting,
    "gpu": gpu,
}
"""Name of a benchmark to its module, whose ``run`` takes the parsed arguments."""


def run(args: argparse.Namespace) -> None:
    """Run the benchmark that ``args.benchmark`` names."""
    BENCHMARKS[args.benchmark].run(args)
