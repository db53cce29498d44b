"""The command line of ``scripts/store_proposals.py``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from maskrcnn_repro.config import get_config
from maskrcnn_repro.engine.launch import launch
from maskrcnn_repro.engine.main import (
    add_config_options,
    config_from,
    processes_of,
    refuse_late_options,
)
from maskrcnn_repro.engine.store_proposals import store_all
from maskrcnn_repro.utils.command_line import exit_status

EXAMPLES = """
examples:
  The proposals of a trained RPN for the training and test sets of its config:
    %(prog)s --config-file configs/rpn/r50_fpn.yaml OUTPUT_DIR output/rpn/r50_fpn

  Of weights from elsewhere, for one data set:
    %(prog)s --config-file configs/rpn/r50_fpn.yaml --datasets coco_2017_val MODEL.WEIGHTS rpn.pkl
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Store proposals as the command line says.

    Args:
        argv: the arguments without the program's name; by default the process's own.

    Returns:
        The exit status: 0, or 2 after a user's error, which is told in one sentence on stderr.
    """

    def start() -> None:
        args = parse(argv)
        cfg = config_from(args)
        launch(store_all, processes_of(args, cfg), (cfg, args.datasets))

    return exit_status(start)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse a command line; the names behind ``--datasets`` end at the first config key.

    Raises:
        ConfigError: an option stands behind the first ``KEY VALUE`` pair.
    """
    parser = argparse.ArgumentParser(
        description="Store an RPN's proposals for the data sets of a config and print their recall.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config-file", default="", metavar="FILE", help="of an RPN or a detector")
    add_config_options(parser)
    parser.add_argument(
        "--datasets",
        nargs="+",
        default=[],
        metavar="NAME",
        help="registered data sets; by default DATASETS.TRAIN and DATASETS.TEST",
    )
    parser.add_argument("--num-gpus", type=int, default=1, help="processes on this machine")
    parser.add_argument("--num-machines", type=int, default=1)
    parser.add_argument("--machine-rank", type=int, default=0)
    parser.add_argument("--dist-url", default="auto")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE pairs of the config")
    args = parser.parse_args(argv)
    keys = get_config()
    place = next((i for i, w in enumerate(args.datasets) if w.partition(".")[0] in keys), None)
    if place is not None:
        args.opts = [*args.datasets[place:], *args.opts]
        args.datasets = args.datasets[:place]
    refuse_late_options(args.opts)
    return args


if __name__ == "__main__":
    sys.exit(main())
