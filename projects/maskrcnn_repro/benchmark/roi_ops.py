"""Benchmark of the RoI operations against torchvision's on a CPU: time of forward and backward, and memory.

All contenders are timed in turns, so that other load on the machine affects all of them; the first round
warms up, and the fastest of several short calls counts. Ratios of time are torchvision's median over ours,
with 95 % intervals: above 1 ours is faster. Ratios of memory are ours over torchvision's.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from maskrcnn_repro.benchmark import report, roi_memory
from maskrcnn_repro.benchmark.processes import rotate, run_module
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
from maskrcnn_repro.benchmark.statistics import check_rounds, format_ratio, ratio_of_medians
from maskrcnn_repro.utils.provenance import code_origin

import torch
from tqdm import tqdm

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
"""Layout or dtype of ours, and what is timed: "step" is forward and backward.

Torchvision's side is always contiguous float32.
"""

PARTS: dict[str, tuple[Sequence[Scene], Sequence[Scene]]] = {
    "c4": (C4, ()),
    "fpn": (FPN, ()),
    "contiguous": ((), COUNTS),
}
"""Value of ``--only`` -> scenes for all operations and layouts, and scenes for contiguous features."""

COUNTED = ("RoIAlignAve", "RoIAlignMax", "RoIPool")
"""Operations on contiguous features; without RoIWarp, which does the same work as RoIAlign."""

HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"
"""PyTorch's environment variable for huge pages: it speeds up all contenders, and the report records it."""

Seconds = dict[str, dict[str, list[float]]]


def run(args: argparse.Namespace) -> None:
    """Measure all scenes, print the tables and write the JSON file.

    Raises:
        BenchmarkError: too few rounds, or the process that measures memory failed.
    """
    check_rounds(args.rounds)
    torch.set_num_threads(args.threads)
    scenes, counted = PARTS.get(args.only, (PAPER, COUNTS))
    if args.quick:
        scenes, counted = [scene for scene in scenes if scene in QUICK], counted[:2]
    ways = ("channels-last", "bfloat16", "contiguous")
    results: dict[str, Any] = {}
    counts: dict[str, Any] = {}
    memory: dict[str, Any] = {}

    def save() -> None:
        report.save(
            args.output,
            "roi-ops",
            {"huge_pages": os.getenv(HUGE_PAGES)},
            code=code_origin(),
            image=IMAGE,
            rounds=args.rounds,
            scenes=results,
            contiguous=counts,
            peak_bytes=memory,
        )

    # Saved after each scene: all of them take many minutes, and an interruption must not lose the results.
    for scene in scenes:
        results[scene.name] = measure(scene, OPERATIONS, ways, args.rounds)
        save()
    if scenes and roi_memory.can_measure():
        numbers = [PAPER.index(scene) for scene in scenes]
        memory.update(
            run_module(roi_memory.__name__, args.threads, *numbers, **roi_memory.ENVIRONMENT)
        )
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
    """Return the seconds of all rounds and the ratios of some operations on a scene."""
    contenders = poolings(scene, operations, ways)
    seconds: Seconds = {name: {kind: [] for kind in KINDS} for name in contenders}
    for turn in tqdm(range(rounds + 1), desc=scene.name, unit="round"):
        for name, pooling in rotate(list(contenders.items()), turn):
            for kind in KINDS:
                # COMPARED has no training in bfloat16.
                if name.endswith("bfloat16") and kind == "step":
                    continue
                duration = _seconds(getattr(pooling, kind))
                if turn:  # the first round warms up
                    seconds[name][kind].append(duration)
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


def table(results: Mapping[str, Any], memory: Mapping[str, Any]) -> str:
    """Return a text table with one line per scene and operation."""
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
                    *(format_ratio(ratios[f"{way} {kind}"], 2) for way, kind in COMPARED),
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
        "ours / theirs\nmemory ch.-last",
        "\ncontig.",
    ]
    return report.grid(rows, headers)


def contiguous_table(results: Mapping[str, Any]) -> str:
    """Return a text table with one line per map and number of RoIs, for contiguous features."""
    rows = [
        [
            scene,
            *(
                format_ratio(result["ratios"][name][f"contiguous {kind}"], 2)
                for name in COUNTED
                for kind in KINDS
            ),
        ]
        for scene, result in results.items()
    ]
    headers = ["maps and RoIs", *(f"{name}\n{kind}" for name in COUNTED for kind in KINDS)]
    return report.grid(rows, headers)


def _seconds(function: Callable[[], None]) -> float:
    """Return the seconds of the fastest of up to five calls, or of as many as fit in a tenth of a second."""
    # An interruption could take longer than a call of some milliseconds.
    durations: list[float] = []
    while not durations or (len(durations) < MAX_CALLS and sum(durations) < ENOUGH_SECONDS):
        start = time.perf_counter()
        function()
        durations.append(time.perf_counter() - start)
    return min(durations)


def _milliseconds(seconds: Sequence[float]) -> str:
    return f"{1e3 * statistics.median(seconds):.1f}"


def _highest(peak: Mapping[str, Mapping[str, int]], name: str, way: str) -> str:
    """Return the ratio of peak memory, ours over torchvision's: the larger one of forward and step."""
    if not peak:
        return ""
    ours, theirs = peak[f"{name} {way}"], peak[reference_of(name)]
    return f"{max(ours[kind] / theirs[kind] for kind in KINDS):.2f}"
