"""The subcommand ``check``: a COCO file and its images, before anything is trained."""

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
