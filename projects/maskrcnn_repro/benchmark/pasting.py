"""Masks from their boxes to RLE: ours beside Detectron2's pasting and its evaluator's encoding, in one run.

Both are timed in turns on the same masks, and must give the same bytes. Ratios are theirs over ours: above 1
ours takes less.
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
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from maskrcnn_repro._location import SEARCH_PATH
from maskrcnn_repro.benchmark import roi_memory
from maskrcnn_repro.benchmark.statistics import ratio_of_medians
from maskrcnn_repro.errors import UserError
from maskrcnn_repro.modeling.paste import paste_to_rles
from maskrcnn_repro.modeling.rle import RLE
from maskrcnn_repro.utils.files import write_text
from maskrcnn_repro.utils.provenance import code_origin, machine

import numpy as np
import torch
from detectron2.layers import paste_masks_in_image
from pycocotools import mask as coco_mask
from tabulate import tabulate
from tqdm import tqdm

SIZES = ((480, 640), (800, 1333), (3000, 4000))
"""Height and width of images, pixels."""
CELLS = 28
"""Side of a mask."""
MIN_ROUNDS = 2


class BenchmarkError(UserError):
    """The benchmark cannot be run as asked, or the two do not give the same."""


def run(args: argparse.Namespace) -> None:
    """Measure all sizes, print the table and write the JSON file.

    Raises:
        BenchmarkError: numbers too small to measure, or different pixels.
    """
    if args.rounds < MIN_ROUNDS or args.masks < 1:
        raise BenchmarkError(
            f"--rounds {args.rounds} and --masks {args.masks} must be at least {MIN_ROUNDS} and 1."
        )
    torch.set_num_threads(args.threads)
    results = {f"{h} x {w}": measure((h, w), args.masks, args.rounds) for h, w in SIZES}
    print(table(results))
    if args.output:
        report = {
            "benchmark": "paste",
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "machine": machine("cpu"),
            "code": code_origin(),
            "masks": args.masks,
            "rounds": args.rounds,
            "sizes": results,
        }
        write_text(args.output, json.dumps(report, indent=1) + "\n")
        print(f"\nTimings: {args.output}")


def scene(size: tuple[int, int], count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return masks, (count, 28, 28) in [0, 1], and their boxes, (count, 4) in pixels of an image.

    Outlines are rough discs; a box has between 5 and 65 % of each side of the image.
    """
    generator = torch.Generator().manual_seed(0)
    row = torch.linspace(-1, 1, CELLS)
    noise = torch.randn(count, CELLS, CELLS, generator=generator)
    masks = torch.sigmoid(8 * (0.7 - torch.hypot(row[:, None], row) + 0.1 * noise))
    sides = torch.tensor([size[1], size[0]])
    centre = torch.rand(count, 2, generator=generator) * sides
    half = (0.025 + 0.3 * torch.rand(count, 2, generator=generator)) * sides
    boxes = torch.cat([centre - half, centre + half], dim=1).clamp(min=0).minimum(sides.repeat(2))
    return masks, boxes


def measure(size: tuple[int, int], count: int, rounds: int) -> dict[str, Any]:
    """Return seconds of all rounds, their ratio, and peak bytes (where the system tells).

    Raises:
        BenchmarkError: the two do not give the same bytes.
    """
    contenders = contenders_for(size, count)
    if contenders["ours"]() != contenders["detectron2"]():
        raise BenchmarkError(f"The pixels of {count} masks in {size} are not Detectron2's.")
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in tqdm(range(rounds), desc=f"{size[0]} x {size[1]}", unit="round"):
        for name, function in contenders.items():
            begin = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - begin)
    return {
        "seconds": seconds,
        "ratio": asdict(ratio_of_medians(seconds["detectron2"], seconds["ours"])),
        "peak_bytes": peaks_apart(size, count) if roi_memory.can_measure() else {},
    }


def contenders_for(size: tuple[int, int], count: int) -> dict[str, Callable[[], Any]]:
    """Return what is measured, by name."""
    masks, boxes = scene(size, count)
    return {
        "detectron2": lambda: _detectron2(masks, boxes, size),
        "ours": lambda: paste_to_rles(masks, boxes, size).rles,
    }


def peaks_apart(size: tuple[int, int], count: int) -> dict[str, int]:
    """Return peak bytes by name, from a process of its own that gives freed memory back at once.

    Raises:
        BenchmarkError: the process failed.
    """
    path = [str(SEARCH_PATH), os.getenv("PYTHONPATH", "")]
    environment = {**os.environ, **roi_memory.ENVIRONMENT, "PYTHONWARNINGS": "ignore"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, path))
    command = [sys.executable, "-m", __name__, *map(str, (*size, count))]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise BenchmarkError(
            f"The memory's process ended with status {done.returncode}; see above."
        )
    return json.loads(done.stdout)


def _detectron2(masks: torch.Tensor, boxes: torch.Tensor, size: tuple[int, int]) -> list[RLE]:
    """Paste as the model does, then encode as Detectron2's COCO evaluator does."""
    rles = []
    for mask in paste_masks_in_image(masks, boxes, size).numpy():
        rle = coco_mask.encode(np.array(mask[:, :, None], order="F", dtype=np.uint8))[0]
        rles.append({"size": list(rle["size"]), "counts": rle["counts"].decode("ascii")})
    return rles


def table(results: Mapping[str, Any]) -> str:
    """Return one line for each size."""
    rows = []
    for name, result in results.items():
        seconds, ratio, peak = result["seconds"], result["ratio"], result["peak_bytes"]
        rows.append(
            [
                name,
                *(f"{statistics.median(seconds[who]):.3f} s" for who in seconds),
                f"{ratio['value']:.1f} [{ratio['low']:.1f}, {ratio['high']:.1f}]",
                *(f"{peak[who] / 2**20:.1f} MiB" if peak else "" for who in seconds),
            ]
        )
    headers = ["image", "Detectron2", "ours", "ratio", "memory: Detectron2", "ours"]
    return tabulate(rows, headers=headers, tablefmt="simple", disable_numparse=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    height, width, number = map(int, sys.argv[1:])
    functions = contenders_for((height, width), number)
    warm = contenders_for((64, 64), 1)
    for function in warm.values():  # libraries take their memory on the first call
        function()
    print(
        json.dumps({name: roi_memory.extra_bytes(function) for name, function in functions.items()})
    )
