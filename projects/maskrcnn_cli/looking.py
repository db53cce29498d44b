"""Subcommands to look into things: ``draw-sampling``, ``replay`` and ``benchmark``."""

import sys
from pathlib import Path

from maskrcnn_cli.parsing import Command, Parser

ROI_PARTS = ("c4", "fpn", "contiguous")

BENCHMARK_EXAMPLES = """
  %(prog)s backend --installed PYTHON_WITH_DETECTRON2 --output backend.json
  %(prog)s inference --installed PYTHON_WITH_DETECTRON2
  %(prog)s roi-ops --quick
  %(prog)s paste --masks 100
  %(prog)s scaling --plot scaling.svg
  %(prog)s loading --json COCO/annotations/instances_val2017.json --images COCO/val2017
  %(prog)s evaluation --images 5000
  %(prog)s start
  %(prog)s gpu --detectron2 CHECKOUT --output gpu.json
"""

DRAW_EXAMPLES = """
  %(prog)s docs/roi_sampling.svg
"""


def add_benchmark_options(parser: Parser) -> None:
    """Add a subcommand for each benchmark, whose name is ``benchmark`` of the parsed arguments."""
    benchmarks = parser.add_subparsers(dest="benchmark", required=True, metavar="BENCHMARK")
    _add_backend_options(
        benchmarks.add_parser(
            "backend",
            help="embedded against installed Detectron2",
            description="The embedded Detectron2 against an installed one: time of a training step and of "
            "inference, and memory.",
        )
    )
    _add_inference_options(
        benchmarks.add_parser(
            "inference",
            help="our fast path against torchvision and Detectron2",
            description="Our inference on the CPU against torchvision's and an installed Detectron2's, each as it comes "
            "and with bfloat16 and channels-last memory. Ratios are theirs over ours: above 1 ours is faster.",
        )
    )
    _add_roi_options(
        benchmarks.add_parser(
            "roi-ops",
            help="our RoI operations against torchvision's",
            description="Our RoI operations against torchvision's in time and memory. Ratios are "
            "torchvision's over ours: above 1 ours takes less.",
        )
    )
    _add_paste_options(
        benchmarks.add_parser(
            "paste",
            help="masks to RLE against Detectron2's",
            description="Masks from their boxes to RLE, against Detectron2's pasting and encoding. Ratios "
            "are theirs over ours: above 1 ours takes less.",
        )
    )
    _add_scaling_options(
        benchmarks.add_parser(
            "scaling",
            help="what prediction costs against image size, RoIs, classes, batch and processes",
            description="Time and peak memory of our inference along five axes, and torchvision's along two, as one "
            "table and one plot; each line names the operator that takes most of the time.",
        )
    )
    _add_loading_options(
        benchmarks.add_parser(
            "loading",
            help="our mapper of training images against Detectron2's",
            description="Images from their files to training samples: our mapper, as it comes and with INPUT.RESIZE "
            "torch, against Detectron2's. Ratios are theirs over ours: above 1 ours is faster.",
        )
    )
    _add_evaluation_options(
        benchmarks.add_parser(
            "evaluation",
            help="COCO's AP against pycocotools and Detectron2",
            description="COCO's AP of generated detections in val2017's proportions: ours against pycocotools and "
            "Detectron2. Ratios are theirs over ours: above 1 ours is faster.",
        )
    )
    _add_start_options(
        benchmarks.add_parser(
            "start",
            help="--help and import against torch's own",
            description="From the start of a process to its end: --help, and the import against that of torch and "
            "torchvision alone.",
        )
    )
    _add_gpu_options(
        benchmarks.add_parser(
            "gpu",
            help="kernels and models on a GPU, beside torchvision and Detectron2",
            description="On a GPU: the Triton kernels against torch's form, then inference and training of Mask "
            "R-CNN R50-FPN beside torchvision's and Detectron2's. No network is needed. Ratios are speeds over "
            "a peer's: above 1 ours is faster.",
        )
    )


def _add_backend_options(parser: Parser) -> None:
    for name in ("installed", "embedded"):
        parser.add_argument(
            f"--{name}", metavar="PYTHON", default=sys.executable, help="Python to run it with"
        )
    parser.add_argument("--models", nargs="+", default=["R50-FPN", "R50-C4"], metavar="MODEL")
    parser.add_argument(
        "--size", nargs=2, type=int, default=[800, 1088], metavar=("HEIGHT", "WIDTH")
    )
    parser.add_argument("--pairs", type=int, default=10, help="rounds of measurement")
    parser.add_argument("--threads", type=int, default=1, help="of each process")
    _add_output(parser)


def _add_inference_options(parser: Parser) -> None:
    parser.add_argument(
        "--installed", metavar="PYTHON", help="Python with Detectron2; without it, it is left out"
    )
    parser.add_argument(
        "--python", metavar="PYTHON", default=sys.executable, help="Python to run the others with"
    )
    parser.add_argument("--models", nargs="+", default=["R50-FPN"], metavar="MODEL")
    parser.add_argument(
        "--size", nargs=2, type=int, default=[800, 1088], metavar=("HEIGHT", "WIDTH")
    )
    parser.add_argument("--rounds", type=int, default=10, help="of measurement, after a first")
    parser.add_argument("--threads", type=int, default=2, help="of each process")
    parser.add_argument(
        "--isa",
        metavar="NAME",
        help="limit oneDNN to these instructions, such as AVX2 (ONEDNN_MAX_CPU_ISA), and all to float32",
    )
    _add_output(parser)


def _add_roi_options(parser: Parser) -> None:
    parser.add_argument("--quick", action="store_true", help="four scenes, a minute")
    parser.add_argument(
        "--only", choices=ROI_PARTS, help="C4 maps, pyramids, or contiguous maps of many sizes"
    )
    parser.add_argument("--rounds", type=int, default=5, help="of measurement, after a first")
    parser.add_argument("--threads", type=int, default=2)
    _add_output(parser)


def _add_paste_options(parser: Parser) -> None:
    parser.add_argument("--masks", type=int, default=100, help="of each image")
    parser.add_argument("--rounds", type=int, default=3, help="of measurement, after a first")
    parser.add_argument("--threads", type=int, default=1)
    _add_output(parser)


def _add_scaling_options(parser: Parser) -> None:
    parser.add_argument("--quick", action="store_true", help="small images, two points of a curve")
    parser.add_argument("--rounds", type=int, default=3, help="of each point, after a first")
    parser.add_argument("--threads", type=int, default=1, help="of each process")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="what to draw: .svg or .png")
    _add_output(parser)


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
    parser.add_argument("--count", type=int, default=60, help="of images in a round")
    parser.add_argument("--rounds", type=int, default=10, help="of measurement, after a first")
    _add_output(parser)


def _add_evaluation_options(parser: Parser) -> None:
    parser.add_argument(
        "--installed", metavar="PYTHON", help="Python with Detectron2; without it, it is left out"
    )
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--detections", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3, help="of measurement, after a first")
    _add_output(parser)


def _add_start_options(parser: Parser) -> None:
    parser.add_argument(
        "--installed", metavar="PYTHON", help="Python with Detectron2; without it, it is left out"
    )
    parser.add_argument("--rounds", type=int, default=10, help="of measurement, after a first")
    _add_output(parser)


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
    parser.add_argument("--rounds", type=int, default=10, help="of measurement, after a first")
    _add_output(parser)


def _add_output(parser: Parser) -> None:
    parser.add_argument("--output", type=Path, help="JSON file for all timings and their origin")


def add_draw_options(parser: Parser) -> None:
    """Add the argument of ``maskrcnn draw-sampling``."""
    parser.add_argument("file", type=Path, metavar="FILE", help="what to write: .svg or .png")


def add_replay_options(parser: Parser) -> None:
    """Add the arguments of ``maskrcnn replay``."""
    parser.add_argument("file", type=Path, metavar="FILE", help="failure/rankN.pth of the training")
    parser.add_argument(
        "--device",
        default="cpu",
        help="to compute on (default cpu); that of the training repeats its bits",
    )


BENCHMARK = Command(
    name="benchmark",
    summary="Measure speed and memory; run it on a quiet machine.",
    example="roi-ops --quick",
    runs="maskrcnn_repro.commands.benchmark:run",
    add_options=add_benchmark_options,
    examples=BENCHMARK_EXAMPLES,
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
