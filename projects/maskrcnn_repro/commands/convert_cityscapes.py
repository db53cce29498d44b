"""The command line of ``scripts/convert_cityscapes.py``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from maskrcnn_repro.data.cityscapes import SPLITS, convert, dataset_name, default_root
from maskrcnn_repro.utils.command_line import exit_status

from tqdm import tqdm


def main(argv: Sequence[str] | None = None) -> int:
    """Convert the splits that the command line names.

    Args:
        argv: the arguments without the program's name; by default the process's own.

    Returns:
        The exit status: 0, or 2 after a user's error, which is told in one sentence on stderr.
    """
    parser = argparse.ArgumentParser(
        description="Convert Cityscapes' fine annotations to COCO JSON, a few minutes for both splits."
    )
    parser.add_argument(
        "--root",
        type=Path,
        default=default_root(),
        metavar="DIR",
        help="folder with gtFine and leftImg8bit (default: cityscapes below DETECTRON2_DATASETS, %(default)s)",
    )
    parser.add_argument("--splits", nargs="+", default=list(SPLITS), metavar="SPLIT")

    def start() -> None:
        args = parser.parse_args(argv)
        for split in args.splits:
            bar = partial(tqdm, desc=split, unit="image")
            print(f"{dataset_name(split)}: {convert(args.root, split, bar)}", flush=True)

    return exit_status(start)
