"""The subcommands ``check`` and ``statistics``: what is in COCO files, before anything is trained."""

from pathlib import Path

from maskrcnn_cli.parsing import Command, Parser

EXAMPLES = """
  What training on this file and testing on it would run into:
    %(prog)s train.json images/

  Against the set that is tested on, with the sizes and anchors of a config:
    %(prog)s train.json images/ --val val.json images/ --config-file mini/own_data.yaml

  Decode every image too, and write a copy that trains:
    %(prog)s train.json images/ --full --fix mended.json --html findings.html
"""


def add_options(parser: Parser) -> None:
    """Add the arguments of ``maskrcnn check``."""
    parser.add_argument("file", type=Path, metavar="JSON", help="a COCO file, to train on")
    parser.add_argument("images", type=Path, metavar="IMAGES", help="the folder of its images")
    parser.add_argument(
        "--val",
        nargs=2,
        type=Path,
        metavar=("JSON", "IMAGES"),
        help="a set to test on; checked too",
    )
    parser.add_argument("--test", action="store_true", help="JSON is tested on, not trained on")
    parser.add_argument("--full", action="store_true", help="decode every image; compare pixels")
    parser.add_argument(
        "--fix",
        type=Path,
        metavar="OUT",
        help="write a copy of JSON that trains; JSON stays as it is",
    )
    parser.add_argument("--json", type=Path, metavar="REPORT", help="write all findings as JSON")
    parser.add_argument(
        "--html", type=Path, metavar="PAGE", help="write all findings as a page with thumbnails"
    )
    parser.add_argument(
        "--config-file",
        metavar="FILE",
        help="sizes, anchors and heads, as a path or as its name below configs/ (default: what maskrcnn train --data "
        "chooses for these files)",
    )


CHECK = Command(
    name="check",
    summary="Check a COCO file and its images: what training and evaluation would run into.",
    example="train.json images/ --val val.json images/",
    runs="maskrcnn_repro.commands.check:run",
    add_options=add_options,
    examples=EXAMPLES,
)

STATISTICS_EXAMPLES = """
  A generated set beside a COCO file after the paper's resize:
    %(prog)s small_coco_val annotations/instances_val2017.json@800
"""


def add_statistics_options(parser: Parser) -> None:
    """Add the arguments of ``maskrcnn statistics``."""
    parser.add_argument(
        "sets",
        nargs="+",
        metavar="SET",
        help="a COCO JSON or a registered data set; SET@800 resizes its images to a shorter side of 800 pixels and a "
        "longer one of at most 1333/800 of that",
    )
    parser.add_argument(
        "--cell",
        type=int,
        default=16,
        metavar="PIXELS",
        help="stride of a cell, at most 99999 (%(default)s)",
    )


STATISTICS = Command(
    name="statistics",
    summary="Print numbers, sizes in cells, overlap, truncation and mask fill of data sets, side by side.",
    example="small_coco_val instances_val2017.json@800",
    runs="maskrcnn_repro.commands.statistics:run",
    add_options=add_statistics_options,
    examples=STATISTICS_EXAMPLES,
)
