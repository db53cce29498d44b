"""``maskrcnn draw-sampling``: the figure of where RoI operations sample the feature map."""

from __future__ import annotations

import argparse

from maskrcnn_repro.tables.report.html.roi_figure import page
from maskrcnn_repro.tables.report.html.sampling import write_figure
from maskrcnn_repro.utils.files import write_text


def run(args: argparse.Namespace) -> None:
    """Write the figure to ``args.file``, as a page with an RoI to drag if it ends in ``.html``."""
    if args.file.suffix == ".html":
        write_text(args.file, page())
    else:
        write_figure(args.file)
    print(f"Written: {args.file}")
