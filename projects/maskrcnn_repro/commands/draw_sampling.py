"""``maskrcnn draw-sampling``: the figure of where RoI operations sample the feature map."""

from __future__ import annotations

import argparse

from maskrcnn_repro.tables.report.html.sampling import write_figure


def run(args: argparse.Namespace) -> None:
    """Write the figure to ``args.file``."""
    write_figure(args.file)
    print(f"Written: {args.file}")
