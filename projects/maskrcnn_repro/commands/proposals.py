"""``maskrcnn proposals``: store an RPN's proposals for data sets."""

from __future__ import annotations

import argparse

from maskrcnn_repro.config import get_config
from maskrcnn_repro.engine.launch import launch
from maskrcnn_repro.engine.main import config_from, processes_of
from maskrcnn_repro.engine.store_proposals import store_all


def run(args: argparse.Namespace) -> None:
    """Store proposals for the data sets of a config, or for those of ``--datasets``."""
    args.datasets, overrides = split_datasets(args.datasets)
    args.opts = [*overrides, *args.opts]
    cfg = config_from(args)
    launch(store_all, processes_of(args, cfg), (cfg, args.datasets))


def split_datasets(words: list[str]) -> tuple[list[str], list[str]]:
    """Split the words after ``--datasets`` into names of data sets and, from the first config key on, overrides."""
    sections = get_config()
    start = next((i for i, w in enumerate(words) if w.partition(".")[0] in sections), len(words))
    return words[:start], words[start:]
