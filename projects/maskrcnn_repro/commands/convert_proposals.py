"""``maskrcnn convert-proposals``."""

from __future__ import annotations

import argparse
import logging

from maskrcnn_repro.data.proposals.convert import convert


def run(args: argparse.Namespace) -> None:
    """Convert Detectron2's file to a store, or back."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    convert(args.source, args.target)
