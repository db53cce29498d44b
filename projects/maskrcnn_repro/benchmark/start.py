"""Benchmark of the start: ``maskrcnn --help``, and imports against those of torch and torchvision alone.

Each is a process of its own, from its start to its end; they take turns.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

from maskrcnn_repro._backend import VARIABLE
from maskrcnn_repro.benchmark.contest import interval, summary
from maskrcnn_repro.benchmark.processes import BenchmarkError, check_python, environment, rotate
from maskrcnn_repro.benchmark.report import grid, save
from maskrcnn_repro.benchmark.statistics import check_rounds

from tqdm import tqdm

TORCH = "import torch, torchvision"
HELP = "maskrcnn --help"


def run(args: argparse.Namespace) -> None:
    """Time all starts, print a table and write the JSON file.

    Raises:
        BenchmarkError: too few rounds, there is no such Python, or a process failed.
    """
    check_rounds(args.rounds)
    if args.installed:
        check_python(args.installed)
    commands = commands_of(args.installed)
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for turn in tqdm(range(args.rounds + 1), desc="start", unit="round"):
        for name in rotate(list(commands), turn):
            duration = _seconds(commands[name])
            if turn:  # the first round reads the files from the disk
                seconds[name].append(duration)
    results = {name: summary(times, seconds[TORCH]) for name, times in seconds.items()}
    rows = [
        [name, f"{statistics.median(seconds[name]):.2f} s", interval(result["ratio"])]
        for name, result in results.items()
    ]
    print(grid(rows, ["", "median", "of torch's [quartiles]"]))
    save(args.output, "start", {}, rounds=args.rounds, starts=results)


def commands_of(installed: str | None) -> dict[str, list[str]]:
    """Return the command lines by name; ``installed`` is a Python with Detectron2."""
    ours = sys.executable
    commands = {
        TORCH: [ours, "-c", TORCH],
        "import maskrcnn_repro": [ours, "-c", "import maskrcnn_repro"],
        HELP: [ours, "-m", "maskrcnn_cli", "--help"],
    }
    if installed:
        peer = "import detectron2.modeling, detectron2.data, detectron2.evaluation"
        commands["import Detectron2"] = [installed, "-c", peer]
    return commands


def _seconds(command: Sequence[str]) -> float:
    variables = environment()
    variables.pop(VARIABLE, None)
    begin = time.perf_counter()
    process = subprocess.run(
        command,
        env=variables,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if process.returncode:
        last = (process.stderr.strip().splitlines() or [""])[-1]
        raise BenchmarkError(f"{' '.join(command)} ended with status {process.returncode}: {last}")
    return time.perf_counter() - begin
