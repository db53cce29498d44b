"""``maskrcnn statistics``: numbers, sizes, overlap and truncation of objects, data sets side by side."""

from __future__ import annotations

import argparse
from pathlib import Path

from maskrcnn_repro.data.check.judge import judge
from maskrcnn_repro.data.check.scan import Scan, scan_coco
from maskrcnn_repro.data.check.table import FEATURES
from maskrcnn_repro.data.proportions import QUANTILES, lines, proportions
from maskrcnn_repro.data.registry import coco_file
from maskrcnn_repro.errors import ConfigError

from tabulate import tabulate


def run(args: argparse.Namespace) -> None:
    """Print a column for each data set.

    Raises:
        ConfigError: the stride is no number of pixels.
        DataError: a set is neither a file nor registered, has no COCO file, or that cannot be read.
    """
    if args.cell < 1:
        raise ConfigError(f"--cell {args.cell} has to be a stride in pixels, 1 or more.")
    columns = [
        proportions(_scan_of(name), short, args.cell) for name, short in map(_with_size, args.sets)
    ]
    print(tabulate(lines(columns), ["", *args.sets], "pipe", disable_numparse=True))
    quantiles = ", ".join(map(str, QUANTILES))
    print(f"\nFive numbers: quantiles at {quantiles} %. A cell has {args.cell} pixels.")


def _scan_of(item: str) -> Scan:
    """Return the scan of a COCO file or of a registered data set, with which nothing is wrong."""
    file = Path(item) if item.endswith(".json") else coco_file(item)
    scan = scan_coco(file, file.parent, headers=False)
    judge(scan.findings, ("test",), FEATURES - {"masks"})
    return scan


def _with_size(item: str) -> tuple[str, int]:
    """Split ``NAME@SHORT``; without a size it is 0.

    Raises:
        ConfigError: the size is no number of pixels.
    """
    name, at, size = item.rpartition("@")
    if not at or item.endswith(".json"):
        return item, 0
    if not (name and size.isdecimal() and len(size) <= 5 and int(size)):
        raise ConfigError(
            f"{item!r} is to be SET@SHORT, such as {name or 'small_coco_val'}@800: the shorter side of images after a "
            f"resize, from 1 to 99999 pixels, or without @ their own; got {size!r}."
        )
    return name, int(size)
