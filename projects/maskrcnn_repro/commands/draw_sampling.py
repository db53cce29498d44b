"""``maskrcnn draw-sampling``: the RoI sampling figure alone."""

from __future__ import annotations

import argparse

from maskrcnn_repro.tables.report.html.sampling import write_figure


def run(args: argparse.Namespace) -> None:
    """Write the figure."""
    write_figure(args.file)
    print(f"Written: {args.file}")
