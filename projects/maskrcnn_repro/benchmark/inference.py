"""Benchmark of inference: our fast path against torchvision and Detectron2, each as it comes and in its best way.

Each contestant has a process of its own; all detect in the same images in turns. Ratios are their time over ours of the
same round: above 1 ours is faster.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from maskrcnn_repro.benchmark.contest import Contest, Contestant, interval
from maskrcnn_repro.benchmark.inference_worker import CONTESTANTS
from maskrcnn_repro.benchmark.processes import BenchmarkError
from maskrcnn_repro.benchmark.report import grid, save
from maskrcnn_repro.benchmark.statistics import check_rounds

import numpy as np

OURS = "ours"
DETECTIONS = 100
"""Of every contestant, so that all paste as many masks."""
BOX_TOLERANCE, SCORE_TOLERANCE = 1e-2, 1e-4
"""Pixels, and probability: how far our float32 may be from Detectron2's."""


def run(args: argparse.Namespace) -> None:
    """Measure all contestants, print a table for each model and write the JSON file.

    Raises:
        BenchmarkError: too few rounds, a process failed, or a contestant did other work.
    """
    check_rounds(args.rounds)
    results = {}
    for model in args.models:
        names = contestants(model, args.sizes, installed=args.installed is not None, isa=args.isa)
        results[model] = measure(args, model, names)
        print(f"{model}\n{table(results[model])}", flush=True)
    facts = {"threads": args.threads, "isa": args.isa}
    save(args.output, "inference", facts, sizes=args.sizes, rounds=args.rounds, models=results)
    if args.output:
        print(f"Timings: {args.output}")


def contestants(
    model: str, sizes: Sequence[Sequence[int]], *, installed: bool, isa: str | None
) -> list[str]:
    """Return the names of those who can take part.

    Args:
        model: a key of :data:`maskrcnn_repro.benchmark.models.SETTINGS`.
        sizes: height and width of each image; torchvision resizes all to one shorter side.
        installed: there is a Python with Detectron2.
        isa: the instructions that oneDNN is limited to; with fewer than the processor's there is no fast bfloat16.
    """
    names = []
    for name in CONTESTANTS:
        resized = len({min(size) for size in sizes}) > 1
        absent = name.startswith("torchvision") and (model != "R50-FPN" or resized)
        absent |= name.startswith("Detectron2") and not installed
        absent |= isa is not None and (name.endswith("bfloat16") or name in (OURS, "ours, bitmaps"))
        if not absent:
            names.append(name)
    return names


def measure(args: argparse.Namespace, model: str, names: Sequence[str]) -> dict[str, Any]:
    """Return what each contestant is, did and took, by its name.

    Args:
        args: of the command line.
        model: a key of :data:`maskrcnn_repro.benchmark.models.SETTINGS`.
        names: of the contestants, ours first.
    """
    contestants = [_contestant(name, args) for name in names]
    task = {"model": model, "sizes": args.sizes, "threads": args.threads}
    variables = {"ONEDNN_MAX_CPU_ISA": args.isa} if args.isa else {}
    module = "maskrcnn_repro.benchmark.inference_worker"
    with Contest(module, contestants, task, args.threads, **variables) as contest:
        check_same(contest.facts)
        results = contest.timed("infer", args.rounds, label=model)
    kept = ("path", "first_seconds", "detections")
    return {
        name: {key: contest.facts[name][key] for key in kept} | result
        for name, result in results.items()
    }


def _contestant(name: str, args: argparse.Namespace) -> Contestant:
    theirs = name.startswith("Detectron2")
    return Contestant(name, args.installed if theirs else args.python, theirs)


def check_same(facts: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise BenchmarkError unless all detect and paste as much, and our float32 detects what Detectron2 does."""
    masks = next(iter(facts.values()))["masks"]
    for name, contestant in facts.items():
        images = zip(contestant["detections"], contestant["masks"], masks, strict=True)
        for count, given, expected in images:
            if count != DETECTIONS or given != expected:
                raise BenchmarkError(
                    f"{name} gives {count} detections with masks {given}; all should give {DETECTIONS} with masks "
                    f"{expected}. Choose other --sizes."
                )
    peer = "Detectron2" if "Detectron2" in facts else "ours, plain"
    for name in ("ours, float32", "ours, plain"):
        boxes, scores = largest_differences(facts[name], facts[peer])
        if boxes > BOX_TOLERANCE or scores > SCORE_TOLERANCE:
            raise BenchmarkError(
                f"{name} differs from {peer} by {boxes:.2g} pixels and {scores:.2g} in scores; {BOX_TOLERANCE} and "
                f"{SCORE_TOLERANCE} are allowed."
            )


def largest_differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> tuple[float, float]:
    """Return by how many pixels and how much score the detections of all images differ at most.

    Each of ours is compared with the nearest of theirs that is free: scores equal but for rounding may change places.
    """
    ends = np.cumsum(ours["detections"])[:-1]
    pairs = [
        np.split(np.asarray(facts[key]), ends)
        for key in ("boxes", "scores")
        for facts in (ours, theirs)
    ]
    largest = np.zeros(2)
    for own_boxes, their_boxes, own_scores, their_scores in zip(*pairs, strict=True):
        boxes = np.abs(own_boxes[:, None] - their_boxes).max(axis=2)
        scores = np.abs(own_scores[:, None] - their_scores)
        costs = np.maximum(boxes / BOX_TOLERANCE, scores / SCORE_TOLERANCE)
        for row in range(len(costs)):
            column = costs[row].argmin()
            largest = np.maximum(largest, [boxes[row, column], scores[row, column]])
            costs[:, column] = np.inf
    return float(largest[0]), float(largest[1])


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a text table with one line per contestant."""
    rows = [
        [
            name,
            result["path"],
            f"{result['median_seconds']:.3f} s",
            f"{result['p95_seconds']:.3f} s",
            f"{result['first_seconds']:.2f} s",
            f"{result['peak_memory'] / 2**20:.0f} MiB",
            interval(result["ratio"]),
        ]
        for name, result in results.items()
    ]
    headers = ["", "path", "median", "95 %", "first image", "peak memory", "ratio [quartiles]"]
    return grid(rows, headers)
