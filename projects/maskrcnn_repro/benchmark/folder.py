"""Benchmark of a folder of photos: what reading, resizing and drawing add to the model, beside the peers' loops.

Each contestant has a process of its own; all predict on the same files in turns. Ratios are their time over that of
``Predictor`` in the same round.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from maskrcnn_repro.benchmark import scenes
from maskrcnn_repro.benchmark.contest import Contest, Contestant, interval
from maskrcnn_repro.benchmark.folder_worker import CONTESTANTS
from maskrcnn_repro.benchmark.processes import BenchmarkError
from maskrcnn_repro.benchmark.report import grid, save
from maskrcnn_repro.benchmark.statistics import check_rounds
from maskrcnn_repro.inference.input_files import find_inputs
from maskrcnn_repro.inference.overlays import write_picture

OURS = "Predictor"
GENERATED, SIZE = 20, (480, 640)
"""Number of photos where no folder is given, and their height and width in pixels."""
TOLERANCE = 0.05
"""Part by which the peers' number of objects may differ: they compute in float32."""


def run(args: argparse.Namespace) -> None:
    """Measure all contestants, print a table and write the JSON file.

    Raises:
        BenchmarkError: too few rounds, a process failed, or a contestant finds other objects.
        DataError: there is no photo in the folder.
    """
    check_rounds(args.rounds)
    with tempfile.TemporaryDirectory() as folder:
        photos = args.images or generated(Path(folder) / "photos")
        files = [str(item.path.resolve()) for item in find_inputs([str(photos)]) if not item.video]
        results = measure(args, files, Path(folder))
    print(
        f"{args.model}, {args.rounds} rounds of {args.count} images\n{table(results, args.count)}"
    )
    facts = {"threads": args.threads, "photos": len(files)}
    save(args.output, "predict", facts, model=args.model, count=args.count, contestants=results)
    if args.output:
        print(f"Timings: {args.output}")


def generated(folder: Path) -> Path:
    """Write photos of generated scenes, JPEG files, and return their folder."""
    folder.mkdir()
    for number in range(GENERATED):
        picture = scenes.scene(number, *SIZE, objects=8).image.transpose(1, 2, 0)
        write_picture(folder / f"{number}.jpg", picture)
    return folder


def measure(args: argparse.Namespace, files: Sequence[str], folder: Path) -> dict[str, Any]:
    """Return what each contestant is, found and took, by its name.

    Args:
        args: of the command line.
        files: the photos.
        folder: for what contestants write.
    """
    names = [name for name in CONTESTANTS if name != "torchvision" or args.model == "R50-FPN"]
    contestants = [_contestant(name, args.installed) for name in names]
    task = {
        "model": args.model,
        "files": [*files],
        "count": args.count,
        "threads": args.threads,
        "folder": str(folder),
    }
    module = "maskrcnn_repro.benchmark.folder_worker"
    with Contest(module, contestants, task, args.threads) as contest:
        results = contest.timed("predict", args.rounds, label=args.model, against=OURS)
        objects = contest.ask("objects")
    check_same(objects)
    shown = args.count * (args.rounds + 1)
    return {
        name: {
            "path": contest.facts[name]["path"],
            "objects_per_image": objects[name] / shown,
            **result,
        }
        for name, result in results.items()
    }


def _contestant(name: str, installed: str | None) -> Contestant:
    theirs = name == "DefaultPredictor" and installed is not None
    return Contestant(name, (installed if theirs else None) or sys.executable, theirs)


def check_same(objects: Mapping[str, int]) -> None:
    """Raise BenchmarkError unless ours find the same number of objects, and the peers about as many."""
    expected = objects[OURS]
    for name, number in objects.items():
        allowed = 0.0 if name.startswith((OURS, "model")) else TOLERANCE * expected
        if not expected or abs(number - expected) > allowed:
            raise BenchmarkError(
                f"{name} finds {number} objects and {OURS} {expected}; the work is not the same. Choose other images."
            )


def table(results: Mapping[str, Mapping[str, Any]], count: int) -> str:
    """Return a text table with one line per contestant.

    Args:
        results: of :func:`measure`.
        count: images of a round.
    """
    rows = [
        [
            name,
            result["path"],
            f"{count / result['median_seconds']:.2f}",
            f"{result['objects_per_image']:.1f}",
            f"{result['peak_memory'] / 2**20:.0f} MiB",
            interval(result["ratio"]),
        ]
        for name, result in results.items()
    ]
    headers = ["", "path", "images/s", "objects", "peak memory", "time ratio [quartiles]"]
    return grid(rows, headers)
