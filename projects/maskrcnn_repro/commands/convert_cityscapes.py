"""``maskrcnn convert-cityscapes``: annotations of Cityscapes as COCO JSON."""

from __future__ import annotations

import argparse
from functools import partial

from maskrcnn_repro.data.cityscapes import SPLITS, convert, dataset_name, default_root

from tqdm import tqdm


def run(args: argparse.Namespace) -> None:
    """Convert the named splits, or all; print the JSON file of each."""
    root = default_root() if args.root is None else args.root
    for split in args.splits or SPLITS:
        bar = partial(tqdm, desc=split, unit="image")
        print(f"{dataset_name(split)}: {convert(root, split, bar)}", flush=True)
