"""``maskrcnn convert-proposals``: between Detectron2's proposal files and proposal stores."""

from __future__ import annotations

import argparse
import logging

from maskrcnn_repro.data.proposals.convert import convert


def run(args: argparse.Namespace) -> None:
    """Convert a proposal file of Detectron2's to a store, or a store to such a file."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    convert(args.source, args.target)
