"""Benchmark of heads: what each row of a table costs beside its baseline, at full size and with made-up weights.

Each row's model has a process of its own; all predict the same image and train on it, in turns. Ratios are a row's time
over the baseline's of the same round: above 1 the row is slower.
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskrcnn_repro.benchmark.contest import Contest, Contestant, interval
from maskrcnn_repro.benchmark.heads_worker import FULL_SIZE, REQUESTS
from maskrcnn_repro.benchmark.processes import BenchmarkError
from maskrcnn_repro.benchmark.report import grid, save
from maskrcnn_repro.benchmark.statistics import check_rounds
from maskrcnn_repro.modeling.sizes import MULTIPLY_ADDS

INFER, TRAIN, COUNT, TWO_ITERATIONS = REQUESTS
QUICK_SIZE = (320, 448)
ROIS, QUICK_ROIS = 512, 128
"""Sampled in a step; those of the paper with FPN."""
BESIDE_THE_BASELINE = 3
"""Heads whose processes live at the same time: each takes up to 3.5 GB."""
COUNTING = (
    f"Multiply-adds: one image of {FULL_SIZE[0]} x {FULL_SIZE[1]} px, 1000 proposals and 100 detections; {MULTIPLY_ADDS} "
    "Code: lines of the plug-in, without blank lines, comments and docstrings."
)


@dataclass(frozen=True)
class Head:
    """A row to measure.

    Attributes:
        name: of the row, unique.
        config: a config, then overlays over it.
        plugins: modules of the config's plug-ins.
        published: what a public source says of its cost; may be empty.
    """

    name: str
    config: tuple[str, ...]
    plugins: tuple[str, ...] = ()
    published: str = ""


def compare(heads: Sequence[Head], args: argparse.Namespace) -> None:
    """Measure heads, the baseline first, print a table and write the JSON file.

    Raises:
        BenchmarkError: too few rounds, a process failed, or a head predicts other numbers of masks or no finite loss.
    """
    check_rounds(args.rounds)
    results: dict[str, dict[str, Any]] = {}
    baseline, others = heads[0], heads[1:]
    for begin in range(0, max(len(others), 1), BESIDE_THE_BASELINE):
        group = others[begin : begin + BESIDE_THE_BASELINE]
        results = measure([baseline, *group], args) | results
    results = {head.name: results[head.name] for head in heads}
    print(table(heads, results), COUNTING, sep="\n", flush=True)
    facts = {"threads": args.threads}
    save(args.output, "heads", facts, quick=args.quick, rounds=args.rounds, heads=results)
    if args.output:
        print(f"Numbers: {args.output}")


def measure(heads: Sequence[Head], args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Return sizes, times and memory of each head, by name; see :func:`compare`."""
    height, width = QUICK_SIZE if args.quick else FULL_SIZE
    task = {
        "configs": {head.name: head.config for head in heads},
        "height": height,
        "width": width,
        "threads": args.threads,
        "rois": QUICK_ROIS if args.quick else ROIS,
    }
    contestants = [Contestant(head.name, sys.executable) for head in heads]
    module = "maskrcnn_repro.benchmark.heads_worker"
    with Contest(module, contestants, task, args.threads) as contest:
        check_detections({name: facts["detections"] for name, facts in contest.facts.items()})
        # Memory only grows: images come before steps, steps before those of full size.
        images = contest.timed(INFER, args.rounds, label="images")
        steps = contest.timed(TRAIN, args.rounds, label="steps")
        sizes = contest.ask(COUNT)
        full = contest.ask(TWO_ITERATIONS)
        peaks = contest.ask("peak_memory")
    check_losses(full)
    return {
        head.name: {
            **sizes[head.name],
            "image": images[head.name],
            "step": steps[head.name],
            "two_iterations": full[head.name],
            "full_size_peak_memory": peaks[head.name],
            "lines": sum(map(code_lines, sources(head.plugins))),
            "published": head.published,
        }
        for head in heads
    }


def check_detections(detections: Mapping[str, int]) -> None:
    """Raise BenchmarkError unless all heads predict as many masks: their times could not be compared."""
    if len(set(detections.values())) > 1:
        counts = ", ".join(f"{name} {count}" for name, count in detections.items())
        raise BenchmarkError(f"Heads predict other numbers of masks: {counts}.")


def check_losses(iterations: Mapping[str, Sequence[Mapping[str, float]]]) -> None:
    """Raise BenchmarkError if a loss of a step at full size is not finite."""
    for name, steps in iterations.items():
        losses = [step["loss"] for step in steps]
        if not all(map(math.isfinite, losses)):
            raise BenchmarkError(f"The losses of {name} at full size are {losses}.")


def sources(plugins: Iterable[str]) -> list[Path]:
    """Return the Python files of plug-ins: of a package all below its folder."""
    files: list[Path] = []
    for name in plugins:
        spec = importlib.util.find_spec(name)
        folders = list(spec.submodule_search_locations or ()) if spec else []
        files += [file for folder in folders for file in Path(folder).rglob("*.py")]
        files += [Path(spec.origin)] if spec and spec.origin and not folders else []
    return sorted(set(files))


def code_lines(file: Path) -> int:
    """Return how many lines of a Python file hold code: neither blank nor comment nor docstring."""
    text = file.read_text(encoding="utf-8")
    docstrings = {
        line
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    return sum(
        bool(line.strip()) and not line.strip().startswith("#") and number not in docstrings
        for number, line in enumerate(text.splitlines(), start=1)
    )


def table(heads: Sequence[Head], results: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a text table with a line per head, then what is published of their cost."""
    rows = [_cells(head, results[head.name]) for head in heads]
    headers = ["", "parameters", "multiply-adds", "image", "image / baseline's", "memory"]
    headers += ["step", "step / baseline's", "memory", "full size: step", "memory", "code"]
    published = [f"{head.name}, published: {head.published}" for head in heads if head.published]
    return "\n".join([grid(rows, headers), *published])


def _cells(head: Head, result: Mapping[str, Any]) -> list[str]:
    timed = [
        cell
        for part in (result["image"], result["step"])
        for cell in (
            f"{part['median_seconds']:.2f} s",
            interval(part["ratio"]),
            _mebibytes(part["peak_memory"]),
        )
    ]
    return [
        head.name,
        f"{result['parameters'] / 1e6:.2f} M",
        f"{result['multiply_adds'] / 1e9:.1f} G",
        *timed,
        f"{result['two_iterations'][-1]['seconds']:.1f} s",
        _mebibytes(result["full_size_peak_memory"]),
        str(result["lines"]),
    ]


def _mebibytes(memory: float) -> str:
    return f"{memory / 2**20:.0f} MiB"
