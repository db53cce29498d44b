"""The subcommand ``analyze``: where a model errs."""

from pathlib import Path

from maskrcnn_cli.parsing import Command, Parser

EXAMPLES = """
  A run that was evaluated; the page lies beside its results:
    %(prog)s output/mini/mask_rcnn_fpn

  Any COCO file and the results of any program:
    %(prog)s --results results.json --truth val.json --images images/

  Boxes instead of masks, strictly placed, the 50 worst images:
    %(prog)s output/mini/mask_rcnn_fpn --task bbox --iou 0.75 --worst 50 --out boxes.html
"""


def add_options(parser: Parser) -> None:
    """Add the arguments of ``maskrcnn analyze``."""
    parser.add_argument(
        "run", type=Path, nargs="?", metavar="RUN", help="folder of a run with predictions"
    )
    parser.add_argument("--dataset", metavar="NAME", help="of the run; by default its first")
    parser.add_argument(
        "--results", type=Path, metavar="JSON", help="COCO results, instead of a run"
    )
    parser.add_argument("--truth", type=Path, metavar="JSON", help="COCO file that they are for")
    parser.add_argument(
        "--images", type=Path, metavar="DIR", help="its images; without: no pictures"
    )
    parser.add_argument(
        "--task", choices=("bbox", "segm"), help="by default masks where there are some"
    )
    parser.add_argument(
        "--iou", type=float, default=0.5, help="of a match, for errors and pictures (%(default)s)"
    )
    parser.add_argument(
        "--score",
        type=float,
        default=0.5,
        help="least one on pictures and in the confusion matrix (%(default)s)",
    )
    parser.add_argument(
        "--worst", type=int, default=24, metavar="N", help="images to show at most (%(default)s)"
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="the page; by default RUN/evaluation.html"
    )


ANALYZE = Command(
    name="analyze",
    summary="Write a page about where a model errs: kinds of error, their cost in AP, the worst images.",
    example="output/mini/mask_rcnn_fpn",
    runs="maskrcnn_repro.commands.analyze:run",
    add_options=add_options,
    examples=EXAMPLES,
)
