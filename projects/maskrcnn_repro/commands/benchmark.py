"""``maskrcnn benchmark``: speed of the backend, a part of the package, or a GPU."""

from __future__ import annotations

import argparse

from maskrcnn_repro.benchmark import (
    backend,
    evaluation,
    folder,
    gpu,
    inference,
    loading,
    pasting,
    roi_ops,
    scaling,
    start,
    training,
)
from maskrcnn_repro.commands import heads
from maskrcnn_repro.utils.files import check_writable

BENCHMARKS = {
    "backend": backend,
    "inference": inference,
    "training": training,
    "predict": folder,
    "roi-ops": roi_ops,
    "paste": pasting,
    "scaling": scaling,
    "loading": loading,
    "evaluation": evaluation,
    "heads": heads,
    "start": start,
    "gpu": gpu,
}
"""Name of a benchmark to its module, whose ``run`` takes the parsed arguments."""


def run(args: argparse.Namespace) -> None:
    """Run the benchmark that ``args.benchmark`` names.

    Raises:
        OutputError: the file for its results cannot be written; told before anything is measured.
    """
    if args.output:
        check_writable(args.output)
    BENCHMARKS[args.benchmark].run(args)
