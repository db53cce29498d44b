"""``maskrcnn statistics``: numbers, sizes, overlap and truncation of objects, data sets side by side."""

from __future__ import annotations

import argparse
from pathlib import Path

from maskrcnn_repro.data.check.judge import judge
from maskrcnn_repro.data.check.scan import Scan, scan_coco
from maskrcnn_repro.data.check.table import FEATURES
from maskrcnn_repro.data.proportions import QUANTILES, lines, measure_proportions
from maskrcnn_repro.data.registry import coco_file
from maskrcnn_repro.errors import ConfigError

from tabulate import tabulate

MOST_PIXELS = 99999
"""Of a cell, and of an image's shorter side."""


def run(args: argparse.Namespace) -> None:
    """Print a column for each data set.

    Raises:
        ConfigError: the stride is no number of pixels.
        DataError: a set is neither a file nor registered, has no COCO file, or that cannot be read.
    """
    if not 1 <= args.cell <= MOST_PIXELS:
        raise ConfigError(
            f"--cell {args.cell} has to be a stride in pixels, from 1 to {MOST_PIXELS}."
        )
    columns = [
        measure_proportions(_scan_of(name), short, args.cell)
        for name, short in map(_with_size, args.sets)
    ]
    print(tabulate(lines(columns), ["", *map(_heading, args.sets)], "pipe", disable_numparse=True))
    quantiles = ", ".join(map(str, QUANTILES))
    print(f"\nFive numbers: quantiles at {quantiles} %. A cell has {args.cell} pixels.")


def _scan_of(item: str) -> Scan:
    """Return the scan of a COCO file or of a registered data set, with which nothing is wrong."""
    file = Path(item) if _is_file(item) else coco_file(item)
    scan = scan_coco(file, file.parent, headers=False)
    judge(scan.findings, ("test",), FEATURES - {"masks"})
    return scan


def _is_file(item: str) -> bool:
    return item.lower().endswith(".json")


def _heading(item: str) -> str:
    """Return the name of a set as a cell in Markdown: in one line, its bars no borders."""
    return " ".join(item.split()).replace("|", "\\|")


def _with_size(item: str) -> tuple[str, int]:
    """Split ``NAME@SHORT``; without a size it is 0.

    Raises:
        ConfigError: the size is no number of pixels.
    """
    name, at, size = item.rpartition("@")
    if not at or _is_file(item):
        return item, 0
    if not (name and size.isdecimal() and len(size) <= 5 and 0 < int(size) <= MOST_PIXELS):
        raise ConfigError(
            f"{item!r} is to be SET@SHORT, such as {name or 'small_coco_val'}@800: the shorter side of images after a "
            f"resize, from 1 to {MOST_PIXELS} pixels, or without @ their own; got {size!r}."
        )
    return name, int(size)
