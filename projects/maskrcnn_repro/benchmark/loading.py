"""Benchmark of data loading: our mapper against Detectron2's, from the file to the training sample.

Ratios are the others' time over ours of the same round: above 1 ours is faster.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from maskrcnn_repro.benchmark import loading_start
from maskrcnn_repro.benchmark.contest import Contest, Contestant, table
from maskrcnn_repro.benchmark.loading_worker import FAST, OURS, PEER
from maskrcnn_repro.benchmark.processes import BenchmarkError
from maskrcnn_repro.benchmark.report import save
from maskrcnn_repro.benchmark.statistics import check_rounds
from maskrcnn_repro.data.synthetic.mini_coco import MINI_COCO

from detectron2.data import DatasetCatalog, MetadataCatalog

GENERATED = "mini_coco_val"
SHARE_ALLOWED = 1e-3
"""Of the values of an image: those that ``INPUT.RESIZE torch`` may change by more than 1."""


def run(args: argparse.Namespace) -> None:
    """Measure all contestants, or with ``--start`` a training's start; print a table and write the JSON file.

    Raises:
        BenchmarkError: too few rounds, a process failed, or the samples differ.
    """
    if args.start is not None:
        start = loading_start.start(args.start, args.workers)
        print(loading_start.report(start))
        save(args.output, "loading", {}, start=start)
        return
    check_rounds(args.rounds)
    file, folder = _data(args.json, args.images)
    task = {"file": str(file), "folder": str(folder), "count": args.count}
    contestants = [Contestant(name, sys.executable) for name in (OURS, FAST)]
    contestants.append(Contestant(PEER, args.installed or sys.executable, bool(args.installed)))
    with Contest("maskrcnn_repro.benchmark.loading_worker", contestants, task) as contest:
        differences = check_same(contest.facts)
        results = contest.timed("load", args.rounds)
    images = len(contest.facts[OURS]["samples"])
    print(table(results, images, "images"))
    share, largest = differences
    print(f"{FAST}: {share:.2e} of the values differ, by at most {largest}")
    facts = {"data": str(file), "images": images, "changed": share, "largest": largest}
    save(args.output, "loading", facts, rounds=args.rounds, contestants=results)


def _data(file: Path | None, folder: Path | None) -> tuple[Path, Path]:
    """Return the COCO JSON and the folder of images; those of the generated set where none is given."""
    if (file is None) != (folder is None):
        raise BenchmarkError("--json and --images go together: a COCO JSON and its images.")
    if file is None or folder is None:
        MINI_COCO.register(0)
        DatasetCatalog.get(GENERATED)
        metadata = MetadataCatalog.get(GENERATED)
        return Path(metadata.json_file), Path(metadata.image_root)
    for path in (file, folder):
        if not path.exists():
            raise BenchmarkError(f"{path} does not exist; give a COCO JSON and its images.")
    return file, folder


def check_same(facts: Mapping[str, Mapping[str, Any]]) -> tuple[float, int]:
    """Return the share of values that the fast resizing changes, and the largest change.

    Raises:
        BenchmarkError: there are no images; our samples are not Detectron2's, or the fast resizing changes too much.
    """
    ours: Sequence[str] = facts[OURS]["samples"]
    if not ours:
        raise BenchmarkError("No image of the data set has objects.")
    pairs = zip(ours, facts[PEER]["samples"], strict=True)
    if other := sum(mine != theirs for mine, theirs in pairs):
        raise BenchmarkError(f"{other} of {len(ours)} samples are not Detectron2's.")
    if facts[FAST]["far"] > SHARE_ALLOWED:
        raise BenchmarkError(
            f"INPUT.RESIZE torch changes {facts[FAST]['far']:.2e} of the values by more than 1; {SHARE_ALLOWED} are allowed."
        )
    return facts[FAST]["changed"], facts[FAST]["largest"]
