"""Subcommands with a config: ``train``, ``eval`` and ``proposals``."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence

from maskrcnn_cli.clusters import add_cluster_options, check_cluster
from maskrcnn_cli.parsing import (
    Command,
    Once,
    Parser,
    UsageError,
    count,
    ignored,
    refuse,
    split_pairs,
)

KEY = re.compile(r"[A-Za-z_]\w*(\.\w+)*")
FILES = (".yaml", ".yml", ".json", ".pth", ".py")
"""Ends of words that look like keys and are files."""
DATA_KEYS = {"DATASETS.TRAIN", "DATASETS.TEST"}
"""One of them makes Detectron2's defaults alone a config that can be used."""
OWN_DATA_CONFIG = "mini/own_data.yaml"
"""Base of ``--data``, if none is named."""

TRAIN_EXAMPLES = """
  Train, and draw predictions beside ground truth at the end:
    %(prog)s --config-file mini/mask_rcnn_fpn.yaml

  Own data in COCO format, with a schedule and sizes that suit it, and at most ten minutes:
    %(prog)s --data train.json images/ --val val.json images/
    %(prog)s --data all.json images/ --minutes 10

  Two processes, then carry on after an interruption, then evaluate:
    %(prog)s --config-file mini/mask_rcnn_fpn.yaml --num-gpus 2
    %(prog)s --config-file mini/mask_rcnn_fpn.yaml --num-gpus 2 --resume
    %(prog)s --config-file mini/mask_rcnn_fpn.yaml --eval-only
"""

EVAL_EXAMPLES = """
  The last checkpoint of OUTPUT_DIR; with --resume also where the config names weights to start from:
    %(prog)s --config-file mini/mask_rcnn_fpn.yaml
    %(prog)s --config-file rpn/r50_fpn.yaml --resume

  Weights from elsewhere:
    %(prog)s --config-file mini/mask_rcnn_fpn.yaml MODEL.WEIGHTS model_final.pth

  How AP rose: each checkpoint that the training left on its way:
    %(prog)s --config-file mini/mask_rcnn_fpn.yaml --checkpoints
"""

PROPOSALS_EXAMPLES = """
  The proposals of a trained RPN for the training and test sets of its config:
    %(prog)s --config-file rpn/r50_fpn.yaml MODEL.WEIGHTS output/rpn/r50_fpn/model_final.pth

  Of weights from elsewhere, for one data set:
    %(prog)s --config-file rpn/r50_fpn.yaml --datasets coco_2017_val MODEL.WEIGHTS rpn.pkl
"""


def add_train_options(parser: Parser) -> None:
    """Add the options of Detectron2's training scripts, ``--dataset`` and ``--overlay``, and those of own data."""
    _add_config_options(parser)
    _add_own_data(parser)
    parser.add_argument(
        "--resume", action="store_true", help="continue from the last checkpoint in OUTPUT_DIR"
    )
    parser.add_argument("--eval-only", action="store_true", help="evaluate without training")
    add_cluster_options(parser)
    _add_accept_change(parser)
    # An option of `eval`.
    parser.set_defaults(checkpoints=False)
    _add_process_options(parser)


def add_eval_options(parser: Parser) -> None:
    """Add the options of an evaluation."""
    _add_config_options(parser)
    parser.add_argument(
        "--resume",
        action="store_true",
        help="evaluate the last checkpoint in OUTPUT_DIR, whatever MODEL.WEIGHTS says",
    )
    parser.add_argument(
        "--checkpoints",
        action="store_true",
        help="evaluate each periodic checkpoint in OUTPUT_DIR, in OUTPUT_DIR/inference/checkpoints; pages that "
        "show the training have them in its curve",
    )
    _add_accept_change(parser)
    # One function runs `train` and `eval`.
    parser.set_defaults(eval_only=True, data=None, val=None, minutes=None)
    _add_process_options(parser)


def add_proposals_options(parser: Parser) -> None:
    """Add the options of storing an RPN's proposals."""
    _add_config_options(parser)
    parser.add_argument(
        "--datasets",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME",
        help="registered data sets; by default DATASETS.TRAIN and DATASETS.TEST",
    )
    _add_process_options(parser)


def parse_with_pairs(parser: Parser, words: Sequence[str]) -> argparse.Namespace:
    """Parse options and the ``KEY VALUE`` pairs after them.

    Raises:
        UsageError: no config, an option after the first pair, or wrong arguments.
    """
    args = parser.parse_args(words)
    # `argparse.REMAINDER` takes such an option for a config key.
    late = next((word for word in args.opts if word.startswith("--")), None)
    if late:
        raise UsageError(f"{late} must stand before the first KEY VALUE pair ({args.opts[0]} …).")
    accepted, values = getattr(args, "accept_change", []), dict(split_pairs(args.opts))
    if accepted and None in values.values():
        raise UsageError(
            f"--accept-change takes a key of its own, so that {accepted[-1]} is not one of the KEY VALUE pairs and "
            f"{args.opts[0]} … are none: write --accept-change {accepted[-1]} {accepted[-1]} VALUE."
        )
    if getattr(args, "data", None):
        args.config_file = args.config_file or OWN_DATA_CONFIG
    if not (args.config_file or args.overlay or DATA_KEYS & values.keys()):
        raise UsageError(
            f"--config-file is missing; a small one is {parser.prog} --config-file mini/mask_rcnn_fpn.yaml."
        )
    return args


def _add_own_data(parser: Parser) -> None:
    parser.add_argument(
        "--data",
        action=Once,
        nargs=2,
        metavar=("JSON", "IMAGES"),
        help="train on own COCO-format data; sizes and schedule follow from it, by default over "
        f"{OWN_DATA_CONFIG}; OUTPUT_DIR is by default output/ and the name of the JSON",
    )
    parser.add_argument(
        "--val",
        action=Once,
        nargs=2,
        metavar=("JSON", "IMAGES"),
        help="with --data: evaluate on this; without it a fifth of the images is held out",
    )
    parser.add_argument(
        "--minutes",
        type=count,
        metavar="N",
        help="with --data: as many iterations as fit into N minutes on this machine",
    )


def parse_train(parser: Parser, words: Sequence[str]) -> argparse.Namespace:
    """Parse as :func:`parse_with_pairs`, and keep the words, of which a job of a cluster gets most.

    Raises:
        UsageError: also options of own data without it or beside ``--dataset``, and of a cluster that is not asked for.
    """
    args = parse_with_pairs(parser, words)
    check_cluster(args)
    args.words = list(words)
    if args.data:
        refuse(args, ["dataset"], "--data names what is trained on")
    else:
        refuse(args, ["val", "minutes"], "There is no --data JSON IMAGES")
    return args


def parse_eval(parser: Parser, words: Sequence[str]) -> argparse.Namespace:
    """Parse as :func:`parse_with_pairs`.

    Raises:
        UsageError: also what names one file of weights, beside ``--checkpoints``.
    """
    args = parse_with_pairs(parser, words)
    if args.checkpoints:
        reason = "--checkpoints takes each checkpoint of OUTPUT_DIR"
        refuse(args, ["resume"], reason)
        if "MODEL.WEIGHTS" in dict(split_pairs(args.opts)):
            raise ignored("MODEL.WEIGHTS", reason)
    return args


def _add_config_options(parser: Parser) -> None:
    parser.add_argument(
        "--config-file",
        default="",
        metavar="FILE",
        help="config, as a path or as its name below configs/",
    )
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


def _key(word: str) -> str:
    if not KEY.fullmatch(word) or word.endswith(FILES):
        raise argparse.ArgumentTypeError(f"{word!r} is no key; name one, such as SOLVER.BASE_LR")
    return word


def _add_accept_change(parser: Parser) -> None:
    parser.add_argument(
        "--accept-change",
        type=_key,
        action="append",
        default=[],
        metavar="KEY",
        help="go on although this differs from the checkpoint: a config key, CLASS_NAMES, TRAIN_DATA or "
        "BACKEND; may be given several times",
    )


def _add_process_options(parser: Parser) -> None:
    """Add the number of processes and, behind all options, the pairs."""
    parser.add_argument(
        "--num-gpus",
        type=int,
        default=1,
        metavar="N",
        help="processes on this machine, one per GPU; without GPUs, on the CPU (%(default)s)",
    )
    parser.add_argument(
        "--num-machines", type=int, default=1, metavar="N", help="machines of the run (%(default)s)"
    )
    parser.add_argument(
        "--machine-rank", type=int, default=0, metavar="K", help="which of them this is, from 0"
    )
    # Not a port per user, as in Detectron2: a user's second run on a machine would fail.
    parser.add_argument(
        "--dist-url",
        default="auto",
        metavar="URL",
        help="where the processes meet: tcp://HOST:PORT of machine 0, or auto on one machine",
    )
    parser.add_argument(
        "opts",
        nargs=argparse.REMAINDER,
        metavar="KEY VALUE",
        help="config keys and their values, behind all options: SOLVER.MAX_ITER 4000 SEED 3",
    )


TRAIN = Command(
    name="train",
    summary="Train Mask R-CNN, evaluate it and draw its predictions.",
    example="--config-file mini/mask_rcnn_fpn.yaml",
    runs="maskrcnn_repro.commands.train:run",
    add_options=add_train_options,
    examples=TRAIN_EXAMPLES,
    parse=parse_train,
)
EVAL = Command(
    name="eval",
    summary="Evaluate a trained model.",
    example="--config-file mini/mask_rcnn_fpn.yaml MODEL.WEIGHTS model_final.pth",
    runs="maskrcnn_repro.commands.train:run",
    add_options=add_eval_options,
    examples=EVAL_EXAMPLES,
    parse=parse_eval,
)
PROPOSALS = Command(
    name="proposals",
    summary="Store an RPN's proposals for the data sets of a config and print their recall.",
    example="--config-file rpn/r50_fpn.yaml OUTPUT_DIR output/rpn/r50_fpn",
    runs="maskrcnn_repro.commands.proposals:run",
    add_options=add_proposals_options,
    examples=PROPOSALS_EXAMPLES,
    parse=parse_with_pairs,
)
