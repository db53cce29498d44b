"""Benchmark of the embedded Detectron2 against an installed one: training step, inference and peak memory.

Three long-lived processes (installed, installed again, embedded) are timed in turns, so that other load on
the machine affects all of them. The ratio of the two installed ones shows the measurement's own error.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict
from typing import Any

from maskrcnn_repro._backend import VARIABLE
from maskrcnn_repro.benchmark.processes import BenchmarkError, Child, rotate, start_worker
from maskrcnn_repro.benchmark.report import grid, save
from maskrcnn_repro.benchmark.statistics import check_rounds, format_ratio, ratio_of_medians
from maskrcnn_repro.benchmark.worker import Task

from tqdm import tqdm

WORKERS = ("installed", "installed again", "embedded")
MIN_DETECTIONS = 50
TIMED = {"train": "training step", "infer": "inference"}
"""Request to a worker -> label in the table."""


def run(args: argparse.Namespace) -> None:
    """Measure all models, print the table and write the JSON file.

    Raises:
        BenchmarkError: too few pairs, a process failed, or the backends detect different objects.
    """
    check_rounds(args.pairs, "--pairs")
    pythons = {name: getattr(args, name.split()[0]) for name in WORKERS}
    height, width = args.size
    results = {}
    for model in args.models:
        results[model] = measure(Task(model, height, width, args.threads), pythons, args.pairs)
        print(table({model: results[model]}), flush=True)
    facts = {"threads": args.threads, "processes": 1}
    save(args.output, "backend", facts, size=args.size, pairs=args.pairs, models=results)
    if args.output:
        print(f"Timings: {args.output}")


def measure(task: Task, pythons: Mapping[str, str], pairs: int) -> dict[str, Any]:
    """Return seconds, ratios, peak memory (bytes) and origins of one model in all workers."""
    with ExitStack() as stack:
        children = [stack.enter_context(_worker(name, pythons[name], task)) for name in WORKERS]
        built = {child.name: child.ask(asdict(task)) for child in children}
        check_same(built)
        seconds: dict[str, dict[str, list[float]]] = {
            request: {name: [] for name in WORKERS} for request in TIMED
        }
        for turn in tqdm(range(pairs + 1), desc=task.model, unit="round"):
            for child in rotate(children, turn):
                for request, times in seconds.items():
                    duration = child.ask(request)
                    if turn:  # the first round warms up
                        times[child.name].append(duration)
        peak = {child.name: child.ask("peak_memory") for child in children}
    return {
        "workers": built,
        **{request: summary(times) for request, times in seconds.items()},
        "peak_memory": {
            "bytes": peak,
            "ratio": peak["embedded"] / peak["installed"],
            "itself": peak["installed again"] / peak["installed"],
        },
    }


def _worker(name: str, python: str, task: Task) -> AbstractContextManager[Child]:
    variables = {VARIABLE: name.split()[0], "OMP_NUM_THREADS": str(task.threads)}
    return start_worker(name, python, "maskrcnn_repro.benchmark.worker", **variables)


def check_same(built: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise BenchmarkError unless all workers detect the same objects in the image, and enough of them."""
    reference = built["installed"]
    if reference["detections"] < MIN_DETECTIONS:
        raise BenchmarkError(
            f"Only {reference['detections']} detections, {MIN_DETECTIONS} are needed for a fair "
            "inference; give a larger --size."
        )
    for name, facts in built.items():
        same_count = facts["detections"] == reference["detections"]
        difference = abs(facts["score_sum"] / reference["score_sum"] - 1)
        if not same_count or difference > 1e-3:
            raise BenchmarkError(
                f"The {name} worker finds {facts['detections']} objects with a score sum of "
                f"{facts['score_sum']:.4f}, the installed one {reference['detections']} with "
                f"{reference['score_sum']:.4f}."
            )


def summary(seconds: Mapping[str, list[float]]) -> dict[str, Any]:
    """Return the medians, the ratios with their intervals, and all timings of one request."""
    return {
        "median_seconds": {name: statistics.median(times) for name, times in seconds.items()},
        "ratio": asdict(ratio_of_medians(seconds["embedded"], seconds["installed"])),
        "itself": asdict(ratio_of_medians(seconds["installed again"], seconds["installed"])),
        "seconds": dict(seconds),
    }


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a text table with one line per model and quantity; ratios have 95 % intervals."""
    rows = []
    for model, result in results.items():
        for request, label in TIMED.items():
            medians = result[request]["median_seconds"]
            rows.append(
                [
                    f"{model} {label}",
                    f"{medians['installed']:.3f} s",
                    f"{medians['embedded']:.3f} s",
                    format_ratio(result[request]["ratio"], 3),
                    format_ratio(result[request]["itself"], 3),
                ]
            )
        memory = result["peak_memory"]
        megabytes = {name: f"{count / 2**20:.0f} MiB" for name, count in memory["bytes"].items()}
        rows.append(
            [
                f"{model} peak memory",
                megabytes["installed"],
                megabytes["embedded"],
                f"{memory['ratio']:.3f}",
                f"{memory['itself']:.3f}",
            ]
        )
    headers = ["", "installed", "embedded", "embedded / installed", "installed / itself"]
    return grid(rows, headers)
