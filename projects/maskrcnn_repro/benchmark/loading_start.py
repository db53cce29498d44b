"""Start of a training on simulated annotations of train2017's size: seconds, and memory of all processes together.

Run as ``python -m maskrcnn_repro.benchmark.loading_start IMAGES WORKERS``, it prints what it measured as JSON.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from maskrcnn_repro.benchmark.folder import GENERATED, SIZE, generated
from maskrcnn_repro.benchmark.processes import BenchmarkError, run_module
from maskrcnn_repro.config import get_config
from maskrcnn_repro.data.loader import build_train_loader
from maskrcnn_repro.utils.provenance import code_origin

import numpy as np
from detectron2.data import DatasetCatalog
from detectron2.data.datasets import load_coco_json

NAME = "simulated_annotations"
OBJECTS_PER_IMAGE = 860_001 / 118_287
"""As in train2017."""
CATEGORIES = 80
SHAPES, CORNERS = 1000, 24
"""Different outlines, and corners of each: an annotation takes as many bytes as train2017's."""


def start(images: int, workers: int) -> dict[str, Any]:
    """Return the seconds and bytes that a training's data take until the first batch, in a process of its own.

    Args:
        images: simulated ones, at least 1, with :data:`OBJECTS_PER_IMAGE` objects each.
        workers: of the data loader, at least 1.

    Raises:
        BenchmarkError: the system does not tell the memory of a process, or the process failed.
    """
    if not Path("/proc/self/smaps_rollup").exists():
        raise BenchmarkError("--start needs Linux, whose /proc tells what processes share.")
    facts: dict[str, Any] = run_module("maskrcnn_repro.benchmark.loading_start", images, workers)
    return facts


def report(facts: dict[str, Any]) -> str:
    """Return the result of :func:`start` as text."""
    sizes = {name: f"{facts[name] / 2**20:,.0f} MiB" for name in ("json", "main", "together")}
    own = max(facts["own"]) / 2**20
    return (
        f"{facts['images']:,} images with {facts['objects']:,} objects, JSON of {sizes['json']}\n"
        f"reading the JSON: {facts['reading']:.1f} s; from the records to the first batch: {facts['loader']:.1f} s; "
        f"together {facts['reading'] + facts['loader']:.1f} s\n"
        f"memory: {sizes['together']} in the main process and {len(facts['own'])} workers together (PSS); at most "
        f"{own:,.0f} MiB of a worker are its own"
    )


def measure(images: int, workers: int) -> dict[str, Any]:
    """Return what :func:`start` does, of this process."""
    with tempfile.TemporaryDirectory() as folder:
        photos, file = generated(Path(folder) / "photos"), Path(folder) / "instances.json"
        objects = write(file, images)
        times = [time.perf_counter()]
        held = [load_coco_json(str(file), str(photos), NAME)]
        times.append(time.perf_counter())
        # As the catalog's own readers, it keeps nothing.
        DatasetCatalog.register(NAME, held.pop)
        cfg = get_config()
        cfg.MODEL.MASK_ON, cfg.DATASETS.TRAIN = True, (NAME,)
        cfg.DATALOADER.NUM_WORKERS, cfg.SOLVER.IMS_PER_BATCH = workers, 2
        batches = iter(build_train_loader(cfg))
        next(batches)
        times.append(time.perf_counter())
        main = memory(os.getpid())
        others = [memory(process.pid) for process in multiprocessing.active_children()]
        return {
            "images": images,
            "objects": objects,
            "json": file.stat().st_size,
            "reading": times[1] - times[0],
            "loader": times[2] - times[1],
            "main": main[0],
            "together": main[0] + sum(share for share, _ in others),
            "own": [private for _, private in others],
            "origin": code_origin(),
        }


def memory(pid: int | None) -> tuple[int, int]:
    """Return the proportional memory of a process, and what it shares with no other, in bytes."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    sizes = {name: int(size.split()[0]) << 10 for name, size in (line.split(":") for line in lines)}
    return sizes["Pss"], sizes["Private_Clean"] + sizes["Private_Dirty"]


def write(file: Path, images: int) -> int:
    """Write a COCO JSON of simulated images, whose files are those of ``generated``; return the number of objects."""
    height, width = SIZE
    with file.open("w") as out:
        out.write('{"categories": ')
        json.dump([{"id": n, "name": f"class {n}"} for n in range(1, CATEGORIES + 1)], out)
        out.write(', "images": ')
        shape = {"height": height, "width": width}
        json.dump(
            [{"id": n, "file_name": f"{n % GENERATED}.jpg", **shape} for n in range(1, images + 1)],
            out,
        )
        objects = round(images * OBJECTS_PER_IMAGE)
        out.write(', "annotations": [')
        out.write(",".join(_annotations(images, objects)))
        out.write("]}")
    return objects


def _annotations(images: int, objects: int) -> Iterator[str]:
    """Yield annotations as JSON, the objects spread over the images."""
    random = np.random.default_rng(0)
    turn = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
    circle = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    radii = random.uniform(5, 120, (SHAPES, 1, 2))
    outlines = (radii * (1 + circle) + random.uniform(0, 240, (SHAPES, 1, 2))).round(2)
    shapes = []
    for outline in outlines:
        low, sides = outline.min(axis=0), np.ptp(outline, axis=0)
        fields = {
            "segmentation": [outline.ravel().tolist()],
            "bbox": [*low.tolist(), *sides.tolist()],
            "area": float(sides.prod() * np.pi / 4),
            "iscrowd": 0,
        }
        shapes.append(json.dumps(fields)[1:])
    for n in range(objects):
        ids = {
            "id": n + 1,
            "image_id": 1 + n * images // objects,
            "category_id": 1 + n % CATEGORIES,
        }
        yield f"{json.dumps(ids)[:-1]}, {shapes[n % SHAPES]}"


if __name__ == "__main__":
    print(json.dumps(measure(*map(int, sys.argv[1:]))))
