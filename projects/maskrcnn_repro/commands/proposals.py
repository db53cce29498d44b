"""``maskrcnn proposals``."""

from __future__ import annotations

import argparse

from maskrcnn_repro.config import get_config
from maskrcnn_repro.engine.launch import launch
from maskrcnn_repro.engine.main import config_from, processes_of
from maskrcnn_repro.engine.store_proposals import store_all


def run(args: argparse.Namespace) -> None:
    """Store proposals for the data sets of a config, or for those of ``--datasets``."""
    args.datasets, pairs = split_datasets(args.datasets)
    args.opts = [*pairs, *args.opts]
    cfg = config_from(args)
    launch(store_all, processes_of(args, cfg), (cfg, args.datasets))


def split_datasets(words: list[str]) -> tuple[list[str], list[str]]:
    """Return the names behind ``--datasets``, which end at the first config key, and the pairs from there on."""
    sections = get_config()
    place = next((i for i, w in enumerate(words) if w.partition(".")[0] in sections), len(words))
    return words[:place], words[place:]
