"""Mask R-CNN R50-FPN on a GPU beside torchvision's and Detectron2's: time, memory, share of the bf16 rate.

Every contestant and precision has a process of its own, and all are timed in turns.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, replace
from typing import Any

from maskrcnn_repro._backend import VARIABLE
from maskrcnn_repro._location import SEARCH_PATH
from maskrcnn_repro.benchmark.gpu_worker import Task
from maskrcnn_repro.benchmark.processes import BenchmarkError, Child, rotate, start_worker
from maskrcnn_repro.benchmark.report import grid
from maskrcnn_repro.benchmark.statistics import format_ratio, ratio_of_medians

import torch
from tqdm import tqdm

MODULE = "maskrcnn_repro.benchmark.gpu_worker"
PRECISIONS = ("float32", "bfloat16")


def compare(
    task: Task, checkout: str | None, python: str, rounds: int
) -> dict[str, dict[str, Any]]:
    """Measure all contestants in both precisions.

    Args:
        task: the sizes; contestant and precision are replaced.
        checkout: folder of an importable Detectron2; None leaves it out.
        python: interpreter that runs it.
        rounds: of measurement, after a first.

    Returns:
        By "contestant precision" what the worker says of itself, and the measurements of each request.

    Raises:
        BenchmarkError: a process failed, or a contestant detects fewer objects than the others.
    """
    contestants = ["ours", "torchvision", *(["detectron2"] if checkout else [])]
    names = [f"{name} {precision}" for precision in PRECISIONS for name in contestants]
    with ExitStack() as stack:
        children = [stack.enter_context(_start_worker(name, checkout, python)) for name in names]
        results = {child.name: _introduce(child, task) for child in children}
        _check_same_work(results)
        for turn in tqdm(range(rounds + 1), desc="models", unit="round"):
            for child in rotate(children, turn):
                for request, measured in results[child.name]["requests"].items():
                    answer = child.ask(request)
                    if turn:  # the first round warms up
                        measured.append(answer)
    return results


def product_rate(device: str, side: int, seconds: float = 1.0) -> float:
    """Return the bf16 operations per second of products of (side, side) matrices: what the device reaches."""
    matrix = torch.randn(side, side, device=device, dtype=torch.bfloat16)
    torch.mm(matrix, matrix)
    rates: list[float] = []
    end = time.perf_counter() + seconds
    while len(rates) < 3 or time.perf_counter() < end:
        _wait(device)
        begin = time.perf_counter()
        for _ in range(10):
            torch.mm(matrix, matrix)
        _wait(device)
        rates.append(20 * side**3 / (time.perf_counter() - begin))
    return max(rates)


def table(results: Mapping[str, Mapping[str, Any]], rate: float, batch: int) -> str:
    """Return a text table: of each request, every contestant beside each peer of its precision."""
    rows = []
    for request in ("infer", "infer to RLE", "train"):
        for name, result in results.items():
            measured = result["requests"].get(request)
            if measured:
                images = batch if request == "train" else 1
                rows.append([request, name, *_cells(request, name, results, images, rate)])
    peers = ["x torchvision", "x detectron2"]
    headers = ["", "", "images/s", *peers, "peak memory", "of the bf16 rate"]
    return grid(rows, headers)


def _cells(
    request: str, name: str, results: Mapping[str, Mapping[str, Any]], images: int, rate: float
) -> list[str]:
    """Return images/s, the ratios of speed to both peers, peak memory, and share of ``rate``."""
    measured = results[name]["requests"][request]
    seconds = [each["seconds"] for each in measured]
    median = statistics.median(seconds)
    ratios = []
    for peer in ("torchvision", "detectron2"):
        theirs = results.get(f"{peer} {name.split()[1]}")
        # A peer has no RLE: its bitmaps are the same detections.
        answers = theirs and theirs["requests"]["train" if request == "train" else "infer"]
        times = [each["seconds"] for each in answers or ()]
        ratio = ratio_of_medians(times, seconds) if times and name.startswith("ours") else None
        ratios.append(format_ratio(asdict(ratio), 2) if ratio else "")
    memory = max(each["peak_memory"] for each in measured) / 2**20
    share = results[name]["operations"][request] / median / rate
    return [f"{images / median:.2f}", *ratios, f"{memory:.0f} MiB", f"{share:.1%}"]


def _start_worker(name: str, checkout: str | None, python: str) -> Any:
    if not name.startswith("detectron2"):
        return start_worker(name, sys.executable, MODULE, **{VARIABLE: "embedded"})
    path = os.pathsep.join([str(SEARCH_PATH), str(checkout), os.environ.get("PYTHONPATH", "")])
    return start_worker(name, python, MODULE, **{VARIABLE: "installed", "PYTHONPATH": path})


def _introduce(child: Child, task: Task) -> dict[str, Any]:
    contestant, precision = child.name.split()
    built = child.ask(asdict(replace(task, contestant=contestant, precision=precision)))
    return {**built, "requests": {request: [] for request in built["operations"]}}


def _check_same_work(results: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise BenchmarkError unless all contestants detect, and paste, the same number of objects."""
    counts = {name: result["detections"] for name, result in results.items()}
    if len(set(counts.values())) > 1:
        raise BenchmarkError(
            f"The contestants detect different numbers of objects: {json.dumps(counts)}."
        )


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
