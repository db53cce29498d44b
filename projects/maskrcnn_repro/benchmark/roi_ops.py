"""The RoI operations beside torchvision's, on one CPU, in one run: time forward and backward, and memory.

All contenders are timed in turns, so that whatever else the machine does meets all of them; the first round
warms up, and of short calls the quickest of a round counts. Ratios are torchvision's median over ours, with 95 % intervals: above 1 ours is faster. For memory
it is ours over torchvision's.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from maskrcnn_repro._location import SEARCH_PATH
from maskrcnn_repro.benchmark import roi_memory
from maskrcnn_repro.benchmark.backend import rotated
from maskrcnn_repro.benchmark.roi_scenes import (
    C4,
    COUNTS,
    FPN,
    IMAGE,
    OPERATIONS,
    PAPER,
    QUICK,
    Scene,
    poolings,
    reference_of,
)
from maskrcnn_repro.benchmark.statistics import ratio_of_medians
from maskrcnn_repro.errors import UserError
from maskrcnn_repro.utils.files import write_text
from maskrcnn_repro.utils.provenance import code_origin, machine

import torch
from tabulate import tabulate
from tqdm import tqdm

MIN_ROUNDS = 2
MAX_CALLS = 5
ENOUGH_SECONDS = 0.1
KINDS = ("forward", "step")
COMPARED = (
    ("channels-last", "step"),
    ("channels-last", "forward"),
    ("bfloat16", "forward"),
    ("contiguous", "step"),
    ("contiguous", "forward"),
)
"""Ours, and what is timed: "step" is forward and backward. Always beside torchvision's contiguous float32."""

PARTS: dict[str, tuple[Sequence[Scene], Sequence[Scene]]] = {
    "c4": (C4, ()),
    "fpn": (FPN, ()),
    "contiguous": ((), COUNTS),
}
"""What ``--only`` leaves: scenes of all operations and ways, scenes of contiguous features."""

COUNTED = ("RoIAlignAve", "RoIAlignMax", "RoIPool")
"""RoIWarp does the same work as RoIAlign."""

HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"
"""PyTorch's switch for huge pages; it speeds up all contenders, and is kept with the result."""

Seconds = dict[str, dict[str, list[float]]]


class BenchmarkError(UserError):
    """The benchmark cannot be run as asked."""


def run(args: argparse.Namespace) -> None:
    """Measure all scenes, print the tables and write the JSON file.

    Raises:
        BenchmarkError: fewer than two rounds, or the memory could not be measured.
    """
    if args.rounds < MIN_ROUNDS:
        raise BenchmarkError(f"--rounds is {args.rounds}; an interval needs at least {MIN_ROUNDS}.")
    torch.set_num_threads(args.threads)
    scenes, counted = PARTS.get(args.only, (PAPER, COUNTS))
    if args.quick:
        scenes, counted = [scene for scene in scenes if scene in QUICK], counted[:2]
    ways = ("channels-last", "bfloat16", "contiguous")
    results: dict[str, Any] = {}
    counts: dict[str, Any] = {}
    memory: dict[str, Any] = {}

    def save() -> None:
        if args.output:
            text = json.dumps(report(args, results, counts, memory), indent=1)
            write_text(args.output, text + "\n")

    # After each scene: the whole takes many minutes, and what was measured outlives an interruption.
    for scene in scenes:
        results[scene.name] = measure(scene, OPERATIONS, ways, args.rounds)
        save()
    if scenes and roi_memory.can_measure():
        memory.update(measure_memory(scenes, args.threads))
    if results:
        print(table(results, memory), flush=True)
    for scene in counted:
        counts[scene.name] = measure(scene, COUNTED, ways[2:], args.rounds)
        save()
    if counts:
        print(f"\nContiguous features, few and many RoIs:\n\n{contiguous_table(counts)}")
    save()
    if args.output:
        print(f"\nTimings: {args.output}")


def measure(
    scene: Scene, operations: Sequence[str], ways: Sequence[str], rounds: int
) -> dict[str, Any]:
    """Return the seconds of all rounds, and the ratios, of some operations on a scene."""
    contenders = poolings(scene, operations, ways)
    seconds: Seconds = {name: {kind: [] for kind in KINDS} for name in contenders}
    for turn in tqdm(range(rounds + 1), desc=scene.name, unit="round"):
        for name, pooling in rotated(list(contenders.items()), turn):
            for kind in KINDS:
                if name.endswith("bfloat16") and kind == "step":
                    continue
                taken = _seconds(getattr(pooling, kind))
                if turn:  # the first round warms up
                    seconds[name][kind].append(taken)
    ratios = {
        name: {
            f"{way} {kind}": asdict(
                ratio_of_medians(seconds[reference_of(name)][kind], seconds[f"{name} {way}"][kind])
            )
            for way, kind in COMPARED
            if way in ways
        }
        for name in operations
    }
    return {"scene": asdict(scene), "seconds": seconds, "ratios": ratios}


def measure_memory(scenes: Sequence[Scene], threads: int) -> dict[str, Any]:
    """Return peak bytes by scene, contender and "forward" or "step", from a process of its own.

    Raises:
        BenchmarkError: the process failed.
    """
    path = [str(SEARCH_PATH), os.getenv("PYTHONPATH", "")]
    environment = {**os.environ, **roi_memory.ENVIRONMENT, "PYTHONWARNINGS": "ignore"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, path))
    module = [sys.executable, "-m", roi_memory.__name__, str(threads)]
    done = subprocess.run(
        [*module, *(str(PAPER.index(scene)) for scene in scenes)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise BenchmarkError(
            f"The memory's process ended with status {done.returncode}; see above."
        )
    return json.loads(done.stdout)


def table(results: Mapping[str, Any], memory: Mapping[str, Any]) -> str:
    """Return one line for each scene and operation."""
    rows = []
    for scene, result in results.items():
        for name, ratios in result["ratios"].items():
            seconds = result["seconds"]
            ours, theirs = seconds[f"{name} channels-last"], seconds[reference_of(name)]
            peak = memory.get(scene, {})
            rows.append(
                [
                    scene,
                    name,
                    _milliseconds(theirs["step"]),
                    _milliseconds(ours["step"]),
                    *(_interval(ratios[f"{way} {kind}"]) for way, kind in COMPARED),
                    *(_highest(peak, name, way) for way in ("channels-last", "contiguous")),
                ]
            )
    headers = [
        "maps and RoIs",
        "operation",
        "torchvision\nfwd+bwd ms",
        "ours\nms",
        "channels-last\nfwd+bwd",
        "\nfwd",
        "bfloat16\nfwd",
        "contiguous\nfwd+bwd",
        "\nfwd",
        "memory\nch.-last",
        "\ncontig.",
    ]
    return tabulate(rows, headers=headers, tablefmt="simple", disable_numparse=True)


def contiguous_table(results: Mapping[str, Any]) -> str:
    """Return one line for each map and number of RoIs."""
    rows = [
        [
            scene,
            *(
                _interval(result["ratios"][name][f"contiguous {kind}"])
                for name in COUNTED
                for kind in KINDS
            ),
        ]
        for scene, result in results.items()
    ]
    headers = ["maps and RoIs", *(f"{name}\n{kind}" for name in COUNTED for kind in KINDS)]
    return tabulate(rows, headers=headers, tablefmt="simple", disable_numparse=True)


def report(
    args: argparse.Namespace,
    results: Mapping[str, Any],
    counts: Mapping[str, Any],
    memory: Mapping[str, Any],
) -> dict[str, Any]:
    """Return everything measured, with its origin."""
    return {
        "benchmark": "roi-ops",
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": machine("cpu") | {"huge_pages": os.getenv(HUGE_PAGES)},
        "code": code_origin(),
        "image": IMAGE,
        "rounds": args.rounds,
        "scenes": results,
        "contiguous": counts,
        "peak_bytes": memory,
    }


def _seconds(function: Callable[[], None]) -> float:
    """Return the least of up to five calls, but of no more than fill a tenth of a second.

    Of what takes milliseconds, an interruption would otherwise be the greater part.
    """
    taken: list[float] = []
    while not taken or (len(taken) < MAX_CALLS and sum(taken) < ENOUGH_SECONDS):
        start = time.perf_counter()
        function()
        taken.append(time.perf_counter() - start)
    return min(taken)


def _milliseconds(seconds: Sequence[float]) -> str:
    return f"{1e3 * statistics.median(seconds):.1f}"


def _interval(ratio: Mapping[str, float]) -> str:
    return f"{ratio['value']:.2f} [{ratio['low']:.2f}, {ratio['high']:.2f}]"


def _highest(peak: Mapping[str, Mapping[str, int]], name: str, way: str) -> str:
    """Return the larger of the ratios of memory, forward and forward with backward."""
    if not peak:
        return ""
    ours, theirs = peak[f"{name} {way}"], peak[reference_of(name)]
    return f"{max(ours[kind] / theirs[kind] for kind in KINDS):.2f}"
