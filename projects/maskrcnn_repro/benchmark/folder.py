"""Benchmark of a folder of photos: what reading, resizing and drawing add to the model, beside the peers' loops.

Each contestant has a process of its own; all predict on the same files in turns. Ratios are their time over that of
``Predictor`` in the same round.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from maskrcnn_repro._backend import VARIABLE
from maskrcnn_repro.benchmark import scenes
from maskrcnn_repro.benchmark.folder_worker import CONTESTANTS, Task
from maskrcnn_repro.benchmark.inference import MIN_ROUNDS, summary
from maskrcnn_repro.benchmark.processes import BenchmarkError, rotated, started
from maskrcnn_repro.benchmark.report import grid, save
from maskrcnn_repro.inference.input_files import find_inputs
from maskrcnn_repro.inference.overlays import write_picture

from tqdm import tqdm

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
    if args.rounds < MIN_ROUNDS or args.count < 1:
        raise BenchmarkError(
            f"--rounds is {args.rounds} and --count {args.count}; they must be at least {MIN_ROUNDS} and 1."
        )
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
    with ExitStack() as stack:
        children = [stack.enter_context(_started(name, args)) for name in names]
        paths = {}
        for child in children:
            own = folder / child.name.replace(" ", "_")
            own.mkdir()
            task = Task(child.name, args.model, [*files], args.count, args.threads, str(own))
            paths[child.name] = child.ask(asdict(task))["path"]
        seconds: dict[str, list[float]] = {name: [] for name in names}
        for turn in tqdm(range(args.rounds + 1), desc=args.model, unit="round"):
            for child in rotated(children, turn):
                duration = child.ask("predict")
                if turn:  # the first round warms up
                    seconds[child.name].append(duration)
        objects = {child.name: child.ask("objects") for child in children}
        peaks = {child.name: child.ask("peak_memory") for child in children}
    check_same(objects)
    shown = args.count * (args.rounds + 1)
    return {
        name: {
            "path": paths[name],
            "objects_per_image": objects[name] / shown,
            "peak_memory": peaks[name],
            **summary(seconds[name], seconds[OURS]),
        }
        for name in names
    }


def _started(name: str, args: argparse.Namespace) -> Any:
    variables = {"OMP_NUM_THREADS": str(args.threads)}
    python = sys.executable
    if name == "DefaultPredictor" and args.installed:
        python, variables[VARIABLE] = args.installed, "installed"
    return started(name, python, "maskrcnn_repro.benchmark.folder_worker", **variables)


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
            "{value:.2f} [{low:.2f}, {high:.2f}]".format(**result["ratio"]),
        ]
        for name, result in results.items()
    ]
    headers = ["", "path", "images/s", "objects", "peak memory", "time ratio [quartiles]"]
    return grid(rows, headers)
