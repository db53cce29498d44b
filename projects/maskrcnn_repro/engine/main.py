"""The command line: ``python train_net.py`` in a checkout, ``maskrcnn-train`` once installed."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from maskrcnn_repro.config import load_config
from maskrcnn_repro.engine.launch import Processes, launch
from maskrcnn_repro.engine.resolve import resolve_device
from maskrcnn_repro.engine.run import run
from maskrcnn_repro.engine.trainer import Trainer, name_of
from maskrcnn_repro.errors import ConfigError
from maskrcnn_repro.utils.command_line import exit_status

from detectron2.config import CfgNode
from detectron2.engine import default_argument_parser

EXAMPLES = """
examples:
  Train, and draw predictions beside ground truth at the end:
    %(prog)s --config-file configs/mini/mask_rcnn_fpn.yaml

  Own data in COCO format:
    %(prog)s --config-file configs/mini/own_data.yaml \\
        --dataset cells_train train.json images/ --dataset cells_val val.json images/ \\
        DATASETS.TRAIN "('cells_train',)" DATASETS.TEST "('cells_val',)"

  Two processes, then carry on after an interruption, then evaluate:
    %(prog)s --config-file configs/mini/mask_rcnn_fpn.yaml --num-gpus 2
    %(prog)s --config-file configs/mini/mask_rcnn_fpn.yaml --num-gpus 2 --resume
    %(prog)s --config-file configs/mini/mask_rcnn_fpn.yaml --eval-only
"""


def main(argv: Sequence[str] | None = None, trainer: type[Trainer] | None = None) -> int:
    """Train or evaluate as the command line says.

    Args:
        argv: the arguments without the program's name; by default the process's own.
        trainer: a subclass of :class:`Trainer` at the top of its module, in place of the config's ``TRAINER``.

    Returns:
        The exit status: 0, or 2 after a user's error, which is told in one sentence on stderr.
    """

    def start() -> None:
        args = parse(argv)
        cfg = config_from(args)
        if trainer is not None:
            cfg.TRAINER = name_of(trainer)
        launch(run, processes_of(args, cfg), (cfg, args.resume, args.eval_only))

    return exit_status(start)


def processes_of(args: argparse.Namespace, cfg: CfgNode) -> Processes:
    """Return the processes that a parsed command line asks for."""
    return Processes(
        device=cfg.MODEL.DEVICE,
        per_machine=args.num_gpus,
        machines=args.num_machines,
        machine_rank=args.machine_rank,
        dist_url=args.dist_url,
    )


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse a command line: Detectron2's options, ``--dataset``, then ``KEY VALUE`` pairs.

    Raises:
        ConfigError: an option stands behind the first ``KEY VALUE`` pair, or two exclude each other.
    """
    parser = default_argument_parser(EXAMPLES)
    parser.description = "Train or evaluate Mask R-CNN."
    add_config_options(parser)
    # Detectron2 derives one port from the user's id, so a user's second run on a machine fails.
    parser.set_defaults(dist_url="auto")
    args = parser.parse_args(argv)
    refuse_late_options(args.opts)
    return args


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--dataset`` and ``--overlay``, which :func:`config_from` reads."""
    parser.add_argument(
        "--dataset",
        nargs=3,
        action="append",
        default=[],
        metavar=("NAME", "JSON", "IMAGES"),
        help="register own COCO-format data under NAME; may be given several times",
    )
    parser.add_argument(
        "--overlay",
        action="append",
        default=[],
        metavar="FILE",
        help="lay this YAML over the config file, such as a level's sizes; may be given several times",
    )


def refuse_late_options(opts: Sequence[str]) -> None:
    """Raise ConfigError if an option stands among the ``KEY VALUE`` pairs."""
    late = next((word for word in opts if word.startswith("--")), None)
    if late:
        raise ConfigError(f"{late} must stand before the first KEY VALUE pair ({opts[0]} …).")


def config_from(args: argparse.Namespace) -> CfgNode:
    """Return the config of a parsed command line, with the device resolved.

    Raises:
        ConfigError: see :func:`maskrcnn_repro.config.load_config`; or the device does not exist.
    """
    cfg = load_config(args.config_file, args.opts, overlays=args.overlay)
    own = [(name, str(Path(json)), str(Path(images))) for name, json, images in args.dataset]
    cfg.DATASETS.CUSTOM = (*cfg.DATASETS.CUSTOM, *own)
    cfg.MODEL.DEVICE = resolve_device(cfg.MODEL.DEVICE)
    return cfg


if __name__ == "__main__":
    sys.exit(main())
