"""The subcommand ``benchmark``: what is measured, and with which options."""

import sys
from argparse import ArgumentTypeError
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from maskrcnn_cli.parsing import Command, Parser, count

ROI_PARTS = ("c4", "fpn", "contiguous")

EXAMPLES = """
  %(prog)s backend --installed PYTHON_WITH_DETECTRON2 --output backend.json
  %(prog)s inference --installed PYTHON_WITH_DETECTRON2
  %(prog)s training --installed PYTHON_WITH_DETECTRON2
  %(prog)s predict --images PHOTOS
  %(prog)s roi-ops --quick
  %(prog)s paste --masks 100
  %(prog)s scaling --plot scaling.svg
  %(prog)s loading --json COCO/annotations/instances_val2017.json --images COCO/val2017
  %(prog)s loading --start 118000
  %(prog)s evaluation --images 5000
  %(prog)s heads family --quick
  %(prog)s start
  %(prog)s gpu --detectron2 CHECKOUT --output gpu.json
"""


@dataclass(frozen=True)
class Benchmark:
    """A subcommand of ``maskrcnn benchmark``."""

    name: str
    summary: str
    description: str
    add_options: Callable[[Parser], None]
    """Adds its own; all have ``--output``."""


def add_options(parser: Parser) -> None:
    """Add a subcommand for each benchmark, whose name is ``benchmark`` of the parsed arguments."""
    benchmarks = parser.add_subparsers(dest="benchmark", required=True, metavar="BENCHMARK")
    for each in BENCHMARKS:
        own = benchmarks.add_parser(each.name, help=each.summary, description=each.description)
        each.add_options(own)
        own.add_argument("--output", type=Path, help="JSON file for all timings and their origin")


def _add_backend_options(parser: Parser) -> None:
    for name in ("installed", "embedded"):
        parser.add_argument(
            f"--{name}", metavar="PYTHON", default=sys.executable, help="Python to run it with"
        )
    parser.add_argument("--models", nargs="+", default=["R50-FPN", "R50-C4"], metavar="MODEL")
    _add_size(parser)
    parser.add_argument("--pairs", type=count, default=10, help="rounds of measurement")
    parser.add_argument("--threads", type=count, default=1, help="of each process")


def _add_inference_options(parser: Parser) -> None:
    _add_peer_options(parser, "without it, it is left out")
    parser.add_argument(
        "--sizes",
        nargs="+",
        type=_size,
        default=[[800, 1088]],
        metavar="HEIGHTxWIDTH",
        help="of the images of a round, whose mean time counts; torchvision needs one shorter side (default: 800x1088)",
    )
    parser.add_argument(
        "--isa",
        metavar="NAME",
        help="limit oneDNN to these instructions, such as AVX2 (ONEDNN_MAX_CPU_ISA), and all to float32",
    )


def _size(text: str) -> list[int]:
    height, separator, width = text.partition("x")
    if not (separator and height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise ArgumentTypeError(f"{text!r} is not HEIGHTxWIDTH, such as 800x1088")
    return [int(height), int(width)]


def _add_training_options(parser: Parser) -> None:
    _add_peer_options(parser, "without it, the embedded one is the peer")
    _add_size(parser)


def _add_peer_options(parser: Parser, otherwise: str) -> None:
    parser.add_argument(
        "--installed", metavar="PYTHON", help=f"Python with Detectron2; {otherwise}"
    )
    parser.add_argument(
        "--python", metavar="PYTHON", default=sys.executable, help="Python to run the others with"
    )
    parser.add_argument("--models", nargs="+", default=["R50-FPN"], metavar="MODEL")
    _add_rounds(parser, 10)
    parser.add_argument("--threads", type=count, default=2, help="of each process")


def _add_folder_options(parser: Parser) -> None:
    parser.add_argument(
        "--images", type=Path, metavar="FOLDER", help="of photos; without it they are generated"
    )
    parser.add_argument(
        "--model",
        default="R50-FPN",
        help="R50-FPN, R50-C4 and so on with weights of a recipe, or a trained model (without torchvision's)",
    )
    parser.add_argument(
        "--installed", metavar="PYTHON", help="Python with Detectron2; without it, the embedded one"
    )
    parser.add_argument("--count", type=count, default=20, help="images of a round")
    _add_rounds(parser, 10)
    parser.add_argument("--threads", type=count, default=2, help="of each process")


def _add_roi_options(parser: Parser) -> None:
    parser.add_argument("--quick", action="store_true", help="four scenes, a minute")
    parser.add_argument(
        "--only", choices=ROI_PARTS, help="C4 maps, pyramids, or contiguous maps of many sizes"
    )
    _add_rounds(parser, 5)
    parser.add_argument("--threads", type=count, default=2)


def _add_paste_options(parser: Parser) -> None:
    parser.add_argument("--masks", type=count, default=100, help="of each image")
    _add_rounds(parser, 5)
    parser.add_argument("--threads", type=count, default=1)


def _add_scaling_options(parser: Parser) -> None:
    parser.add_argument("--quick", action="store_true", help="small images, two points of a curve")
    parser.add_argument("--rounds", type=count, default=3, help="of each point, after a first")
    parser.add_argument("--threads", type=count, default=1, help="of each process")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="what to draw: .svg or .png")


def _add_loading_options(parser: Parser) -> None:
    parser.add_argument(
        "--installed",
        metavar="PYTHON",
        help="Python with Detectron2; without it, the embedded one's mapper is the peer",
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="COCO JSON (default: the generated mini_coco_val)"
    )
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="its images")
    parser.add_argument("--count", type=count, default=60, help="of images in a round")
    parser.add_argument(
        "--start",
        type=count,
        metavar="IMAGES",
        help="instead, time the start of a training on so many simulated images, with 7.3 objects each (train2017: 118000)",
    )
    parser.add_argument("--workers", type=count, default=4, help="of the data loader (--start)")
    _add_rounds(parser, 10)


def _add_evaluation_options(parser: Parser) -> None:
    parser.add_argument(
        "--installed", metavar="PYTHON", help="Python with Detectron2; without it, it is left out"
    )
    parser.add_argument("--images", type=count, default=5000)
    parser.add_argument("--detections", type=count, default=100_000)
    _add_rounds(parser, 5)


def _add_heads_options(parser: Parser) -> None:
    parser.add_argument(
        "table",
        nargs="?",
        default="family",
        metavar="TABLE",
        help="its id, or a plug-in's file (family)",
    )
    parser.add_argument(
        "--rows", nargs="+", action="extend", default=[], metavar="ROW", help="only these"
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="time smaller images and steps of fewer RoIs; sizes and two iterations stay those of full size",
    )
    _add_rounds(parser, 5)
    parser.add_argument("--threads", type=count, default=2, help="of each process")


def _add_start_options(parser: Parser) -> None:
    parser.add_argument(
        "--installed", metavar="PYTHON", help="Python with Detectron2; without it, it is left out"
    )
    _add_rounds(parser, 10)


def _add_gpu_options(parser: Parser) -> None:
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N, or cpu with --tiny")
    parser.add_argument(
        "--tiny", action="store_true", help="small enough for a CPU; times say nothing"
    )
    parser.add_argument(
        "--detectron2",
        metavar="CHECKOUT",
        help="folder of an importable Detectron2; without it torchvision alone",
    )
    parser.add_argument(
        "--python", default=sys.executable, help="that runs Detectron2 (default: this one)"
    )
    _add_rounds(parser, 10)


def _add_size(parser: Parser) -> None:
    parser.add_argument(
        "--size", nargs=2, type=count, default=[800, 1088], metavar=("HEIGHT", "WIDTH")
    )


def _add_rounds(parser: Parser, default: int) -> None:
    parser.add_argument(
        "--rounds", type=count, default=default, help="of measurement, after a first"
    )


BENCHMARKS = (
    Benchmark(
        "backend",
        "embedded against installed Detectron2",
        "The embedded Detectron2 against an installed one: time of a training step and of "
        "inference, and memory.",
        _add_backend_options,
    ),
    Benchmark(
        "inference",
        "our fast path against torchvision and Detectron2",
        "Our inference on the CPU against torchvision's and an installed Detectron2's, each as it comes "
        "and with bfloat16 and channels-last memory. Ratios are theirs over ours: above 1 ours is faster.",
        _add_inference_options,
    ),
    Benchmark(
        "training",
        "our training step against Detectron2's",
        "A training step of one image on the CPU, ours against an installed Detectron2's, each in float32 "
        "and in bfloat16. Ratios are theirs over ours: above 1 ours is faster.",
        _add_training_options,
    ),
    Benchmark(
        "predict",
        "a folder of photos by Predictor, with overlays, and by the peers",
        "Images per second over a folder of photos: our model alone, Predictor, Predictor with overlays "
        "written as by maskrcnn predict, Detectron2's DefaultPredictor and torchvision's model in a loop. Ratios are "
        "their time over Predictor's.",
        _add_folder_options,
    ),
    Benchmark(
        "roi-ops",
        "our RoI operations against torchvision's",
        "Our RoI operations against torchvision's in time and memory. Ratios of time are torchvision's over "
        "ours: above 1 ours is faster; ratios of memory are ours over torchvision's: below 1 ours takes less.",
        _add_roi_options,
    ),
    Benchmark(
        "paste",
        "masks to RLE against Detectron2's",
        "Masks from their boxes to RLE, against Detectron2's pasting and encoding. Ratios "
        "are their time over ours: above 1 ours is faster.",
        _add_paste_options,
    ),
    Benchmark(
        "scaling",
        "what prediction costs against image size, RoIs, classes, batch and processes",
        "Time and peak memory of our inference along five axes, and torchvision's along two, as one "
        "table and one plot; each line names the operator that takes most of the time.",
        _add_scaling_options,
    ),
    Benchmark(
        "loading",
        "our mapper of training images against Detectron2's",
        "Images from their files to training samples: our mapper, as it comes and with INPUT.RESIZE "
        "torch, against Detectron2's. Ratios are theirs over ours: above 1 ours is faster.",
        _add_loading_options,
    ),
    Benchmark(
        "evaluation",
        "COCO's AP against pycocotools and Detectron2",
        "COCO's AP of generated detections in val2017's proportions: ours against pycocotools and "
        "Detectron2. Ratios are theirs over ours: above 1 ours is faster.",
        _add_evaluation_options,
    ),
    Benchmark(
        "heads",
        "what the rows of a table cost beside its baseline",
        "Of each row's model at full size, with made-up weights: parameters, multiply-adds, two iterations, time and peak "
        "memory of an image and of a training step beside the baseline's, and lines of code. Ratios are its time over the "
        "baseline's: above 1 it is slower.",
        _add_heads_options,
    ),
    Benchmark(
        "start",
        "--help and import against torch's own",
        "From the start of a process to its end: --help, and the import against that of torch and "
        "torchvision alone.",
        _add_start_options,
    ),
    Benchmark(
        "gpu",
        "kernels and models on a GPU, beside torchvision and Detectron2",
        "On a GPU: the Triton kernels against torch's form, then inference and training of Mask "
        "R-CNN R50-FPN beside torchvision's and Detectron2's. No network is needed. Ratios are speeds over "
        "a peer's: above 1 ours is faster.",
        _add_gpu_options,
    ),
)
BENCHMARK = Command(
    name="benchmark",
    summary="Measure speed and memory; run it on a quiet machine.",
    example="roi-ops --quick",
    runs="maskrcnn_repro.commands.benchmark:run",
    add_options=add_options,
    examples=EXAMPLES,
)
