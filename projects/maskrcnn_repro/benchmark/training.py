"""Benchmark of training: a step of one image, ours against Detectron2's, as it comes and in its best way.

Each contestant has a process of its own; all take steps from the same weights with the same image, in turns. Ratios are a
peer's time over a contestant's of the same round: above 1 the contestant is faster.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from maskrcnn_repro.benchmark.contest import Contest, Contestant, interval, summary
from maskrcnn_repro.benchmark.processes import BenchmarkError
from maskrcnn_repro.benchmark.report import grid, save
from maskrcnn_repro.benchmark.statistics import check_rounds
from maskrcnn_repro.benchmark.training_worker import CONTESTANTS

PEERS = ("Detectron2", "Detectron2, bfloat16")
TOLERANCE = {"float32": 1e-3, "bfloat16": 1e-2}
"""How far a total loss may be from Detectron2's in float32, as a fraction of it.

Weights are random: a candidate more or less among the best proposals moves a loss by a few parts in ten thousand.
"""


def run(args: argparse.Namespace) -> None:
    """Measure all contestants, print a table for each model and write the JSON file.

    Raises:
        BenchmarkError: too few rounds, a process failed, or a contestant did other work.
    """
    check_rounds(args.rounds)
    results = {}
    for model in args.models:
        results[model] = measure(args, model)
        print(f"{model}\n{table(results[model])}", flush=True)
    facts = {"threads": args.threads}
    save(args.output, "training", facts, size=args.size, rounds=args.rounds, models=results)
    if args.output:
        print(f"Timings: {args.output}")


def measure(args: argparse.Namespace, model: str) -> dict[str, Any]:
    """Return what each contestant is, did and took, by its name.

    Args:
        args: of the command line; without ``installed`` the embedded Detectron2 is the peer.
        model: a key of :data:`maskrcnn_repro.benchmark.models.SETTINGS`.
    """
    height, width = args.size
    contestants = [_contestant(name, args) for name in CONTESTANTS]
    task = {"model": model, "height": height, "width": width, "threads": args.threads}
    module = "maskrcnn_repro.benchmark.training_worker"
    with Contest(module, contestants, task, args.threads) as contest:
        check_same(contest.facts)
        # Each has taken a step before it described itself: none is needed to warm up.
        steps = contest.answers("train", args.rounds, model)
        peaks = contest.ask("peak_memory")
    return {
        name: contest.facts[name] | {"peak_memory": peaks[name]} | timings(steps, name)
        for name in steps
    }


def _contestant(name: str, args: argparse.Namespace) -> Contestant:
    installed = name in PEERS and bool(args.installed)
    return Contestant(name, args.installed if installed else args.python, installed)


def timings(steps: Mapping[str, list[dict[str, float]]], name: str) -> dict[str, Any]:
    """Return median and 95th percentile of a contestant's steps, and the ratios to each peer's of the rounds.

    Args:
        steps: of each contestant ``wall`` and ``cpu`` seconds, round after round.
        name: of the contestant.
    """
    own = {clock: [step[clock] for step in steps[name]] for clock in ("wall", "cpu")}
    result: dict[str, Any] = {
        "cpu_seconds": own["cpu"],
        "cpu_median": summary(own["cpu"], own["cpu"])["median_seconds"],
    }
    for key in ("median_seconds", "p95_seconds", "seconds"):
        result[key] = summary(own["wall"], own["wall"])[key]
    for peer in PEERS:
        theirs = [step["wall"] for step in steps[peer]]
        result[f"ratio to {peer}"] = summary(theirs, own["wall"])["ratio"]
    return result


def check_same(facts: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise BenchmarkError unless all sample as much and have Detectron2's loss, each in its precision."""
    peer = facts[PEERS[0]]
    for name, contestant in facts.items():
        precision = "bfloat16" if name.endswith("bfloat16") else "float32"
        difference = abs(contestant["loss"] / peer["loss"] - 1)
        if not difference <= TOLERANCE[precision]:
            raise BenchmarkError(
                f"The loss of {name} is {contestant['loss']:.6g}, that of {PEERS[0]} {peer['loss']:.6g}; they may differ by "
                f"{TOLERANCE[precision]} of it."
            )
        ours, theirs = (_select_compared(side["samples"], precision) for side in (contestant, peer))
        if ours != theirs:
            raise BenchmarkError(
                f"{name} samples {ours}, {PEERS[0]} {theirs}; all should sample the same."
            )


def _select_compared(samples: Mapping[str, float], precision: str) -> dict[str, float]:
    """Return the numbers that must agree: in bfloat16 other proposals may be foreground, but not more be sampled."""
    if precision == "float32":
        return dict(samples)
    sums: dict[str, float] = {}
    for name, count in samples.items():
        part = name.partition("/")[0]
        sums[part] = sums.get(part, 0) + count
    return sums


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a text table with one line per contestant."""
    rows = [
        [
            name,
            f"{result['median_seconds']:.2f} s",
            f"{result['p95_seconds']:.2f} s",
            f"{result['cpu_median']:.2f} s",
            f"{result['peak_memory'] / 2**20:.0f} MiB",
            f"{result['loss']:.4f}",
            *(interval(result[f"ratio to {peer}"]) for peer in PEERS),
        ]
        for name, result in results.items()
    ]
    headers = [
        "",
        "median",
        "95 %",
        "CPU",
        "peak memory",
        "loss",
        *(f"{peer} / it" for peer in PEERS),
    ]
    return grid(rows, headers)
