"""Command line of ``scripts/draw_sampling.py``: the RoI sampling figure alone."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from maskrcnn_repro.tables.report.html.sampling import write_figure
from maskrcnn_repro.utils.command_line import exit_status


def main(argv: Sequence[str] | None = None) -> int:
    """Write the figure.

    Returns:
        0; 2 after a user's error, told in one sentence.
    """
    parser = argparse.ArgumentParser(
        description="Draw where RoIPool, RoIWarp and RoIAlign read the feature map for one RoI.",
        epilog="example: %(prog)s docs/roi_sampling.svg",
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="what to write: .svg or .png")
    path = parser.parse_args(argv).file

    def start() -> None:
        write_figure(path)
        print(f"Written: {path}")

    return exit_status(start)
