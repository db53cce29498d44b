"""Benchmark of the evaluation: COCO's AP of generated detections, ours against pycocotools and Detectron2's.

Ratios are the others' time over ours of the same round: above 1 ours is faster.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Mapping

from maskrcnn_repro.benchmark.contest import Contest, Contestant, table
from maskrcnn_repro.benchmark.processes import BenchmarkError, check_python
from maskrcnn_repro.benchmark.report import save
from maskrcnn_repro.benchmark.statistics import check_rounds

import numpy as np

TASKS = {"bbox": "boxes", "segm": "masks"}
TOLERANCE = 1e-12


def run(args: argparse.Namespace) -> None:
    """Measure all contestants, print a table for boxes and masks and write the JSON file.

    Raises:
        BenchmarkError: too few rounds, there is no such Python, a process failed, or the numbers differ.
    """
    check_rounds(args.rounds)
    if args.installed:
        check_python(args.installed)
    contestants = [Contestant(name, sys.executable) for name in ("ours", "pycocotools")]
    if args.installed and not _is_compiled(args.installed):
        print("Detectron2 is left out: it is not compiled there, and its evaluation is C++.")
    elif args.installed:
        contestants.append(Contestant("Detectron2", args.installed, installed=True))
    task = {"images": args.images, "detections": args.detections}
    results = {}
    with Contest("maskrcnn_repro.benchmark.evaluation_worker", contestants, task) as contest:
        for request, label in TASKS.items():
            results[request] = contest.timed(request, args.rounds)
            print(f"{label}\n{table(results[request], args.detections, label)}", flush=True)
        difference = check_same({child.name: child.ask("numbers") for child in contest.children})
    print(f"The numbers differ by at most {difference:.1g}.")
    save(args.output, "evaluation", task, difference=difference, tasks=results)


def _is_compiled(python: str) -> bool:
    # Its extension finds PyTorch's libraries only after PyTorch.
    command = [python, "-c", "import torch; from detectron2 import _C"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def check_same(numbers: Mapping[str, Mapping[str, list[float]]]) -> float:
    """Return the largest difference between the numbers of two contestants.

    Raises:
        BenchmarkError: it is above :data:`TOLERANCE`.
    """
    largest = 0.0
    for name, tasks in numbers.items():
        for task, values in tasks.items():
            difference = float(np.abs(np.subtract(values, numbers["pycocotools"][task])).max())
            if not difference <= TOLERANCE:
                raise BenchmarkError(
                    f"{name} differs from pycocotools by {difference:.2g} in {task}; {TOLERANCE} is allowed."
                )
            largest = max(largest, difference)
    return largest
