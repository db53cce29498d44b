"""Subcommands to look into things: ``draw-sampling`` and ``replay``."""

from pathlib import Path

from maskrcnn_cli.parsing import Command, Parser

DRAW_EXAMPLES = """
  %(prog)s docs/roi_sampling.svg
  %(prog)s roi.html   # an RoI to drag, with the outputs of the three operations
"""


def add_draw_options(parser: Parser) -> None:
    """Add the argument of ``maskrcnn draw-sampling``."""
    parser.add_argument(
        "file",
        type=Path,
        metavar="FILE",
        help="what to write: .svg, .png, or .html, where the RoI can be dragged",
    )


def add_replay_options(parser: Parser) -> None:
    """Add the arguments of ``maskrcnn replay``."""
    parser.add_argument("file", type=Path, metavar="FILE", help="failure/rankN.pth of the training")
    parser.add_argument(
        "--device",
        default="cpu",
        help="to compute on (default cpu); that of the training repeats its bits",
    )


REPLAY = Command(
    name="replay",
    summary="Do a training step again that failed with numbers that are not finite.",
    example="output/mine/failure/rank0.pth",
    runs="maskrcnn_repro.commands.replay:run",
    add_options=add_replay_options,
    examples="\n  %(prog)s output/mine/failure/rank0.pth\n",
)
DRAW_SAMPLING = Command(
    name="draw-sampling",
    summary="Draw where RoIPool, RoIWarp and RoIAlign read the feature map for one RoI.",
    example="docs/roi_sampling.svg",
    runs="maskrcnn_repro.commands.draw_sampling:run",
    add_options=add_draw_options,
    examples=DRAW_EXAMPLES,
)
