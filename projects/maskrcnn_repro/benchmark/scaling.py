"""Benchmark of scaling: time and memory of prediction against what makes it dearer, one curve for each.

Along each axis one property of :class:`~maskrcnn_repro.benchmark.scaling_worker.Point` varies, the others keep their
defaults. Each point has processes of its own, so that its peak memory is its own, too.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from maskrcnn_repro.benchmark.processes import BenchmarkError, start_worker
from maskrcnn_repro.benchmark.report import grid, save
from maskrcnn_repro.benchmark.scaling_worker import Point
from maskrcnn_repro.utils.files import replaced
from maskrcnn_repro.visualization import plotting

from tqdm import tqdm

SIDES = ((400, 544), (800, 1088), (1200, 1632))
QUICK_SIDES = ((192, 256), (384, 512))
PICTURES = (".svg", ".png")
Result = dict[str, Any]


def run(args: argparse.Namespace) -> None:
    """Measure all points, print the table, and write the plot and the JSON file.

    Raises:
        BenchmarkError: another picture than SVG or PNG, or a process failed.
    """
    if args.plot and args.plot.suffix not in PICTURES:
        raise BenchmarkError(f"--plot is {args.plot}; its ending must be {' or '.join(PICTURES)}.")
    results: list[Result] = []
    costs: dict[Point, Result] = {}  # the curves share the point of the defaults
    for axis, point in tqdm(points(quick=args.quick, threads=args.threads), unit="point"):
        if point not in costs:
            costs[point] = measure(point, args.rounds)
        results.append({"axis": axis, "point": asdict(point), **costs[point]})
        # After each point: all of them take minutes, and an interruption must not lose the results.
        save(args.output, "scaling", {}, rounds=args.rounds, points=results)
    print(table(results))
    if args.plot:
        draw(results, args.plot)


def points(*, quick: bool, threads: int) -> list[tuple[str, Point]]:
    """Return the points of all curves, each with the name of its axis."""
    sides = QUICK_SIDES if quick else SIDES
    height, width = sides[0] if quick else sides[1]
    axes: dict[str, Sequence[Mapping[str, int]]] = {
        "image height": [{"height": h, "width": w} for h, w in sides],
        "RoIs": [{"rois": count} for count in ((100, 300) if quick else (100, 300, 1000, 2000))],
        "classes": [{"classes": count} for count in (80, 1203)],
        "batch": [{"batch": count} for count in ((1, 2) if quick else (1, 2, 4))],
        "processes": [{"processes": count} for count in (1, 2)],
    }
    base = {"height": height, "width": width, "threads": threads}
    return [
        (axis, Point(contestant, **{**base, **change}))
        for axis, changes in axes.items()
        for change in changes
        for contestant in contestants(axis)
    ]


def contestants(axis: str) -> Sequence[str]:
    """Return who is measured along an axis: torchvision where it takes few points and the same weights."""
    return ("ours", "torchvision") if axis in ("image height", "batch") else ("ours",)


def measure(point: Point, rounds: int) -> Result:
    """Return seconds for a batch of each process, peak memory of one, and the dearest operator.

    Raises:
        BenchmarkError: a process failed.
    """
    with ExitStack() as stack:
        workers = [
            stack.enter_context(
                start_worker(
                    point.contestant,
                    sys.executable,
                    "maskrcnn_repro.benchmark.scaling_worker",
                    OMP_NUM_THREADS=str(point.threads),
                )
            )
            for _ in range(point.processes)
        ]
        with ThreadPoolExecutor(len(workers)) as pool:

            def ask(request: Any) -> list[Any]:
                return list(pool.map(lambda worker: worker.ask(request), workers))

            facts = ask(asdict(point))[0]
            ask("infer")  # the first warms up
            seconds = [max(ask("infer")) for _ in range(rounds)]
            peak = max(ask("peak_memory"))
            operator, share = ask("dearest")[0]
    return {
        **facts,
        "seconds": seconds,
        "median_seconds": statistics.median(seconds),
        "peak_memory": peak,
        "dearest": {"operator": operator, "share": share},
    }


def value_of(result: Mapping[str, Any]) -> int:
    """Return the value of a point along its axis."""
    names = {"image height": "height", "RoIs": "rois"}
    return result["point"][names.get(result["axis"], result["axis"])]


def table(results: Sequence[Result]) -> str:
    """Return a text table with one line per point."""
    rows = []
    for result in results:
        images = result["point"]["batch"] * result["point"]["processes"]
        dearest = result["dearest"]
        rows.append(
            [
                result["axis"],
                str(value_of(result)),
                result["point"]["contestant"],
                result["path"],
                f"{result['median_seconds']:.2f} s",
                f"{images / result['median_seconds']:.2f}",
                f"{result['peak_memory'] / 2**20:.0f} MiB",
                str(sum(result["detections"])),
                f"{dearest['operator']} {dearest['share']:.0%}",
            ]
        )
    headers = ["axis", "value", "", "path", "time", "images/s", "memory", "detections", "dearest"]
    return grid(rows, headers)


def draw(results: Sequence[Result], path: Path) -> None:
    """Write one plot of all curves, time above and memory below, as SVG or PNG."""
    axes = list(dict.fromkeys(result["axis"] for result in results))
    rows = {
        "seconds": lambda result: result["median_seconds"],
        "peak memory, GiB": lambda result: result["peak_memory"] / 2**30,
    }
    with plotting.style():
        figure = plotting.new_figure(210 * len(axes), 380)
        figure.patch.set(facecolor="white", alpha=1)
        panels = figure.subplots(len(rows), len(axes), squeeze=False, sharey="row")
        for line, (title, cost) in zip(panels, rows.items(), strict=True):
            line[0].set_ylabel(title)
            for axis, panel in zip(axes, line, strict=True):
                for index, name in enumerate(contestants(axis)):
                    curve = [
                        (value_of(result), cost(result))
                        for result in results
                        if result["axis"] == axis and result["point"]["contestant"] == name
                    ]
                    panel.plot(
                        *zip(*curve, strict=True),
                        marker="o",
                        label=name,
                        color=plotting.SERIES[index],
                        linestyle=plotting.DASHES[index],
                    )
                panel.set_xticks(sorted({x for x, _ in curve}))
                panel.set_ylim(bottom=0)
                panel.grid(axis="y")
        for axis, panel in zip(axes, panels[-1], strict=True):
            panel.set_xlabel(axis)
        panels[0][0].legend(frameon=False)
        figure.tight_layout()
        with replaced(path) as beside:
            undated = {"Date": None} if path.suffix == ".svg" else {}
            figure.savefig(beside, dpi=144, metadata=undated, format=path.suffix[1:])
