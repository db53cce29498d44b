"""The subcommand ``predict``: a trained model on pictures, videos and a camera."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from maskrcnn_cli.parsing import (
    Command,
    Parser,
    UsageError,
    add_device,
    add_model,
    add_tiles,
    count,
    distance,
    fraction,
)

EXAMPLES = """
  Pictures with their objects drawn, and a COCO file with them, in predictions/:
    %(prog)s output/mine photos/

  Some files of a folder, two classes, surer detections:
    %(prog)s output/mine "photos/*.jpg" --classes person dog --threshold 0.8

  Annotations to correct by hand in a labelling tool:
    %(prog)s output/mine photos/ --format cvat --no-overlays

  A video, or the first camera until Ctrl-C:
    %(prog)s output/mine clip.mp4 --out drawn
    %(prog)s output/mine --camera 0
"""


def add_options(parser: Parser) -> None:
    """Add the arguments of ``maskrcnn predict``."""
    add_model(parser)
    parser.add_argument(
        "inputs",
        nargs="*",
        metavar="INPUT",
        help="image, video, folder (with those below it), or pattern in quotes",
    )
    parser.add_argument(
        "--camera", type=number, metavar="N", help="read from a camera; 0 is the first"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("predictions"),
        metavar="DIR",
        help="folder of everything that is written (default: %(default)s)",
    )
    _add_model_options(parser)
    _add_writing_options(parser)


def _add_model_options(parser: Parser) -> None:
    parser.add_argument(
        "--threshold",
        type=fraction,
        metavar="SCORE",
        help="least score of a detection (default: 0.5, or the least that an exported file knows)",
    )
    parser.add_argument(
        "--classes", nargs="+", action="extend", metavar="NAME", help="keep these classes alone"
    )
    add_device(parser)
    parser.add_argument(
        "--precision",
        default="auto",
        help="float32, as in an evaluation, bfloat16, float16, or auto: the fast path, in bfloat16 where the processor "
        "computes in it (default: %(default)s)",
    )
    parser.add_argument(
        "--batch", type=count, default=1, metavar="N", help="images at once (default: %(default)s)"
    )
    parser.add_argument(
        "--tta", action="store_true", help="average several sizes and mirror images of each image"
    )
    add_tiles(parser)
    parser.add_argument(
        "--pixel-range",
        nargs=2,
        type=float,
        metavar=("BLACK", "WHITE"),
        help="values of grey images of more than 8 bits, such as 0 4095",
    )
    parser.add_argument(
        "--frames", type=count, metavar="N", help="stop each video after this many frames"
    )


def _add_writing_options(parser: Parser) -> None:
    parser.add_argument(
        "--format",
        choices=("coco", "labelme", "cvat", "labelstudio", "panoptic"),
        default="coco",
        help="of the annotations (default: %(default)s)",
    )
    parser.add_argument(
        "--shapes",
        choices=("masks", "polygons"),
        help="of the annotations (default: masks for coco, polygons for the others)",
    )
    parser.add_argument(
        "--tolerance",
        type=distance,
        metavar="PIXELS",
        help="how far a polygon may run from the edge of its mask; 0 keeps every corner (default: 1)",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace annotations for labelme, cvat or labelstudio that were corrected in DIR",
    )
    parser.add_argument(
        "--json", type=Path, metavar="PATH", help="write the COCO file here, with any --format"
    )
    parser.add_argument("--no-overlays", action="store_true", help="draw no pictures")
    parser.add_argument(
        "--colors",
        choices=("classes", "objects"),
        help="what has a colour of its own (default: classes in images, objects in videos)",
    )


def number(word: str) -> int:
    """Parse an integer from 0 on: the ``type`` of an option."""
    if not word.isdecimal():
        raise argparse.ArgumentTypeError(f"{word!r} is no number from 0 upwards")
    return int(word)


def parse(parser: Parser, words: Sequence[str]) -> argparse.Namespace:
    """Parse the words of a command line; raise UsageError without anything to look at."""
    # Intermixed: options may stand between MODEL and the inputs.
    args = parser.parse_intermixed_args(words)
    if not args.inputs and args.camera is None:
        raise UsageError(f"Name images, videos or folders, or a camera (see {parser.prog} --help).")
    return args


PREDICT = Command(
    name="predict",
    summary="Find objects in images, videos or a camera: pictures, and annotations as COCO or for labelling tools.",
    example="output/mine photos/",
    runs="maskrcnn_repro.commands.predict:run",
    add_options=add_options,
    examples=EXAMPLES,
    parse=parse,
)
