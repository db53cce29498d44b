"""``maskrcnn join-weights``: one checkpoint from an RPN's and a detector's."""

from __future__ import annotations

import argparse

from maskrcnn_repro.checkpoint.join import join


def run(args: argparse.Namespace) -> None:
    """Join an RPN and a detector into one checkpoint."""
    join(args.rpn, args.detector, args.out)
