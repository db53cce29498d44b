"""Benchmark of mask pasting to RLE: this project's against Detectron2's pasting and its evaluator's encoding.

Both are timed in turns on the same masks, and must give the same RLEs. Ratios are Detectron2's time over
ours: above 1 ours is faster.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from maskrcnn_repro.benchmark import roi_memory
from maskrcnn_repro.benchmark.processes import BenchmarkError, run_module
from maskrcnn_repro.benchmark.report import grid, save
from maskrcnn_repro.benchmark.statistics import check_rounds, format_ratio, ratio_of_medians
from maskrcnn_repro.modeling.paste import paste_to_rles
from maskrcnn_repro.utils.provenance import code_origin
from maskrcnn_repro.utils.rle import RLE

import numpy as np
import torch
from detectron2.layers import paste_masks_in_image
from pycocotools import mask as coco_mask
from tqdm import tqdm

SIZES = ((480, 640), (800, 1333), (3000, 4000))
"""Height and width of images, pixels."""
LARGEST, MANY = (12000, 9000), 300
"""An image and a number of masks of which the bitmaps would take 32 GB: only our peak memory is measured."""
CELLS = 28
"""Side of a mask."""


def run(args: argparse.Namespace) -> None:
    """Measure all sizes, print the table and write the JSON file.

    Raises:
        BenchmarkError: too few rounds, a process failed, or the masks differ.
    """
    check_rounds(args.rounds)
    torch.set_num_threads(args.threads)
    results = {f"{h} x {w}": measure((h, w), args.masks, args.rounds) for h, w in SIZES}
    print(table(results))
    largest = peak_bytes(LARGEST, MANY, "ours")
    if largest:
        print(f"\n{MANY} masks of {LARGEST[0]} x {LARGEST[1]}: {largest['ours'] / 2**20:.0f} MiB")
    counts = {"masks": args.masks, "rounds": args.rounds, "largest": largest}
    save(args.output, "paste", {}, code=code_origin(), **counts, sizes=results)
    if args.output:
        print(f"\nTimings: {args.output}")


def scene(size: tuple[int, int], count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return random masks, (count, 28, 28) in [0, 1], and boxes, (count, 4) xyxy in pixels of the image.

    Masks are rough discs; sides of boxes are 5 to 65 % of those of the image.
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
    """Return seconds of all rounds, their ratio, and peak bytes (if the system can measure them).

    Raises:
        BenchmarkError: the two give different RLEs, or the process that measures memory failed.
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
        "peak_bytes": peak_bytes(size, count, *contenders),
    }


def peak_bytes(size: tuple[int, int], count: int, *names: str) -> dict[str, int]:
    """Return by how much each of the named contenders raises the resident memory; {} if the system cannot tell."""
    if not roi_memory.can_measure():
        return {}
    # In a process that returns freed memory to the system at once.
    return run_module(__name__, *size, count, *names, **roi_memory.ENVIRONMENT)


def contenders_for(size: tuple[int, int], count: int) -> dict[str, Callable[[], Any]]:
    """Return the functions to be measured, by name."""
    masks, boxes = scene(size, count)
    return {
        "detectron2": lambda: _detectron2(masks, boxes, size),
        "ours": lambda: paste_to_rles(masks, boxes, size).rles,
    }


def _detectron2(masks: torch.Tensor, boxes: torch.Tensor, size: tuple[int, int]) -> list[RLE]:
    """Paste with Detectron2's function, then encode as its COCO evaluator does."""
    rles = []
    for mask in paste_masks_in_image(masks, boxes, size).numpy():
        rle = coco_mask.encode(np.array(mask[:, :, None], order="F", dtype=np.uint8))[0]
        rles.append({"size": list(rle["size"]), "counts": rle["counts"].decode("ascii")})
    return rles


def table(results: Mapping[str, Any]) -> str:
    """Return a text table with one line per image size."""
    rows = []
    for name, result in results.items():
        seconds, peak = result["seconds"], result["peak_bytes"]
        rows.append(
            [
                name,
                *(f"{statistics.median(times):.3f} s" for times in seconds.values()),
                format_ratio(result["ratio"], 1),
                *(f"{peak[contender] / 2**20:.1f} MiB" if peak else "" for contender in seconds),
            ]
        )
    headers = ["image", "Detectron2", "ours", "ratio", "memory: Detectron2", "ours"]
    return grid(rows, headers)


if __name__ == "__main__":
    torch.set_num_threads(1)
    height, width, number = map(int, sys.argv[1:4])
    functions = contenders_for((height, width), number)
    # Libraries allocate memory of their own on the first call.
    for function in contenders_for((64, 64), 1).values():
        function()
    print(json.dumps({name: roi_memory.extra_bytes(functions[name]) for name in sys.argv[4:]}))
